import type { RefreshPolicy } from '../identity-providers/refresh-policy.js';
import type { LeasedRow } from '../storage/leases/leased-row.js';
import type { ReauthenticationReason } from '../tokens.errors.js';

/** A row as {@link decide} needs it. Times are distances from the moment at which the row was read. */
export interface RefreshableRow extends LeasedRow {
  readonly hasRefreshToken: boolean;
  /** Seconds until the refresh token expires; negative when it has expired, Infinity when it never expires. */
  readonly refreshTokenValidForSeconds: number;
  /**
   * Seconds until the access token expires; negative or 0 when it has expired or there is none, Infinity when it never
   * expires.
   */
  readonly accessTokenValidForSeconds: number;
}

/** The part of the demand of a caller that decides about a refresh. */
export interface RefreshDemand {
  /** Whether the access token meets the demand, if no exchange has ended it. */
  readonly isMet: boolean;
  /** Whether the provider's API refused this access token. */
  readonly isRejected: boolean;
}

/** The rules for all rows of a provider. */
export interface RefreshRules {
  readonly policy: RefreshPolicy;
  /** OAuth client that redeems. If it is absent, the module does not compare it with the client of the grant. */
  readonly clientId?: string;
  /** Whether the module can ask the provider if an access token works. */
  readonly canAskWitness: boolean;
}

/** Why the module neither serves nor refreshes a row now. */
export type Refusal =
  | { readonly reason: ReauthenticationReason }
  /** The provider issued the grant to another client than the one that would redeem it. */
  | { readonly reason: 'other_client'; readonly issuedTo: string }
  /** The provider refuses this application. */
  | { readonly reason: 'misconfigured'; readonly code: string }
  | { readonly reason: 'unavailable'; readonly cause: string; readonly retryAfterMs?: number }
  /** Another exchange is under way and takes longer than the caller can wait. */
  | { readonly reason: 'in_progress' };

/** How a process takes over an abandoned row. */
export interface Takeover {
  /** Takeover delay: how long the process waits for the holder under its own lease, in milliseconds. */
  readonly delayMs: number;
  /** Whether the process asks the witness what became of the last exchange. */
  readonly asksWitness: boolean;
}

/** The next step with a row. */
export type Step =
  | { readonly kind: 'serve' }
  | { readonly kind: 'lease'; readonly takeover: Takeover | null }
  /** The caller waits until the exchange under way ends, at most until its lease expires. */
  | { readonly kind: 'wait' }
  | { readonly kind: 'refuse'; readonly refusal: Refusal };

const SERVE: Step = { kind: 'serve' };
/**
 * Number of refreshes without a pause after rejected tokens. If an API refuses two new tokens in a row, their age is
 * not the cause, and a refresh does not help.
 */
const FREE_REJECTIONS = 2;
const FIRST_REJECTION_PAUSE_MS = 1000;
const LONGEST_REJECTION_PAUSE_MS = 60_000;

/**
 * Returns the next step with a row. It is a pure function of the row, the demand, the rules and the time, and the only
 * place with the rules when to lease. The statement `acquire` only compares the state that was decided on with the
 * state of the locked row.
 *
 * @param now time of the monotonic clock, in milliseconds
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
  // The time of issue is of another clock after an import or a failover, and can be later than the present time.
  const issuedMsAgo = Math.max(0, row.issuedSecondsAgo) * 1000 + elapsedMs;
  const pauseMs = demand.isRejected ? rejectionPauseMs(row) - issuedMsAgo : 0;
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
          `the provider answered "${row.lastErrorCode ?? ''}", and another exchange of the same token may be the cause`,
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
 * Tells whether a stale access token still works. The module serves such a token while no refresh succeeds.
 *
 * @param now time of the monotonic clock, in milliseconds
 */
export function isUsable(row: RefreshableRow, demand: RefreshDemand, policy: RefreshPolicy, now: number): boolean {
  const isExpired = row.accessTokenValidForSeconds * 1000 <= now - row.readAt;
  return row.state !== 'ended' && !isExpired && !demand.isRejected && !mayBeEnded(row, policy);
}

/** Whether an exchange that did not end in an answer may have ended the access token. */
function mayBeEnded(row: LeasedRow, policy: RefreshPolicy): boolean {
  return policy.refreshEndsAccessToken && row.openLeases > 0 && !isYoungerThanExchange(row);
}

/** Whether a login has stored the access token since the first open exchange began. So the token is no witness of it. */
export function isYoungerThanExchange(
  row: Pick<LeasedRow, 'openLeases' | 'firstLeasedMsAgo' | 'issuedSecondsAgo'>,
): boolean {
  return row.openLeases > 0 && row.issuedSecondsAgo * 1000 < row.firstLeasedMsAgo;
}

/**
 * Returns how a process may take over an abandoned row, or null while no process may. The refresh token may be spent,
 * and a provider ends the grant when it receives a spent token. So the module does not risk an access token that may
 * still work.
 */
function takeoverOf(row: RefreshableRow, demand: RefreshDemand, rules: RefreshRules, now: number): Takeover | null {
  const { policy, canAskWitness } = rules;
  const elapsedMs = now - row.readAt;
  // The request must arrive before the replay window ends. The window began with the first lease under which a process
  // may have sent the token.
  const latestArrivalMs = row.firstLeasedMsAgo + elapsedMs + policy.exchangeTimeoutMs;
  if (policy.replayWindowMs > 0 && latestArrivalMs <= policy.replayWindowMs) return { delayMs: 0, asksWitness: false };

  const isHolderGone = row.outcomeUnknown && row.openLeases === 1;
  const delayMs = isHolderGone ? 0 : policy.takeoverDelayMs;
  const isExpired = row.accessTokenValidForSeconds * 1000 <= elapsedMs;
  if (isExpired) return { delayMs, asksWitness: false };
  const isWitness = !row.wasRejected && !isYoungerThanExchange(row);
  if (policy.refreshEndsAccessToken && canAskWitness && isWitness) return { delayMs, asksWitness: true };
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

/**
 * Tells the caller to try again when the access token expires. A process then sends the refresh token, because there is
 * no working access token left to lose.
 */
function undecided(row: RefreshableRow, elapsedMs: number): Refusal {
  const retryAfterMs = Math.min(row.accessTokenValidForSeconds * 1000 - elapsedMs, Number.MAX_SAFE_INTEGER);
  return unavailable(
    'an exchange ended without an answer, and the module cannot tell whether it spent the refresh token',
    retryAfterMs,
  );
}

function unavailable(cause: string, retryAfterMs: number): Refusal {
  return { reason: 'unavailable', cause, retryAfterMs: Math.max(1, retryAfterMs) };
}
