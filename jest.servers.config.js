import everything from './jest.config.js';
import { hasDoorkeeper } from './test/servers/has-doorkeeper.js';

/** The suites with OAuth servers that other people wrote. @type {import('jest').Config} */
export default {
  ...everything,
  testMatch: [`<rootDir>/test/servers/${hasDoorkeeper() ? '' : 'better-auth.'}*.sv-spec.ts`],
  testTimeout: 60_000,
};
