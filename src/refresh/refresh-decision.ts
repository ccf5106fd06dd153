import type { RefreshPolicy } from '../identity-providers/refresh-policy.js';
import type { LeasedRow } from '../storage/leases/leased-row.js';
import type { ReauthenticationReason } from '../tokens.errors.js';

/** A row whose refresh token can be redeemed; times are distances from its reading. */
export interface RefreshableRow extends LeasedRow {
  readonly hasRefreshToken: boolean;
  /** Seconds until the refresh token expires, negative when it has; Infinity = never. */
  readonly refreshTokenValidForSeconds: number;
  /** Seconds until the access token expires, negative when it has or there is none; Infinity = never. */
  readonly accessTokenValidForSeconds: number;
}

/** What a caller asks of a row, as far as it decides about a refresh. */
export interface RefreshDemand {
  /** Whether the access token meets the demand, if no exchange has ended it. */
  readonly isMet: boolean;
  /** Whether the provider's API refused this access token. */
  readonly isRejected: boolean;
}

/** What holds for all rows of a provider. */
export interface RefreshRules {
  readonly policy: RefreshPolicy;
  /** The client that redeems; left out, it is not compared with the one that a grant was issued to. */
  readonly clientId?: string;
  /** Whether the provider can be asked if an access token is alive. */
  readonly canAskWitness: boolean;
}

/** Why a row is neither served nor refreshed now. */
export type Refusal =
  | { readonly reason: ReauthenticationReason }
  /** The grant was issued to another client than the one that would redeem it. */
  | { readonly reason: 'other_client'; readonly issuedTo: string }
  /** The provider refuses this application. */
  | { readonly reason: 'misconfigured'; readonly code: string }
  | { readonly reason: 'unavailable'; readonly cause: string; readonly retryAfterMs?: number }
  /** Another exchange is under way and takes longer than the caller can wait. */
  | { readonly reason: 'in_progress' };

/** How an abandoned lease is taken over. */
export interface Takeover {
  /** How long the holder is waited for, under the new lease. */
  readonly delayMs: number;
  /** Whether the old access token is asked what became of the last exchange. */
  readonly asksWitness: boolean;
}

/** The next step with a row. */
export type Step =
  | { readonly kind: 'serve' }
  | { readonly kind: 'lease'; readonly takeover: Takeover | null }
  /** Until the exchange under way ends, at most until its lease does. */
  | { readonly kind: 'wait' }
  | { readonly kind: 'refuse'; readonly refusal: Refusal };

const SERVE: Step = { kind: 'serve' };
/** An API that refuses two tokens in a row that were just issued does not refuse them for their age. */
const FREE_REJECTIONS = 2;
const FIRST_REJECTION_PAUSE_MS = 1000;
const LONGEST_REJECTION_PAUSE_MS = 60_000;

/**
 * What to do with a row: a pure function of the row, the demand, the rules and the time. Nothing else decides about it but
 * the statement that leases, which judges once more whether the row is in the state that was decided on.
 *
 * @param now of the monotonic clock, in milliseconds
 */
export function decide(row: RefreshableRow, demand: RefreshDemand, rules: RefreshRules, now: number): Step {
  const { policy, clientId } = rules;
  const elapsedMs = now - row.readAt;
  const refuse = (refusal: Refusal): Step => (isUsable(row, demand, policy, now) ? SERVE : { kind: 'refuse', refusal });

  if (row.state === 'ended') return { kind: 'refuse', refusal: { reason: 'refresh_rejected' } };
  if (demand.isMet && !mayBeEnded(row, policy)) return SERVE;
  if (!row.hasRefreshToken) return refuse({ reason: 'no_refresh_token' });
  if (row.refreshTokenValidForSeconds * 1000 <= elapsedMs) return refuse({ reason: 'refresh_token_expired' });
  if (clientId !== undefined && row.clientId !== null && row.clientId !== clientId) {
    return refuse({ reason: 'other_client', issuedTo: row.clientId });
  }
  const pauseMs = demand.isRejected ? rejectionPauseMs(row) - row.issuedSecondsAgo * 1000 - elapsedMs : 0;
  if (pauseMs > 0) {
    return refuse(unavailable("the provider's API has refused several tokens right after they were issued", pauseMs));
  }

  switch (row.state) {
    case 'idle':
      return { kind: 'lease', takeover: null };
    case 'leased':
      return policy.oldAccessTokenSurvives && isUsable(row, demand, policy, now) ? SERVE : { kind: 'wait' };
    case 'outcome_unknown':
      return refuse(lastTryFailed(row, row.leasedForMs - elapsedMs));
    case 'quarantined':
      return refuse(
        unavailable(
          `"${row.lastErrorCode ?? ''}" may be due to a race and is being watched`,
          row.quarantinedForMs - elapsedMs,
        ),
      );
    case 'backing_off': {
      if (row.failureKind === 'configuration') {
        return refuse({ reason: 'misconfigured', code: row.lastErrorCode ?? 'unknown' });
      }
      if (row.failureKind !== 'undecided') return refuse(lastTryFailed(row, row.backingOffForMs - elapsedMs));
      const takeover = takeoverOf(row, demand, { ...rules, canAskWitness: false }, now);
      return takeover ? { kind: 'lease', takeover } : refuse(undecided(row, elapsedMs));
    }
    case 'abandoned': {
      const takeover = takeoverOf(row, demand, rules, now);
      return takeover ? { kind: 'lease', takeover } : refuse(undecided(row, elapsedMs));
    }
  }
}

