import { afterAll, beforeAll, beforeEach, describe, expect, it, jest } from '@jest/globals';

import {
  KeycloakMisconfiguredError,
  KeycloakSessionExpiredError,
  ReauthenticationRequiredError,
  type RefreshOwner,
  TokensConfigurationError,
  TokensNotFoundError,
} from '../src/index.js';
import { RefreshFlights } from '../src/refresh/refresh-flights.js';
import { failureOf, type KeycloakHost, KeycloakSurroundings } from './support/keycloak-host.js';
import { everythingPrinted } from './support/secrets.js';
import { until } from './support/until.js';

const around = new KeycloakSurroundings();
const { keycloak } = around;
const ada = () => keycloak.users.ada.id;
const adaAtAcme = () => keycloak.users.ada.acmeId ?? '';
let host: KeycloakHost;

beforeAll(async () => {
  await around.start();
  host = await around.startHost();
});

afterAll(async () => {
  await around.stop();
});

beforeEach(async () => {
  await around.reset();
});

async function expectNothingStored(): Promise<void> {
  await expect(around.database.query('SELECT FROM offline_tokens')).resolves.toEqual([]);
  await expect(around.database.query('SELECT FROM auth_tokens')).resolves.toEqual([]);
  expect(keycloak.redemptions).toBe(0);
  expect(around.asked('/broker/')).toBe(0);
}

describe.each([true, false])(
  'With a Keycloak that lets every client introspect every token: %s',
  (introspectsForAll) => {
    beforeEach(() => {
      keycloak.introspectsForAll = introspectsForAll;
    });

    it('the offline token of another client is refused, and nothing is stored or redeemed', async () => {
      const { refreshToken } = await around.logIn('ada', 'openid offline_access', 'other');
      const failure = await failureOf(host.manager.getIdpTokenFromOfflineToken(refreshToken, 'acme'));
      expect(failure).toBeInstanceOf(KeycloakSessionExpiredError);
      expect(everythingPrinted(failure)).not.toContain(refreshToken);
      if (introspectsForAll) expect(String(failure)).toMatch(/issued to another client, not to client "backend"/);
      await expectNothingStored();
    });

    it('the refresh token of another client is refused as well', async () => {
      const { refreshToken } = await around.logIn('ada', 'openid', 'other');
      const call = host.manager.getIdpTokenFromOfflineToken(refreshToken, 'acme');
      await expect(call).rejects.toThrow(KeycloakSessionExpiredError);
      await expectNothingStored();
    });

    it('the offline token of another client does not open tokens that are stored here', async () => {
      await host.manager.storeIdpTokens(ada(), 'acme', { accessToken: 'stored' });
      const { refreshToken } = await around.logIn('ada', 'openid offline_access', 'other');
      const call = host.manager.getIdpTokenFromOfflineToken(refreshToken, 'acme');
      await expect(call).rejects.toThrow(KeycloakSessionExpiredError);
    });
  },
);

describe('The stored offline token of another client', () => {
  it('is a fault of the options, and not an active token', async () => {
    keycloak.introspectsForAll = true;
    const { refreshToken } = await around.logIn('ada', 'openid offline_access', 'other');
    await host.manager.storeOfflineToken(ada(), refreshToken);
    const failure = await failureOf(host.manager.checkOfflineTokenIsActive(ada()));
    expect(failure).toBeInstanceOf(KeycloakMisconfiguredError);
    expect(String(failure)).toMatch(/was issued to client "other", but the options name client "backend"/);
    expect(keycloak.redemptions).toBe(0);
  });
});

describe('A token that is bound to a key of its holder', () => {
  const BINDINGS = [{ jkt: 'thumbprint' }, { 'x5t#S256': 'thumbprint' }];

  it.each(BINDINGS)('is no bearer token for getIdpTokenForAccessToken and importIdpTokens: %j', async (cnf) => {
    const { accessToken } = await around.logIn('ada', 'openid', 'backend', cnf);
    for (const call of [
      () => host.manager.getIdpTokenForAccessToken(accessToken, 'acme'),
      () => host.manager.importIdpTokens(ada(), 'acme', accessToken),
    ]) {
      const failure = await failureOf(call());
      expect(failure).toBeInstanceOf(KeycloakSessionExpiredError);
      expect(String(failure)).toMatch(/bound to a key of its holder \(claim "cnf"\)/);
    }
    await expectNothingStored();
  });

  it.each(BINDINGS)('is refused as an offline token: %j', async (cnf) => {
    const { refreshToken } = await around.logIn('ada', 'openid offline_access', 'backend', cnf);
    const failure = await failureOf(host.manager.getIdpTokenFromOfflineToken(refreshToken, 'acme'));
    expect(failure).toBeInstanceOf(KeycloakSessionExpiredError);
    expect(String(failure)).toMatch(/offline token is bound to a key of its holder/);
    await expectNothingStored();
  });
});

