import everything from './jest.config.js';

/** The suite that needs PgBouncer. @type {import('jest').Config} */
export default {
  ...everything,
  testMatch: ['<rootDir>/test/pgbouncer/*.pgb-spec.ts'],
  testTimeout: 60_000,
};
