import { AuthTokens } from './auth-tokens/auth-tokens.entity.js';
import { DisconnectedAccount } from './disconnected-accounts/disconnected-account.entity.js';
import { LinkAttempt } from './link-attempts/link-attempt.entity.js';
import { StoredOfflineToken } from './offline-tokens/stored-offline-token.entity.js';
import { TokenKeyRecord } from './token-keys/token-key-record.entity.js';
import { TokenRevocation } from './token-revocations/token-revocation.entity.js';

/** The entities of this module, for the `entities` option of the data source. */
export const tokensEntities = [
  AuthTokens,
  StoredOfflineToken,
  TokenRevocation,
  DisconnectedAccount,
  TokenKeyRecord,
  LinkAttempt,
];