describe('The user of a webhook', () => {
  it('is the one whose account is linked, whatever the attributes say', async () => {
    const { local } = keycloak.users;
    Object.assign(keycloak.attributes, { [local.id]: { acme_id: [adaAtAcme()] } });
    await expect(host.users.getUserIdFromIdpUserId(adaAtAcme(), 'acme')).resolves.toBe(ada());
    await expect(host.users.getUserIdFromIdpUserId(adaAtAcme(), 'nope')).resolves.toBeNull();
    await expect(host.users.getUserIdFromIdpUserId('nobody', 'acme')).resolves.toBeNull();
    const asked = keycloak.searches.filter((search) => search.includes('idpUserId='));
    expect(asked).toHaveLength(3);
    for (const search of asked) expect(search).toMatch(/idpAlias=\w+&idpUserId=/);
  });

  it('is found by an attribute only if the options name one, and then not if two users have it', async () => {
    const { local, unreadable } = keycloak.users;
    const byAttribute = (await around.startHost({ idpUserIdAttribute: '{idp}_id' })).users;
    Object.assign(keycloak.attributes, { [local.id]: { acme_id: ['7'] } });
    await expect(byAttribute.getUserIdFromIdpUserId('7', 'acme')).resolves.toBe(local.id);
    await expect(host.users.getUserIdFromIdpUserId('7', 'acme')).resolves.toBeNull();
    Object.assign(keycloak.attributes, { [unreadable.id]: { acme_id: ['7'] } });
    await expect(byAttribute.getUserIdFromIdpUserId('7', 'acme')).resolves.toBeNull();
  });

  it.each(['acme_id', '', 7])(
    'is not found by the attribute %j, which names no provider',
    async (idpUserIdAttribute) => {
      const boot = around.startHost({ idpUserIdAttribute: idpUserIdAttribute as string });
      await expect(boot).rejects.toThrow(TokensConfigurationError);
      await expect(boot).rejects.toThrow(/keycloak\.idpUserIdAttribute must contain \{idp\}/);
    },
  );

  it('is none if two accounts have the link', async () => {
    Object.assign(keycloak.links, { [keycloak.users.local.id]: adaAtAcme() });
    await expect(host.users.getUserIdFromIdpUserId(adaAtAcme(), 'acme')).resolves.toBeNull();
  });

  it.each([false, true])(
    'is found where the links are hidden, unless the search ignores the parameters (%s)',
    async (ignoresLinks) => {
      Object.assign(keycloak, { hidesLinks: true, ignoresLinks, realmSize: 1 });
      const found = host.users.getUserIdFromIdpUserId(adaAtAcme(), 'acme');
      await expect(found).resolves.toBe(ignoresLinks ? null : ada());
    },
  );

  it.each([1, 2, 3])(
    'is not any user of a server that ignores the parameters, in a realm of %d users',
    async (size) => {
      keycloak.ignoresLinks = true;
      keycloak.realmSize = size;
      await expect(host.users.getUserIdFromIdpUserId('nobody', 'acme')).resolves.toBeNull();
      await expect(host.users.getUserIdFromIdpUserId(adaAtAcme(), 'nope')).resolves.toBeNull();
      await expect(host.manager.getIdpTokenFromIdpUserId('nobody', 'acme')).rejects.toThrow(TokensNotFoundError);
    },
  );
});

