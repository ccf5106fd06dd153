import { generateKeyPair, randomBytes } from 'node:crypto';
import { promisify } from 'node:util';

import type { ClientAuthMethod, Configuration, JWK } from 'oidc-provider';

import { mapStorage } from './map-adapter.js';

/** The only client of the authorization server, and the lifetime of its access tokens. */
export interface ProviderSettings {
  readonly clientId: string;
  readonly clientSecret: string;
  readonly clientAuthentication: ClientAuthMethod;
  /** The public key of a client that authenticates by `private_key_jwt`. */
  readonly clientKey?: JWK;
  readonly redirectUris: string[];
  readonly accessTokenTtlSeconds: number;
}

const HOUR = 3600;
const FORTNIGHT = 14 * 24 * HOUR;

/**
 * Configures a very strict authorization server: single-use refresh tokens whose reuse revokes the grant, PKCE, and a
 * confidential client. Every user may log in, under any name and with any password.
 */
export async function providerConfiguration(settings: ProviderSettings): Promise<Configuration> {
  return {
    adapter: mapStorage(),
    clients: [
      {
        client_id: settings.clientId,
        client_secret: settings.clientSecret,
        redirect_uris: settings.redirectUris,
        grant_types: ['authorization_code', 'refresh_token'],
        response_types: ['code'],
        token_endpoint_auth_method: settings.clientAuthentication,
        ...(settings.clientKey && { jwks: { keys: [settings.clientKey] } }),
      },
    ],
    rotateRefreshToken: true,
    pkce: { required: () => true },
    scopes: ['openid', 'profile', 'email', 'offline_access'],
    claims: { openid: ['sub'], profile: ['name', 'preferred_username'], email: ['email'] },
    findAccount: (_ctx, login) => ({
      accountId: login,
      claims: () => ({ sub: login, name: login, preferred_username: login, email: `${login}@demo.example` }),
    }),
    features: {
      devInteractions: { enabled: true },
      revocation: { enabled: true, allowedPolicy: (_ctx, client, token) => token.clientId === client.clientId },
      rpInitiatedLogout: { enabled: false },
    },
    ttl: {
      AccessToken: settings.accessTokenTtlSeconds,
      AuthorizationCode: 60,
      IdToken: HOUR,
      RefreshToken: FORTNIGHT,
      Interaction: HOUR,
      Session: FORTNIGHT,
      Grant: FORTNIGHT,
    },
    cookies: { keys: [randomBytes(32).toString('hex')] },
    jwks: { keys: [await signingKey()] },
    clientBasedCORS: () => false,
    renderError: (ctx, { error, error_description }) => {
      ctx.type = 'text';
      ctx.body = `${error}: ${error_description ?? ''}\n`;
    },
  };
}

async function signingKey(): Promise<JWK> {
  const { privateKey } = await promisify(generateKeyPair)('rsa', { modulusLength: 2048 });
  return { ...privateKey.export({ format: 'jwk' }), use: 'sig', alg: 'RS256' };
}
