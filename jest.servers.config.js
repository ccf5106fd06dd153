import everything from './jest.config.js';
import { findDoorkeeper } from './test/servers/find-doorkeeper.js';

/** The suites with OAuth servers that other people wrote. @type {import('jest').Config} */
export default {
  ...everything,
  testMatch: [`<rootDir>/test/servers/${findDoorkeeper() ? '' : 'better-auth.'}*.sv-spec.ts`],
  testTimeout: 60_000,
};
