import type pg from 'pg';

import { IDP, userId } from '../support/users.js';
import { open, seal } from './bare-pg.js';

/**
 * Refreshes the token of one user under a row lock, which is the usual way to redeem a refresh token once. It keeps a
 * transaction and a connection until the provider has answered.
 */
export async function refreshUnderRowLock(pool: pg.Pool, tokenEndpoint: string, n: number): Promise<string> {
  const client = await pool.connect();
  try {
    await client.query('BEGIN');
    const { rows } = await client.query<{ refresh_token: string }>(
      'SELECT refresh_token FROM plain_tokens WHERE user_id = $1 AND provider = $2 FOR UPDATE',
      [userId(n), IDP],
    );
    const issued = await redeem(tokenEndpoint, open(rows[0]?.refresh_token ?? ''));
    await client.query(
      `UPDATE plain_tokens SET access_token = $3, refresh_token = $4, expires_at = $5
         WHERE user_id = $1 AND provider = $2`,
      [userId(n), IDP, seal(issued.access_token), seal(issued.refresh_token), nowSeconds() + issued.expires_in],
    );
    await client.query('COMMIT');
    return issued.access_token;
  } finally {
    client.release();
  }
}

/** The answer of a token endpoint. */
export interface IssuedTokens {
  access_token: string;
  refresh_token: string;
  expires_in: number;
}

/** Calls the token endpoint and stores nothing. */
export async function redeem(tokenEndpoint: string, refreshToken: string): Promise<IssuedTokens> {
  const response = await fetch(tokenEndpoint, {
    method: 'POST',
    body: new URLSearchParams({
      grant_type: 'refresh_token',
      refresh_token: refreshToken,
      client_id: 'bench',
      client_secret: 'bench',
    }),
  });
  return (await response.json()) as IssuedTokens;
}

function nowSeconds(): number {
  return Math.floor(Date.now() / 1000);
}
