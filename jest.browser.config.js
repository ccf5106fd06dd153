import everything from './jest.config.js';

/** The suite that drives the page of the demo with a real browser. @type {import('jest').Config} */
export default {
  ...everything,
  testMatch: ['<rootDir>/test/browser/*.br-spec.ts'],
  globalSetup: '<rootDir>/test/browser/setup.ts',
  globalTeardown: undefined, // the demo has a PostgreSQL of its own
  testTimeout: 60_000,
};
