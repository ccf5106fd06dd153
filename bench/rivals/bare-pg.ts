import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';

import type pg from 'pg';

import { fill, query } from '../support/database.js';
import type { Contestant } from '../support/race.js';
import { accessTokenOf, IDP, refreshTokenOf, userId } from '../support/users.js';

const KEY = Buffer.alloc(32, 'bare');
const NONCE_BYTES = 12;
const TAG_BYTES = 16;

/**
 * Encrypts a token at the least cost. It uses AES-256-GCM under one key and binds the text to no table, column or user.
 */
export function seal(plaintext: string): string {
  const nonce = randomBytes(NONCE_BYTES);
  const cipher = createCipheriv('aes-256-gcm', KEY, nonce);
  return Buffer.concat([nonce, cipher.update(plaintext, 'utf8'), cipher.final(), cipher.getAuthTag()]).toString(
    'base64',
  );
}

export function open(sealed: string): string {
  const bytes = Buffer.from(sealed, 'base64');
  const decipher = createDecipheriv('aes-256-gcm', KEY, bytes.subarray(0, NONCE_BYTES));
  decipher.setAuthTag(bytes.subarray(-TAG_BYTES));
  return decipher.update(bytes.subarray(NONCE_BYTES, -TAG_BYTES), undefined, 'utf8') + decipher.final('utf8');
}

/**
 * Creates and fills the table of an application that stores its tokens without a library. The rivals bare pg,
 * `repository.findOneBy` and the row lock use it.
 */
export async function seedPlainTokens(url: string, users: number, expiresAt: number): Promise<void> {
  await query(
    url,
    `CREATE TABLE plain_tokens (
       id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
       user_id varchar NOT NULL,
       provider varchar NOT NULL,
       access_token varchar NOT NULL,
       refresh_token varchar NOT NULL,
       expires_at bigint NOT NULL,
       UNIQUE (user_id, provider))`,
  );
  await fill(
    url,
    `INSERT INTO plain_tokens (user_id, provider, access_token, refresh_token, expires_at)
       SELECT id, '${IDP}', access_token, refresh_token, ${expiresAt}
         FROM unnest($1::text[], $2::text[], $3::text[]) AS rows (id, access_token, refresh_token)`,
    users,
    (n) => [userId(n), seal(accessTokenOf(n)), seal(refreshTokenOf(n))],
  );
  await query(url, 'VACUUM ANALYZE plain_tokens');
}

/** Returns the rival with the least work: one named prepared SELECT by key and one decryption for each call. */
export function bareReads(pool: pg.Pool): Contestant {
  return {
    name: 'bare pg (floor)',
    async call(n) {
      const { rows } = await pool.query<{ access_token: string; expires_at: string }>({
        name: 'bare_read',
        text: 'SELECT access_token, expires_at FROM plain_tokens WHERE user_id = $1 AND provider = $2',
        values: [userId(n), IDP],
      });
      const [row] = rows;
      if (!row || Number(row.expires_at) * 1000 < Date.now()) throw new Error('The token is not there or has expired.');
      return open(row.access_token);
    },
  };
}

/** Returns the rival that runs one named prepared upsert and encrypts two tokens for each call. */
export function bareWrites(pool: pg.Pool, expiresAt: number): Contestant {
  return {
    name: 'bare pg upsert',
    async call(n) {
      await pool.query({
        name: 'bare_upsert',
        text: `INSERT INTO plain_tokens (user_id, provider, access_token, refresh_token, expires_at)
                 VALUES ($1, $2, $3, $4, $5)
                 ON CONFLICT (user_id, provider) DO UPDATE SET access_token = excluded.access_token,
                   refresh_token = excluded.refresh_token, expires_at = excluded.expires_at`,
        values: [userId(n), IDP, seal(accessTokenOf(n)), seal(refreshTokenOf(n)), expiresAt],
      });
    },
  };
}
