import type { AccessTokenLife, IdentityProvider } from '../identity-providers/identity-provider.js';
import type { RefreshPolicy } from '../identity-providers/refresh-policy.js';
import { type AuthTokensRow, secondsUntil, withAssumedLifetime } from '../storage/auth-tokens/auth-tokens-row.js';
import type { AuthTokensTable } from '../storage/auth-tokens/auth-tokens.table.js';
import type { Lease } from '../storage/leases/lease.js';
import { freshlyStored } from '../storage/leases/leased-row.js';
import type { ScopedTokens } from '../storage/stored-tokens.js';
import type { TokenRevocationsTable } from '../storage/token-revocations/token-revocations.table.js';
import { accountInWords, type AccountKey, keyName } from '../token-key.js';
import {
  ProviderMisconfiguredError,
  ReauthenticationRequiredError,
  RefreshInProgressError,
  RefreshUnavailableError,
} from '../tokens.errors.js';
import type { Refusal } from './refresh-decision.js';
import type { NewTokens, ExchangeOutcome, RefreshKind, RefreshTarget } from './refresh-target.js';

/** The refresh of a token pair in `auth_tokens`. */
export interface PairRefresh extends RefreshKind {
  readonly key: AccountKey;
  readonly row: AuthTokensRow;
  readonly tokens: ScopedTokens;
  readonly issued: undefined;
}

/**
 * Redeems the refresh token of a pair: the provider from the options, or a callback of the host. A callback can also
 * keep the pair, or throw. Only callers that passed a callback get such a result.
 */
export interface Redeemer {
  readonly source: 'provider' | 'callback';
  /** OAuth client that redeems; absent when it is not known. */
  readonly clientId?: string;
  /** @see {@link RefreshTarget.redeem} */
  redeem(lease: Lease<AuthTokensRow>): Promise<ExchangeOutcome<PairRefresh>>;
  /** @see {@link RefreshTarget.askWitness} */
  askWitness?(row: AuthTokensRow): Promise<AccessTokenLife>;
}

/** The parts of the module that the refresh of a pair uses. */
export interface PairRefreshContext {
  readonly table: AuthTokensTable;
  readonly revocations: TokenRevocationsTable;
  readonly policy: RefreshPolicy;
  readonly provider: IdentityProvider | null;
}

/** Returns the target for the refresh of a pair. */
export function pairTarget(
  key: AccountKey,
  redeemer: Redeemer,
  { table, revocations, policy, provider }: PairRefreshContext,
): RefreshTarget<PairRefresh> {
  const { clientId } = redeemer;
  return {
    name: `auth_tokens:${keyName(key)}`,
    subject: `tokens of user "${key.keycloakUserId}" at identity provider "${key.idp}"${accountInWords(key)}`,
    key,
    leases: table.leases,
    rules: { policy, clientId, canAskWitness: redeemer.askWitness !== undefined },
    mayResend: true,
    clientIdOf: (row) => clientId ?? row.clientId,
    load: () => table.loadCommitted(key),
    redeem: (lease) => redeemer.redeem(lease),
    askWitness: redeemer.askWitness?.bind(redeemer),
    committed: (tokens, now) => withAssumedLifetime(committedRow(tokens, now), provider?.assumedLifetimeSeconds),
    // A link can put the pair of another account into the row. An unknown account counts as the same one.
    isOfGrant: (row, redeemed) =>
      row.id === redeemed.id && (row.subject === redeemed.subject || row.subject === null || redeemed.subject === null),
    async disown({ redeemed, successor: { accessToken, refreshToken, clientId: issuedTo } }) {
      if (!provider?.revoke || (await isConnected(key, redeemed.subject, table))) return;
      await revocations.add({ ...key, clientId: issuedTo, accessToken, refreshToken });
    },
    errorOf: (refusal) => errorOf(key, refusal, clientId),
  };
}

/**
 * Returns whether a row of the user has an account at the provider. A provider may end all tokens of an account when one
 * of them is revoked.
 */
async function isConnected(
  { keycloakUserId, idp }: AccountKey,
  subject: string | null,
  table: AuthTokensTable,
): Promise<boolean> {
  if (subject === null) return false;
  const connections = await table.connectionsOf(keycloakUserId);
  return connections.some((each) => each.idp === idp && each.subject === subject);
}

function committedRow({ redeemed, successor }: NewTokens<PairRefresh>, now: number): AuthTokensRow {
  const { accessToken, refreshToken, accessTokenExpiresAt, refreshTokenExpiresAt, scopes, issuedAt, version } =
    successor;
  const { redeemedVersion: parentVersion, clientId, rejections } = successor;
  return {
    ...freshlyStored({
      ...{ id: redeemed.id, version, parentVersion, clientId, rejections },
      issuedSecondsAgo: now - issuedAt,
    }),
    subject: redeemed.subject,
    tokens: { accessToken, refreshToken, accessTokenExpiresAt, refreshTokenExpiresAt, scopes, version },
    issuedAt,
    accessTokenExpiresAt,
    hasRefreshToken: refreshToken !== '',
    accessTokenValidForSeconds: secondsUntil(accessTokenExpiresAt, now),
    refreshTokenValidForSeconds: secondsUntil(refreshTokenExpiresAt, now),
    accessTokenLifetimeSeconds: secondsUntil(accessTokenExpiresAt, issuedAt),
  };
}

function errorOf(key: AccountKey, refusal: Refusal, clientId = ''): Error {
  switch (refusal.reason) {
    case 'in_progress':
      return new RefreshInProgressError(key);
    case 'unavailable':
      return new RefreshUnavailableError(key, refusal.cause, refusal.retryAfterMs);
    case 'misconfigured':
      return new ProviderMisconfiguredError(key, refusal.code);
    case 'other_client':
      return ProviderMisconfiguredError.otherClient(key, refusal.issuedTo, clientId);
    default:
      return new ReauthenticationRequiredError(key, refusal.reason);
  }
}