describe.each<RefreshOwner>(['module', 'keycloak'])('A stored token, with the refresh owner %s', (refreshOwner) => {
  let owned: KeycloakHost;

  beforeAll(async () => {
    owned = await around.startHost({ refreshOwner });
  });

  it('is returned to every webhook call without a redemption', async () => {
    const { refreshToken } = await around.logIn('ada', 'openid offline_access');
    await owned.manager.storeOfflineToken(ada(), refreshToken);
    await owned.manager.storeIdpTokens(ada(), 'acme', { accessToken: 'stored' });
    for (let call = 0; call < 5; call++) {
      await expect(owned.manager.getIdpTokenFromIdpUserId(adaAtAcme(), 'acme')).resolves.toMatchObject({
        accessToken: 'stored',
      });
      const stored = (await owned.manager.loadOfflineToken(ada())) ?? '';
      await expect(owned.manager.getIdpTokenFromOfflineToken(stored, 'acme')).resolves.toMatchObject({
        accessToken: 'stored',
      });
    }
    expect(keycloak.redemptions).toBe(0);
    expect(around.asked('/introspect')).toBe(5); // this authenticates the caller
  });

  it('is imported by one redemption, and then returned without one', async () => {
    const { refreshToken } = await around.logIn('ada', 'openid offline_access');
    await owned.manager.storeOfflineToken(ada(), refreshToken);
    for (let call = 0; call < 5; call++) await owned.manager.getIdpTokenFromIdpUserId(adaAtAcme(), 'acme');
    expect({ redemptions: keycloak.redemptions, broker: around.asked('/broker/') }).toEqual({
      redemptions: 1,
      broker: 1,
    });
  });

  it('is imported by one redemption for callers that come at the same time', async () => {
    const { refreshToken } = await around.logIn('ada', 'openid offline_access');
    await owned.manager.storeOfflineToken(ada(), refreshToken);
    const calls = Array.from({ length: 20 }, () => owned.manager.getIdpTokenFromIdpUserId(adaAtAcme(), 'acme'));
    const versions = (await Promise.all(calls)).map(({ version }) => version);
    expect(new Set(versions).size).toBe(1);
    expect(around.asked('/broker/')).toBe(1);
  });

  it('does not keep a given offline token from being stored', async () => {
    await owned.manager.storeIdpTokens(ada(), 'acme', { accessToken: 'stored' });
    const { refreshToken } = await around.logIn('ada', 'openid offline_access');
    await owned.manager.getIdpTokenFromOfflineToken(refreshToken, 'acme');
    await expect(owned.manager.loadOfflineToken(ada())).resolves.toBe(refreshToken);
    expect(keycloak.redemptions).toBe(0);
  });

  it('is not given to a caller whose offline token is not active', async () => {
    await owned.manager.storeIdpTokens(ada(), 'acme', { accessToken: 'stored' });
    const call = owned.manager.getIdpTokenFromOfflineToken('garbage', 'acme');
    await expect(call).rejects.toThrow(KeycloakSessionExpiredError);
  });

  it('that is stale is refreshed by its owner', async () => {
    const issued = await around.logIn('ada', 'openid offline_access');
    await owned.manager.storeOfflineToken(ada(), issued.refreshToken);
    await owned.manager.importIdpTokens(ada(), 'acme', issued.accessToken);
    await around.database.query('UPDATE auth_tokens SET access_token_expires_at = 1');
    await keycloak.logInAtProvider(3601);
    keycloak.requests.length = 0;
    const { accessToken } = await owned.manager.getIdpTokenFromIdpUserId(adaAtAcme(), 'acme');
    const isByKeycloak = refreshOwner === 'keycloak';
    expect(accessToken === keycloak.brokered.accessToken).toBe(isByKeycloak);
    expect(keycloak.redemptions).toBe(isByKeycloak ? 1 : 0);
    expect(around.asked('/broker/')).toBe(isByKeycloak ? 1 : 0);
  });
});

describe('A token that the module is refreshing', () => {
  it('is waited for, and not imported from the broker', async () => {
    const { accessToken } = await around.logIn('ada');
    const stale = { accessToken: 'stale', refreshToken: 'unspent', accessTokenExpiresAt: 1 };
    await host.manager.storeIdpTokens(ada(), 'acme', stale);
    let answer: (() => void) | undefined;
    const asked = new Promise<void>((resolve) => {
      around.endpoint.answer = () => {
        resolve();
        return new Promise((ended) => {
          answer = () => {
            ended({ body: { access_token: 'refreshed', expires_in: 3600 } });
          };
        });
      };
    });
    const first = host.manager.getIdpToken(ada(), 'acme');
    await asked;
    const joins = jest.spyOn(RefreshFlights.prototype, 'join');
    const second = host.manager.getIdpTokenForAccessToken(accessToken, 'acme');
    await until(() => joins.mock.calls.length > 0 || around.asked('/broker/') > 0);
    joins.mockRestore();
    answer?.();
    await expect(Promise.all([first, second])).resolves.toMatchObject([
      { accessToken: 'refreshed' },
      { accessToken: 'refreshed' },
    ]);
    expect(around.asked('/broker/')).toBe(0);
  });
});

describe("A refresh of Keycloak's broker that fails at the provider", () => {
  it('asks the user to connect the account again, and changes nothing', async () => {
    const owned = await around.startHost({ refreshOwner: 'keycloak' });
    const { accessToken } = await around.logIn('ada');
    await owned.manager.getIdpTokenForAccessToken(accessToken, 'acme');
    await around.database.query('UPDATE auth_tokens SET access_token_expires_at = 1');
    const before = await around.database.query('SELECT * FROM auth_tokens');
    await keycloak.endSessionAtProvider();
    const failure = await failureOf(owned.manager.getIdpTokenForAccessToken(accessToken, 'acme'));
    expect(failure).toBeInstanceOf(ReauthenticationRequiredError);
    expect(failure).toMatchObject({ reason: 'broker_refresh_failed', subject: { keycloakUserId: ada(), idp: 'acme' } });
    await expect(around.database.query('SELECT * FROM auth_tokens')).resolves.toEqual(before);
    await keycloak.logInAtProvider(3600);
    await expect(owned.manager.getIdpTokenForAccessToken(accessToken, 'acme')).resolves.toMatchObject({
      accessToken: keycloak.brokered.accessToken,
    });
  });
});
