import { describe, expect, it } from '@jest/globals';

import { readIdentityProviders } from './identity-providers.options.js';
import { OAuth2Provider } from './oauth2.provider.js';

const CLIENT = { clientId: 'client', clientSecret: 'secret' };
const PAGE = 'https://host.example/callback';

describe('The redirect URIs of the providers', () => {
  const other = { ...CLIENT, issuer: 'https://other.example' };

  it('are one for each provider, because they tell who answers', () => {
    const { faults } = readIdentityProviders({
      github: { ...CLIENT, redirectUri: PAGE },
      other: { ...other, redirectUri: PAGE },
    });
    expect(faults).toEqual([
      'identityProviders.other.redirectUri must differ from that of "github", because it tells who answers',
    ]);
  });

  it('are compared with those of provider objects', () => {
    const provider = new OAuth2Provider({ ...other, clientAuthentication: 'client_secret_basic', redirectUri: PAGE });
    const { faults } = readIdentityProviders({ provider, github: { ...CLIENT, redirectUri: PAGE } });
    expect(faults).toHaveLength(1);
  });

  it('can differ in the path or in the query, and can be missing', () => {
    const { faults } = readIdentityProviders({
      github: { ...CLIENT, redirectUri: `${PAGE}/github` },
      other: { ...other, redirectUri: `${PAGE}?of=other` },
      gitlab: CLIENT,
      bitbucket: CLIENT,
    });
    expect(faults).toEqual([]);
  });
});
