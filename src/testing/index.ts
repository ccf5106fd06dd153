import '../process-copies.js';

export { idpToken } from './idp-token.js';
export { type RevokedPair, type StoredPair, TestTokens } from './test-tokens.js';
export type {
  AccountsForTesting,
  RefreshForTesting,
  RefusedRefresh,
  TokensForTesting,
  TokensTestingOptions,
} from './testing.options.js';
export { TokensTestingModule } from './tokens-testing.module.js';
