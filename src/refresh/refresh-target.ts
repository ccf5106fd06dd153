import type { AccessTokenLife } from '../identity-providers/identity-provider.js';
import type { Lease } from '../storage/leases/lease.js';
import type { Successor } from '../storage/leases/lease.statements.js';
import type { LeasedTable } from '../storage/leases/leased.table.js';
import type { Refusal, RefreshableRow, RefreshRules } from './refresh-decision.js';

/** The types that differ between the refreshes of two tables. */
export interface RefreshKind {
  /** Names a row. */
  readonly key: object;
  readonly row: RefreshableRow;
  /** The sealed tokens that a refresh stores. */
  readonly tokens: object;
  /** What callers get from a refresh beside the row. */
  readonly issued: unknown;
}

/** The outcome of one attempt to redeem a leased refresh token. `code` is an OAuth or transport code. */
export type ExchangeOutcome<Kind extends RefreshKind> =
  | { readonly kind: 'success'; readonly tokens: Kind['tokens']; readonly issued: Kind['issued'] }
  /** The provider says that the refresh token is no longer valid. */
  | { readonly kind: 'terminal'; readonly code: string }
  /** The provider refuses this application or its request; the refresh token is untouched. */
  | { readonly kind: 'configuration'; readonly code: string; readonly error?: Error }
  /** The provider certainly did not redeem the refresh token. A later attempt can succeed. */
  | { readonly kind: 'not-redeemed'; readonly code: string; readonly retryAfterMs?: number }
  /** The outcome is unknown, because the answer is lost. */
  | { readonly kind: 'ambiguous'; readonly code: string }
  /** The redeemer decided to keep the stored tokens. */
  | { readonly kind: 'unchanged' }
  /**
   * The redeemer threw. It sent nothing, or only it knows what it sent. The process gives the lease back, and the
   * callers get the error.
   */
  | { readonly kind: 'threw'; readonly error: unknown };

/** New tokens that a redeemer got for a row. */
export interface NewTokens<Kind extends RefreshKind> {
  /** The row whose refresh token was redeemed. */
  readonly redeemed: Kind['row'];
  readonly successor: Kind['tokens'] & Successor;
}

/** One row to refresh, with its statements, its rules and the way to redeem its token. */
export interface RefreshTarget<Kind extends RefreshKind> {
  /** Names the row among those of all tables. */
  readonly name: string;
  /** What the row has, for the log: `tokens of user "u" at "github"`. */
  readonly subject: string;
  readonly key: Kind['key'];
  readonly leases: LeasedTable<Kind['key'], Kind['tokens'], Kind['row']>;
  readonly rules: RefreshRules;
  /** Whether the process sends a request a second time, under the same lease, when its answer is lost. */
  readonly mayResend: boolean;
  /** Returns the OAuth client to which the provider issues the new tokens; null when it is not known. */
  clientIdOf(row: Kind['row']): string | null;
  /** Loads the row as it is committed, outside of every transaction. */
  load(): Promise<Kind['row'] | null>;
  /** Redeems the refresh token of a leased row. Opens the token before it sends anything. Must not reject. */
  redeem(lease: Lease<Kind['row']>): Promise<ExchangeOutcome<Kind>>;
  /** Asks whether the old access token is alive. Must not reject. */
  askWitness?(row: Kind['row']): Promise<AccessTokenLife>;
  /** Returns the row as it is after a commit. @param now epoch seconds of the database */
  committed(tokens: NewTokens<Kind>, now: number): Kind['row'];
  /** Whether a row has the grant of the redeemed one, whatever its tokens are. */
  isOfGrant(row: Kind['row'], redeemed: Kind['row']): boolean;
  /** Handles new tokens whose grant the host ended during the exchange. */
  disown(tokens: NewTokens<Kind>): Promise<void>;
  /** Returns the typed error of a refusal. */
  errorOf(refusal: Refusal): Error;
}

/** How one refresh ended, for all callers that waited for it. */
export type RefreshResult<Kind extends RefreshKind> =
  | {
      readonly kind: 'refreshed';
      readonly row: Kind['row'];
      readonly issued: Kind['issued'];
      /** Settles when the tokens are stored or lost; absent when they are already. Never rejects. */
      readonly pendingCommit?: Promise<unknown>;
    }
  /** The redeemer decided to keep the tokens. */
  | { readonly kind: 'unchanged'; readonly row: Kind['row'] }
  /**
   * The row has another version or another state, or it was deleted. Every caller decides anew. `issued` is what the
   * exchange got, although the row does not have it.
   */
  | { readonly kind: 'moved'; readonly row: Kind['row'] | null; readonly issued?: Kind['issued'] }
  /** The refresh failed. A caller loads the row again, and may use its access token if that still works. */
  | { readonly kind: 'failed'; readonly error: unknown }
  /** The redeemer threw this error. */
  | { readonly kind: 'threw'; readonly error: unknown };

/** What the callers of a flight know of its tokens. */
export interface RefreshRequest {
  /**
   * Whether the provider's API refused the access token. A caller that joins can set it until the process asks for the
   * lease.
   */
  isRejected: boolean;
}

/** Returns the result of a refresh that ends with a refusal. */
export function failed<Kind extends RefreshKind>(target: RefreshTarget<Kind>, refusal: Refusal): RefreshResult<Kind> {
  return { kind: 'failed', error: target.errorOf(refusal) };
}

/** Returns the result of a refresh that takes longer than a caller can wait. */
export function inProgress<Kind extends RefreshKind>(target: RefreshTarget<Kind>): RefreshResult<Kind> {
  return failed(target, { reason: 'in_progress' });
}

/** Returns the result of a refresh that must not start during a shutdown. */
export function shuttingDown<Kind extends RefreshKind>(target: RefreshTarget<Kind>): RefreshResult<Kind> {
  return failed(target, { reason: 'unavailable', cause: 'the application is shutting down' });
}
