import type { INestApplication } from '@nestjs/common';

import { type EncryptionKeyOptions, TokenManager } from '../../src/index.js';
import { TokenRevoker } from '../../src/token-manager/token-revoker.js';
import type { TestDatabase } from './test-database.js';
import { createTokensApp } from './tokens-app.js';

/** Texts that no stream of the command line may have. */
export const SECRETS = {
  accessToken: 'plaintext-of-an-access-token',
  refreshToken: 'plaintext-of-a-refresh-token',
  offlineToken: 'plaintext-of-an-offline-token',
  clientSecret: 'secret-of-the-oauth-client',
  password: 'password-of-the-database',
};

/** The providers of the fixture. `acme` can revoke tokens. */
export const IDENTITY_PROVIDERS = {
  acme: {
    clientId: 'acme-client',
    clientSecret: SECRETS.clientSecret,
    tokenEndpoint: 'http://127.0.0.1:9/token',
    revocationEndpoint: 'http://127.0.0.1:9/revoke',
  },
  initech: {
    clientId: 'initech-client',
    clientSecret: SECRETS.clientSecret,
    tokenEndpoint: 'http://127.0.0.1:9/token',
  },
};

/** Returns the text of a configuration file. */
export function configText(
  databaseUrl: string,
  keys: readonly EncryptionKeyOptions[],
  options: Record<string, unknown> = {},
): string {
  const dataSource = { type: 'postgres', url: databaseUrl };
  const tokens = { encryption: { keys }, identityProviders: IDENTITY_PROVIDERS, ...options };
  return `import { defineTokensConfig } from 'nestjs-idp-tokens';
export default defineTokensConfig({ dataSource: ${JSON.stringify(dataSource)}, tokens: ${JSON.stringify(tokens)} });
`;
}

/** Boots an application on the database that sends no revocation. The caller closes it. */
export async function openApplication(
  database: TestDatabase,
  keys: readonly EncryptionKeyOptions[],
): Promise<INestApplication> {
  const { app } = await createTokensApp({
    databaseUrl: database.url,
    options: { encryption: { keys }, identityProviders: IDENTITY_PROVIDERS },
  });
  const revoker = app.get(TokenRevoker, { strict: false });
  revoker.onModuleDestroy();
  Object.assign(revoker, { wakeAfterCommit: () => undefined });
  return app;
}

/** How a row is made from a pair that was stored just now. */
const ROWS: readonly (readonly [user: string, idp: 'acme' | 'initech', change: string])[] = [
  ['ada', 'acme', 'updated_at = now()'],
  ['ada', 'initech', "refresh_token = '', access_token_expires_at = 0"],
  ['bob', 'acme', "access_token_expires_at = date_part('epoch', now())::bigint - 60"],
  [
    'carol',
    'acme',
    "retry_at = now() + interval '1 hour', failure_kind = 'transient', failure_count = 3, last_error_code = 'http_503', updated_at = now() - interval '2 hours'",
  ],
  [
    'dave',
    'acme',
    "quarantined_until = now() + interval '1 hour', last_error_code = 'invalid_grant', failure_kind = 'transient'",
  ],
  [
    'erin',
    'acme',
    "open_leases = 1, first_leased_at = now() - interval '1 hour', lease_id = 5, lease_expires_at = now() - interval '50 minutes'",
  ],
  [
    'frank',
    'acme',
    "open_leases = 1, first_leased_at = now(), lease_id = 6, lease_expires_at = now() + interval '1 hour'",
  ],
  [
    'grace',
    'acme',
    "status = 'reauthentication_required', last_error_code = 'invalid_grant', updated_at = '2026-11-20 12:00:00+00'",
  ],
  ['heidi', 'acme', "status = 'reauthentication_required', last_error_code = 'ACCESS_TOKEN_DEAD'"],
  ['ivan', 'initech', "refresh_token = '', access_token_expires_at = date_part('epoch', now())::bigint - 60"],
  [
    'judy',
    'initech',
    "refresh_token_expires_at = date_part('epoch', now())::bigint - 60, access_token_expires_at = date_part('epoch', now())::bigint - 60",
  ],
];

/** Stores a row of each state, an offline token, and a deleted pair that waits to be revoked. */
export async function fillTables(database: TestDatabase, app: INestApplication): Promise<void> {
  const tokens = app.get(TokenManager);
  const expiresAt = Math.floor(Date.now() / 1000) + 36_000;
  const pair = {
    accessToken: SECRETS.accessToken,
    refreshToken: SECRETS.refreshToken,
    accessTokenExpiresAt: expiresAt,
    refreshTokenExpiresAt: 0,
  };
  for (const [user, idp, change] of ROWS) {
    await tokens.storeIdpTokens(user, idp, pair);
    await database.query(`UPDATE auth_tokens SET ${change} WHERE keycloak_user_id = $1 AND identity_provider = $2`, [
      user,
      idp,
    ]);
  }
  await tokens.storeOfflineToken('ada', SECRETS.offlineToken);
  await tokens.storeIdpTokens('mallory', 'acme', pair);
  await tokens.revokeIdpTokens('mallory', 'acme');
}

/** Returns every sealed text of the database, and the plaintext secrets of the fixture. */
export async function everySecret(database: TestDatabase, keys: readonly EncryptionKeyOptions[]): Promise<string[]> {
  const texts = await database.query(`SELECT unnest(ARRAY[access_token, refresh_token]) AS text FROM auth_tokens
    UNION SELECT unnest(ARRAY[access_token, refresh_token]) FROM token_revocations
    UNION SELECT code_verifier FROM link_attempts
    UNION SELECT offline_token FROM offline_tokens UNION SELECT check_text FROM token_keys`);
  const secrets = keys.map((key) => ('secret' in key ? key.secret : key.legacyFernetSecret));
  const sealed = texts.map(({ text }) => String(text)).filter((text) => text !== '');
  const url = new URL(database.url);
  return [...Object.values(SECRETS), ...secrets, ...sealed, decodeURIComponent(url.password)].filter(
    (each) => each.length > 8,
  );
}
