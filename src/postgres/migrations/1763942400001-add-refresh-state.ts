import type { MigrationInterface, QueryRunner } from 'typeorm';

import { tablePath } from './table-path.js';

/**
 * Adds what a refresh needs to know to `auth_tokens`. One ALTER TABLE, because the random default rewrites the table:
 * adopting n rows takes the time of one copy of them, under an exclusive lock.
 *
 * No index covers a column that a refresh changes, and a fifth of each page stays free, so that the updates of a
 * refresh are heap-only.
 */
export class AddRefreshState1763942400001 implements MigrationInterface {
  readonly name = 'AddRefreshState1763942400001';

  async up(queryRunner: QueryRunner): Promise<void> {
    const authTokens = tablePath(queryRunner, 'auth_tokens');
    await queryRunner.query(`ALTER TABLE ${authTokens} SET (fillfactor = 80)`);
    await queryRunner.query(`
      ALTER TABLE ${authTokens}
        ADD COLUMN token_version bigint NOT NULL
          DEFAULT uuid_hash_extended(gen_random_uuid(), 0) & 9223372036854775807,
        ADD COLUMN parent_version bigint,
        ADD COLUMN issued_at timestamptz NOT NULL DEFAULT now(),
        ADD COLUMN lease_id bigint,
        ADD COLUMN lease_expires_at timestamptz,
        ADD COLUMN open_leases smallint NOT NULL DEFAULT 0,
        ADD COLUMN retry_at timestamptz,
        ADD COLUMN failure_count smallint NOT NULL DEFAULT 0,
        ADD COLUMN suspect_until timestamptz,
        ADD COLUMN status varchar NOT NULL DEFAULT 'active',
        ADD COLUMN last_error_code varchar,
        ADD COLUMN created_at timestamptz NOT NULL DEFAULT now(),
        ADD COLUMN updated_at timestamptz NOT NULL DEFAULT now(),
        ADD CONSTRAINT auth_tokens_status_check CHECK (status IN ('active', 'reauthentication_required'))`);
  }

  async down(queryRunner: QueryRunner): Promise<void> {
    const authTokens = tablePath(queryRunner, 'auth_tokens');
    await queryRunner.query(`
      ALTER TABLE ${authTokens}
        DROP CONSTRAINT auth_tokens_status_check,
        DROP COLUMN updated_at,
        DROP COLUMN created_at,
        DROP COLUMN last_error_code,
        DROP COLUMN status,
        DROP COLUMN suspect_until,
        DROP COLUMN failure_count,
        DROP COLUMN retry_at,
        DROP COLUMN open_leases,
        DROP COLUMN lease_expires_at,
        DROP COLUMN lease_id,
        DROP COLUMN issued_at,
        DROP COLUMN parent_version,
        DROP COLUMN token_version`);
    await queryRunner.query(`ALTER TABLE ${authTokens} RESET (fillfactor)`);
  }
}
