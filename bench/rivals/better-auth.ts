import { betterAuth } from 'better-auth';
import { symmetricEncrypt } from 'better-auth/crypto';
import { getMigrations } from 'better-auth/db/migration';
import pg from 'pg';

import { fill, query } from '../support/database.js';
import type { Contestant } from '../support/race.js';
import { accessTokenOf, IDP, refreshTokenOf, userId } from '../support/users.js';

const SECRET = 'the secret of better-auth in this bench';

/** Starts better-auth on the database of this URL, with encrypted tokens, and fills the database with users. */
export async function startBetterAuth(
  url: string,
  users: number,
  expiresAt: number,
): Promise<Contestant & { stop(): Promise<void> }> {
  const pool = new pg.Pool({ connectionString: url, max: 10 });
  const auth = betterAuth({
    baseURL: 'http://127.0.0.1',
    secret: SECRET,
    database: pool,
    account: { encryptOAuthTokens: true },
    socialProviders: { github: { clientId: 'bench', clientSecret: 'bench' } },
    telemetry: { enabled: false },
  });
  await (await getMigrations(auth.options)).runMigrations();
  const sealed: string[] = [];
  for (let n = 0; n < users; n++) sealed.push(await symmetricEncrypt({ key: SECRET, data: accessTokenOf(n) }));
  const refreshToken = await symmetricEncrypt({ key: SECRET, data: refreshTokenOf(0) });
  await fill(
    url,
    `INSERT INTO "user" (id, name, email, "emailVerified", "createdAt", "updatedAt")
       SELECT id, 'User', id || '@example.com', true, now(), now() FROM unnest($1::text[]) AS rows (id)`,
    users,
    (n) => [userId(n)],
  );
  await fill(
    url,
    `INSERT INTO account (id, "accountId", "providerId", "userId", "accessToken", "refreshToken",
         "accessTokenExpiresAt", "createdAt", "updatedAt")
       SELECT 'account-' || id, id, '${IDP}', id, access_token, refresh_token, to_timestamp(${expiresAt}), now(), now()
         FROM unnest($1::text[], $2::text[], $3::text[]) AS rows (id, access_token, refresh_token)`,
    users,
    (n) => [userId(n), sealed[n], refreshToken],
  );
  await query(url, 'VACUUM ANALYZE');
  return {
    name: 'better-auth getAccessToken',
    call(n) {
      const id = userId(n);
      return auth.api.getAccessToken({ body: { userId: id, accountId: `account-${id}` } });
    },
    stop: () => pool.end(),
  };
}
