import everything from './jest.config.js';

/** The suite that needs the programs of a PostgreSQL server package. @type {import('jest').Config} */
export default {
  ...everything,
  testMatch: ['<rootDir>/test/failover/*.fo-spec.ts'],
  globalSetup: '<rootDir>/test/support/failover-setup.ts',
  globalTeardown: undefined,
  testTimeout: 60_000,
};
