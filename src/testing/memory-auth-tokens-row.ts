import { scopeList } from '../scopes.js';
import { type AccountConnection, expiryOf } from '../storage/auth-tokens/auth-tokens-link.statements.js';
import { type AccessTokenRow, secondsUntil } from '../storage/auth-tokens/auth-tokens-row.js';
import type { ImportRules } from '../storage/auth-tokens/auth-tokens-write.statements.js';
import { ACCESS_TOKEN_DEAD } from '../storage/leases/leased.entity.js';
import type { RowTokens, ScopedTokens } from '../storage/stored-tokens.js';
import type { AccountKey } from '../token-key.js';
import type { MemoryLeasedRow } from './memory-leases.js';

/** A row of `auth_tokens` in memory. */
export interface Pair extends MemoryLeasedRow {
  readonly key: AccountKey;
  readonly tokens: ScopedTokens;
  /** Epoch milliseconds of the first store. */
  readonly createdAt: number;
}

/** Returns a pair as a connection. The tables in memory know no account at a provider. */
export function connectionOf({ key: { idp, account }, tokens, isEnded, createdAt, issuedAt }: Pair): AccountConnection {
  return {
    ...{ idp, account, subject: null, name: null },
    scopes: tokens.scopes === null ? null : scopeList(tokens.scopes),
    state: isEnded ? 'reauthentication_required' : 'active',
    hasRefreshToken: tokens.refreshToken !== '',
    connectedAt: new Date(createdAt),
    refreshedAt: new Date(issuedAt),
    accessTokenExpiresAt: expiryOf(tokens.accessTokenExpiresAt),
    refreshTokenExpiresAt: expiryOf(tokens.refreshTokenExpiresAt),
  };
}

export function compare(one: string, other: string): number {
  return one < other ? -1 : one > other ? 1 : 0;
}

/** Returns the part of a row that a lookup of the access token returns in PostgreSQL. */
export function readAccessToken(pair: Pair, now = Date.now()): AccessTokenRow {
  const { accessTokenExpiresAt } = pair.tokens;
  const issuedAt = pair.issuedAt / 1000;
  return {
    tokens: rowTokens(pair),
    issuedAt,
    issuedSecondsAgo: now / 1000 - issuedAt,
    accessTokenExpiresAt,
    accessTokenValidForSeconds: secondsUntil(accessTokenExpiresAt, now / 1000),
    accessTokenLifetimeSeconds: secondsUntil(accessTokenExpiresAt, issuedAt),
  };
}

export function rowTokens({ tokens, version }: Pair): RowTokens {
  return { ...tokens, version };
}

/** Whether the new pair has no refresh token, and the stored one has a refresh token that may be alive. */
export function lacksRefreshToken(pair: ScopedTokens, stored: Pair, clientId: string | null): boolean {
  const isOfThisClient = stored.clientId === null || clientId === null || stored.clientId === clientId;
  return pair.refreshToken === '' && stored.tokens.refreshToken !== '' && !stored.isEnded && isOfThisClient;
}

/** Whether an import may replace the stored pair. */
export function isNewer(pair: ScopedTokens & ImportRules, stored: Pair, clientId: string | null): boolean {
  if (!pair.mayDropRefreshToken && lacksRefreshToken(pair, stored, clientId)) return false;
  const isOfLogin = stored.parentVersion === null;
  const issuedAt = pair.issuedAt * 1000;
  if (issuedAt === 0) return isOfLogin || stored.isEnded;
  return issuedAt > stored.issuedAt || (issuedAt === stored.issuedAt && isOfLogin);
}

/** Returns the pair with its grant active again. The provider decides if a dead access token had ended the grant. */
export function reactivatedPair(pair: Pair): Pair {
  const now = Date.now();
  const active: Pair = {
    ...pair,
    ...{ isEnded: false, quarantinedUntil: 0, retryAt: 0, rejections: 0, updatedAt: now },
    ...{ failureCount: 0, failureKind: null, lastErrorCode: null },
  };
  if (pair.lastErrorCode !== ACCESS_TOKEN_DEAD) return active;
  const { openLeases, firstLeasedAt } = pair;
  return {
    ...active,
    openLeases: Math.max(openLeases, 1),
    firstLeasedAt: firstLeasedAt || now,
    wasRejected: true,
  };
}