/**
 * Whether a stale token still works, so that it may be handed out while no refresh succeeds.
 *
 * @param now of the monotonic clock, in milliseconds
 */
export function isUsable(row: RefreshableRow, demand: RefreshDemand, policy: RefreshPolicy, now: number): boolean {
  const isExpired = row.accessTokenValidForSeconds * 1000 <= now - row.readAt;
  return row.state !== 'ended' && !isExpired && !demand.isRejected && !mayBeEnded(row, policy);
}

/** Whether an exchange that did not end in an answer may have ended the access token. */
function mayBeEnded(row: LeasedRow, policy: RefreshPolicy): boolean {
  return policy.refreshEndsAccessToken && row.openLeases > 0;
}

/**
 * How an abandoned lease may be taken over; null while there is a grant to lose and nothing to win, because the access
 * token works and the refresh token may be spent.
 */
function takeoverOf(row: RefreshableRow, demand: RefreshDemand, rules: RefreshRules, now: number): Takeover | null {
  const { policy, canAskWitness } = rules;
  const elapsedMs = now - row.readAt;
  // The request must have arrived before the window that the first one opened is over.
  const latestArrivalMs = row.firstLeasedMsAgo + elapsedMs + policy.exchangeTimeoutMs;
  if (policy.replayWindowMs > 0 && latestArrivalMs <= policy.replayWindowMs) return { delayMs: 0, asksWitness: false };

  const isHolderGone = row.outcomeUnknown && row.openLeases === 1;
  const delayMs = isHolderGone ? 0 : policy.takeoverDelayMs;
  const isExpired = row.accessTokenValidForSeconds * 1000 <= elapsedMs;
  if (isExpired) return { delayMs, asksWitness: false };
  if (policy.refreshEndsAccessToken && canAskWitness && !row.wasRejected) return { delayMs, asksWitness: true };
  const isNeverDecided = mayBeEnded(row, policy) && row.accessTokenValidForSeconds === Infinity;
  return demand.isRejected || row.wasRejected || isNeverDecided ? { delayMs, asksWitness: false } : null;
}

function rejectionPauseMs({ rejections }: LeasedRow): number {
  if (rejections < FREE_REJECTIONS) return 0;
  return Math.min(FIRST_REJECTION_PAUSE_MS * 2 ** (rejections - FREE_REJECTIONS), LONGEST_REJECTION_PAUSE_MS);
}

function lastTryFailed({ lastErrorCode }: LeasedRow, retryAfterMs: number): Refusal {
  return unavailable(`the last try failed (${lastErrorCode ?? 'unknown'})`, retryAfterMs);
}

/** It is decided when the access token expires: then the refresh token is sent, because there is nothing left to lose. */
function undecided(row: RefreshableRow, elapsedMs: number): Refusal {
  const retryAfterMs = Math.min(row.accessTokenValidForSeconds * 1000 - elapsedMs, Number.MAX_SAFE_INTEGER);
  return unavailable('a refresh was interrupted, and nothing tells whether it spent the refresh token', retryAfterMs);
}

function unavailable(cause: string, retryAfterMs: number): Refusal {
  return { reason: 'unavailable', cause, retryAfterMs: Math.max(1, retryAfterMs) };
}
