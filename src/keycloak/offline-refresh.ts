import { completePolicy } from '../identity-providers/refresh-policy.js';
import type { Refusal } from '../refresh/refresh-decision.js';
import type { ExchangeOutcome, RefreshKind, RefreshTarget } from '../refresh/refresh-target.js';
import type { Lease } from '../storage/leases/lease.js';
import { freshlyStored } from '../storage/leases/leased-row.js';
import type {
  OfflineTokenKey,
  OfflineTokenRow,
  SealedOfflineToken,
} from '../storage/offline-tokens/offline-tokens.statements.js';
import { ONLY_A_REFRESH_TOKEN } from '../storage/offline-tokens/offline-tokens.statements.js';
import type { OfflineTokensTable } from '../storage/offline-tokens/offline-tokens.table.js';
import { KeycloakMisconfiguredError, KeycloakSessionExpiredError, KeycloakUnavailableError } from '../tokens.errors.js';
import type { KeycloakClient } from './keycloak-client.js';
import { KeycloakTokens } from './keycloak-tokens.js';
import type { OfflineTokenVault } from './offline-token-vault.js';

/** The refresh with a Keycloak offline token in `offline_tokens`. */
export interface OfflineRefresh extends RefreshKind {
  readonly key: OfflineTokenKey;
  readonly row: OfflineTokenRow;
  readonly tokens: SealedOfflineToken;
  readonly issued: KeycloakTokens;
}

/** What the refresh with an offline token needs of the module. */
export interface OfflineRefreshContext {
  readonly table: OfflineTokensTable;
  readonly vault: OfflineTokenVault;
  readonly client: KeycloakClient;
}

/** The time of a lease in addition to two requests to Keycloak, in milliseconds. */
const LEASE_RESERVE_MS = 5000;

/**
 * Returns the target of an offline token's refresh. With "Revoke Refresh Token" on, Keycloak's tokens are single-use.
 */
export function offlineTarget(
  userId: string,
  { table, vault, client }: OfflineRefreshContext,
): RefreshTarget<OfflineRefresh> {
  const { clientId, timeoutMs } = client.realm;
  const policy = completePolicy({ exchangeTimeoutMs: timeoutMs, leaseMs: 2 * timeoutMs + LEASE_RESERVE_MS });
  return {
    name: `offline_tokens:${userId}`,
    subject: `offline token of user "${userId}"`,
    key: { userId },
    leases: table.leases,
    rules: { policy, clientId, canAskWitness: false },
    mayResend: false, // Keycloak ends the session of a token that it receives twice
    clientIdOf: () => clientId,
    load: () => table.loadCommitted(userId),
    redeem: (lease) => redeem(userId, lease, vault, client),
    committed: (
      { redeemed: { id }, successor: { offlineToken, version, redeemedVersion, rejections, issuedAt } },
      now,
    ) => ({
      ...freshlyStored({
        id,
        version,
        parentVersion: redeemedVersion,
        clientId,
        rejections,
        issuedSecondsAgo: now - issuedAt,
      }),
      ...ONLY_A_REFRESH_TOKEN,
      offlineToken,
    }),
    isOfGrant: (row, redeemed) => row.id === redeemed.id,
    // The new token is not revoked, because a deletion here does not end the session at Keycloak.
    disown: () => Promise.resolve(),
    errorOf: (refusal) => errorOf(userId, refusal, client),
  };
}

async function redeem(
  userId: string,
  { row }: Lease<OfflineTokenRow>,
  vault: OfflineTokenVault,
  client: KeycloakClient,
): Promise<ExchangeOutcome<OfflineRefresh>> {
  let offlineToken: string;
  try {
    offlineToken = vault.open(userId, row.offlineToken);
  } catch (error) {
    return { kind: 'threw', error };
  }
  const answer = await client.redeem(offlineToken).catch((error: unknown) => ({ kind: 'threw', error }) as const);
  if (answer.kind !== 'success') return answer;
  // If the answer has no refresh token, the old one stays valid. @see RFC 6749 section 6
  const successor = answer.tokens.refreshToken ?? offlineToken;
  return {
    kind: 'success',
    tokens: { offlineToken: vault.seal(userId, successor) },
    issued: new KeycloakTokens(answer.tokens.accessToken, successor),
  };
}

/** Makes the error for a stored offline token that only another client can redeem. */
export function issuedToOtherClient(userId: string, issuedTo: string, clientId: string): KeycloakMisconfiguredError {
  return new KeycloakMisconfiguredError(
    `The offline token of user "${userId}" was issued to client "${issuedTo}", but the options name client ` +
      `"${clientId}". Keycloak does not accept it from another client. Correct keycloak.clientId, or let the user log ` +
      'in again.',
  );
}

function errorOf(userId: string, refusal: Refusal, client: KeycloakClient): Error {
  const { clientId } = client.realm;
  const subject = `The offline token of user "${userId}"`;
  switch (refusal.reason) {
    case 'in_progress':
      return new KeycloakUnavailableError(`${subject} is in a refresh that has not ended yet. Try again shortly.`);
    case 'unavailable':
      return new KeycloakUnavailableError(
        [
          `${subject} cannot be redeemed now, because ${refusal.cause}.`,
          client.tokenEndpointAdvice,
          'Try again shortly.',
        ]
          .filter((each) => each !== undefined)
          .join(' '),
        refusal.retryAfterMs,
      );
    case 'misconfigured':
      return new KeycloakMisconfiguredError(
        `Keycloak refused client "${clientId}" with "${refusal.code}". Check keycloak.clientId and ` +
          `keycloak.clientSecret, and what the client may do. ${subject} is untouched.`,
      );
    case 'other_client':
      return issuedToOtherClient(userId, refusal.issuedTo, clientId);
    default:
      return new KeycloakSessionExpiredError(
        `Keycloak does not accept the offline token of user "${userId}" any more. The Keycloak session is over. ` +
          'Let the user log in again.',
      );
  }
}
