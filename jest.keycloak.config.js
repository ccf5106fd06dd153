import everything from './jest.config.js';

/** The suite that needs a real Keycloak. @type {import('jest').Config} */
export default {
  ...everything,
  testMatch: ['<rootDir>/test/keycloak/*.kc-spec.ts'],
  testTimeout: 60_000,
};
