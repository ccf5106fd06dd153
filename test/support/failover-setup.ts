import { findPostgresPrograms } from './postgres-programs.js';

/**
 * Skips the suite if the server programs of PostgreSQL are not installed. The suite cannot use the server from npm,
 * because that has no pg_basebackup.
 */
export default function setUp(): void {
  if (findPostgresPrograms()) return;
  console.log('NOT RUN: npm run test:failover. It needs the server programs of PostgreSQL, with pg_basebackup.');
  process.exit(0);
}
