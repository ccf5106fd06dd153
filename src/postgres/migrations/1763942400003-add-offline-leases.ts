import type { MigrationInterface, QueryRunner } from 'typeorm';

import { tablePath } from './table-path.js';

/** Adds the lease under which a stored offline token is redeemed. */
export class AddOfflineLeases1763942400003 implements MigrationInterface {
  readonly name = 'AddOfflineLeases1763942400003';

  async up(queryRunner: QueryRunner): Promise<void> {
    await queryRunner.query(`
      ALTER TABLE ${tablePath(queryRunner, 'offline_tokens')}
        ADD COLUMN lease_id bigint,
        ADD COLUMN lease_expires_at timestamptz`);
  }

  async down(queryRunner: QueryRunner): Promise<void> {
    await queryRunner.query(`
      ALTER TABLE ${tablePath(queryRunner, 'offline_tokens')}
        DROP COLUMN lease_expires_at,
        DROP COLUMN lease_id`);
  }
}
