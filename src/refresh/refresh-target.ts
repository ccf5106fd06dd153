import type { AccessTokenLife } from '../identity-providers/identity-provider.js';
import type { Lease } from '../storage/leases/lease.js';
import type { Successor } from '../storage/leases/lease.statements.js';
import type { LeasedTable } from '../storage/leases/leased.table.js';
import type { Refusal, RefreshableRow, RefreshRules } from './refresh-decision.js';

/** What tells the refreshes of one table from those of another. */
export interface RefreshKind {
  /** What names a row. */
  readonly key: object;
  readonly row: RefreshableRow;
  /** What a refresh stores, sealed. */
  readonly tokens: object;
  /** What a refresh brings to its callers beside the row. */
  readonly issued: unknown;
}

/** What one attempt to redeem a leased refresh token came to. `code` is an OAuth or transport code. */
export type ExchangeOutcome<Kind extends RefreshKind> =
  | { readonly kind: 'success'; readonly tokens: Kind['tokens']; readonly issued: Kind['issued'] }
  /** The provider says that the refresh token is no longer good. */
  | { readonly kind: 'terminal'; readonly code: string }
  /** The provider refuses this application or its request; the refresh token is untouched. */
  | { readonly kind: 'configuration'; readonly code: string; readonly error?: Error }
  /** The refresh token was certainly not redeemed; a later attempt can succeed. */
  | { readonly kind: 'not-redeemed'; readonly code: string; readonly retryAfterMs?: number }
  /** The answer was lost: the refresh token may or may not have been redeemed. */
  | { readonly kind: 'ambiguous'; readonly code: string }
  /** The stored tokens are to be kept. */
  | { readonly kind: 'unchanged' }
  /** The redeemer threw: nothing was sent, or it alone knows. The lease goes back, and the error to the callers. */
  | { readonly kind: 'threw'; readonly error: unknown };

/** Tokens that were redeemed, on their way into the row with this id. */
export interface NewTokens<Kind extends RefreshKind> {
  readonly rowId: string;
  readonly successor: Kind['tokens'] & Successor;
}

/** One row to refresh: where it is, by which rules, and how its token is redeemed. */
export interface RefreshTarget<Kind extends RefreshKind> {
  /** Names the row among those of all tables. */
  readonly name: string;
  /** What it holds, for the log: `tokens of user "u" at "github"`. */
  readonly subject: string;
  readonly key: Kind['key'];
  readonly leases: LeasedTable<Kind['key'], Kind['tokens'], Kind['row']>;
  readonly rules: RefreshRules;
  /** Whether a request whose answer is lost is sent once more, under the same lease. */
  readonly mayResend: boolean;
  /** The client that new tokens are issued to. */
  clientIdOf(row: Kind['row']): string | null;
  /** Loads the row as it is committed, outside of every transaction. */
  load(): Promise<Kind['row'] | null>;
  /**
   * Redeems the refresh token of a leased row, which it opens before anything is sent. Must not reject.
   */
  redeem(lease: Lease<Kind['row']>): Promise<ExchangeOutcome<Kind>>;
  /** Asks whether the old access token is alive; must not reject. */
  askWitness?(row: Kind['row']): Promise<AccessTokenLife>;
  /** The row as a commit leaves it. @param now epoch seconds of the database */
  committed(tokens: NewTokens<Kind>, now: number): Kind['row'];
  /** Takes care of tokens whose row was deleted while they were redeemed. */
  disown(tokens: NewTokens<Kind>): Promise<void>;
  /** The typed error of a refusal. */
  errorOf(refusal: Refusal): Error;
}

/** How one refresh ended, for everyone who waited for it. */
export type RefreshResult<Kind extends RefreshKind> =
  | { readonly kind: 'refreshed'; readonly row: Kind['row']; readonly issued: Kind['issued'] }
  /** The redeemer decided to keep the tokens. */
  | { readonly kind: 'unchanged'; readonly row: Kind['row'] }
  /**
   * The row is another, or in another state, or deleted: every caller decides anew. `issued` is what was redeemed although
   * it has no place any more.
   */
  | { readonly kind: 'moved'; readonly row: Kind['row'] | null; readonly issued?: Kind['issued'] }
  /** A token that still works, by the row as it is now, may be used all the same. */
  | { readonly kind: 'failed'; readonly error: unknown }
  /** The redeemer threw, for a reason of its own. */
  | { readonly kind: 'threw'; readonly error: unknown };

/** What is known of the tokens that are refreshed. */
export interface RefreshRequest {
  /** Whether the provider's API refused the access token; a caller who joins may report it until the lease is asked for. */
  isRejected: boolean;
}

/** A refresh that this process has under way. */
export interface RefreshInFlight<Kind extends RefreshKind> {
  readonly result: Promise<RefreshResult<Kind>>;
  /** Settles after the result, when no commit is pending any more. Until then no other refresh of the row may start. */
  readonly settled: Promise<unknown>;
}

/** A refresh that ends with a refusal. */
export function failed<Kind extends RefreshKind>(target: RefreshTarget<Kind>, refusal: Refusal): RefreshResult<Kind> {
  return { kind: 'failed', error: target.errorOf(refusal) };
}

/** A refresh that takes longer than a caller can wait. */
export function inProgress<Kind extends RefreshKind>(target: RefreshTarget<Kind>): RefreshResult<Kind> {
  return failed(target, { reason: 'in_progress' });
}

/** A refresh that must not start any more. */
export function shuttingDown<Kind extends RefreshKind>(target: RefreshTarget<Kind>): RefreshResult<Kind> {
  return failed(target, { reason: 'unavailable', cause: 'the application is shutting down' });
}
