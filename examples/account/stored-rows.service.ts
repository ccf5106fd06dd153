import { Injectable } from '@nestjs/common';
import { DataSource } from 'typeorm';

/** One row of `auth_tokens` as PostgreSQL has it: the columns by their names. */
export type StoredRow = Readonly<Record<string, string | null>>;

/** Reads the table of the module past the module. Only a demo needs that, to show that the tokens in it are sealed. */
@Injectable()
export class StoredRows {
  constructor(private readonly dataSource: DataSource) {}

  /** Returns the rows of one user, sorted by account. */
  find(userId: string): Promise<StoredRow[]> {
    return this.dataSource.query<StoredRow[]>(
      `SELECT keycloak_user_id, identity_provider, account, access_token, refresh_token, access_token_expires_at,
              refresh_token_expires_at, token_version, scopes, status
       FROM auth_tokens WHERE keycloak_user_id = $1 ORDER BY identity_provider, account`,
      [userId],
    );
  }
}
