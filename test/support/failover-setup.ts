import { findPostgresPrograms } from './postgres-programs.js';

/** Once before the suite, which needs more than the server from npm: that has no pg_basebackup. */
export default function setUp(): void {
  if (findPostgresPrograms()) return;
  console.log("NOT RUN: npm run test:failover, which needs PostgreSQL's server programs with pg_basebackup.");
  process.exit(0);
}
