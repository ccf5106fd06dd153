import everything from './jest.config.js';
import { hasBetterAuth, hasDoorkeeper } from './test/servers/has-servers.js';

const servers = [hasDoorkeeper() && 'doorkeeper', hasBetterAuth() && 'better-auth'].filter(Boolean);

/** The suites with OAuth servers that other people wrote. @type {import('jest').Config} */
export default {
  ...everything,
  testMatch: servers.map((server) => `<rootDir>/test/servers/${server}.*.sv-spec.ts`),
  passWithNoTests: servers.length === 0, // the script before has said which ones cannot be installed
  testTimeout: 60_000,
};
