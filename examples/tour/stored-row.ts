import type { DataSource } from 'typeorm';

const SHOWN = 28;

/** Returns the stored tokens of a user as PostgreSQL has them, with one column per line. Sealed texts are shortened. */
export async function describeStoredRow(dataSource: DataSource, userId: string): Promise<string> {
  const rows = await dataSource.query<Record<string, string>[]>(
    `SELECT keycloak_user_id, identity_provider, access_token, refresh_token, access_token_expires_at,
            refresh_token_expires_at, token_version, status
     FROM auth_tokens WHERE keycloak_user_id = $1`,
    [userId],
  );
  return rows
    .flatMap((row) => Object.entries(row))
    .map(([column, value]) => `       ${column.padEnd(26)}${shorten(value)}`)
    .join('\n');
}

function shorten(value: string): string {
  return value.length > 2 * SHOWN ? `${value.slice(0, SHOWN)}… (${value.length} characters)` : value;
}
