import { defineStatement, noColumns, type Statement } from '../../postgres/statement.js';
import { leaseColumns, type LeasedRow, leaseState } from './leased-row.js';
import { keyCondition, type LeasedTableShape, type ParameterColumn, RESET } from './leased-table-shape.js';
import { type FailureKind } from './leased.entity.js';

/** What a caller asks a lease for. */
export interface LeaseRequest {
  readonly leaseId: string;
  readonly leaseMs: number;
  /** The version and the state that the caller has seen: the row is leased only if it still has both. */
  readonly seenVersion: string;
  readonly seenState: string;
  /** Whether the provider's API refused the access token. */
  readonly isRejected: boolean;
}

/** Why a lease was refused: the row was replaced, is locked by a transaction, or is in another state by now. */
export type LeaseRefusal = 'replaced' | 'locked' | 'changed';

/** The answer to one caller who asked for a lease: the row, and when or why not. */
export interface LeaseAnswer<Row> {
  readonly row: Row;
  /** Epoch seconds of the database; null when it was refused. */
  readonly grantedAt: number | null;
  readonly refusal: LeaseRefusal | null;
}

/** New tokens on their way into the row whose refresh token was redeemed for them. */
export interface Successor {
  readonly version: string;
  readonly redeemedVersion: string;
  /**
   * Epoch seconds of the database when the request was sent. Not when the answer was read: a process that was stopped
   * in between would take its old pair for the newer of two, and its access token for longer-lived than it is.
   */
  readonly issuedAt: number;
  readonly clientId: string | null;
  readonly rejections: number;
}

/** The end of a lease that brought no tokens. */
export interface LeaseEnd {
  readonly leaseId: string;
  readonly failureKind: FailureKind | null;
  readonly errorCode: string | null;
  /** Milliseconds without a further try; null when nothing failed. */
  readonly backoffMs: number | null;
}

type At<Row> = Row & { readonly position: number };

/** The statements that lease a row and end its lease, by what they do. */
export interface LeaseStatements<Key extends object, Tokens extends object, Row> {
  readonly acquire: Statement<Columns<Key & LeaseRequest>, At<LeaseAnswer<Row>>>;
  readonly renew: Statement<Key & RenewRequest, number>;
  readonly commit: Statement<Key & Tokens & Successor, true>;
  readonly commitMany: Statement<Columns<Key & Tokens & Successor>, { readonly position: number }>;
  readonly commitNewerSibling: Statement<Key & Tokens & Successor, true>;
  readonly release: Statement<Key & LeaseEnd, true>;
  readonly giveUp: Statement<Key & { leaseId: string; errorCode: string }, true>;
  readonly reject: Statement<Key & Rejection, 'quarantined' | 'ended'>;
}

/** Each parameter of many callers as an array. */
export type Columns<Params> = { readonly [Name in keyof Params]: readonly Params[Name][] };

/** A lease for another while, by its holder. */
export interface RenewRequest {
  readonly leaseId: string;
  readonly leaseMs: number;
  readonly seenVersion: string;
  /** Whether it is known that no exchange before redeemed the token. */
  readonly isUnspent: boolean;
}

/** A verdict of the provider. */
export interface Rejection {
  readonly leaseId: string;
  readonly seenVersion: string;
  readonly quarantineMs: number;
  readonly errorCode: string;
  /** Whether it is believed in any case. */
  readonly isCertain: boolean;
}

/** One statement each for what the leases of a table need. Each is one round trip, and autocommits. */
export function leaseStatements<Key extends object, Tokens extends object, Row extends LeasedRow>(
  shape: LeasedTableShape<Key, Tokens, Row>,
): LeaseStatements<Key, Tokens, Row> {
  const { label, content, table, id } = shape;

  // A transaction of the host may hold the row for as long as it pleases. Waiting for it would hold a connection, which
  // that transaction may itself be waiting for; the caller tries again instead.
  const unlockedRow = `stored.${id} = (SELECT own.${id} FROM ${table} AS own
         WHERE ${keyCondition(shape, 'own')} FOR NO KEY UPDATE NOWAIT)`;

  // Everything is named by its alias: a column that the host has added to the table may have any name.
  const asked = (parameters: readonly ParameterColumn[]): string => {
    const arrays = parameters.map(({ parameter, type }) => `(SELECT $${parameter}::${type}[])`);
    const names = parameters.map(({ column }) => column);
    return `unnest(${arrays.join(', ')}) WITH ORDINALITY AS asked (${names.join(', ')}, position)
         JOIN ${table} AS stored ON ${shape.key.map(({ column }) => `stored.${column} = asked.${column}`).join(' AND ')}`;
  };
  // Skipped, not waited for, is what a transaction of the host holds, and what another process has in its statement: of
  // two statements that waited for each other's rows PostgreSQL would end one.
  const unlocked = (parameters: readonly ParameterColumn[]): string =>
    `unlocked AS MATERIALIZED (
       SELECT stored.${id} AS row_id, asked.* FROM ${asked(parameters)} FOR NO KEY UPDATE OF stored SKIP LOCKED)`;

  const rowColumns = `stored.${id}::text AS row_id, ${leaseColumns('stored')}, ${shape.columns}`;
  const request = [
    ...shape.key,
    { column: 'lease_id', type: 'bigint', parameter: 'leaseId' },
    { column: 'lease_ms', type: 'bigint', parameter: 'leaseMs' },
    { column: 'seen_version', type: 'bigint', parameter: 'seenVersion' },
    { column: 'seen_state', type: 'text', parameter: 'seenState' },
    { column: 'is_rejected', type: 'boolean', parameter: 'isRejected' },
  ] as const;
  const successor = [
    { column: 'version', type: 'bigint', parameter: 'version' },
    { column: 'redeemed_version', type: 'bigint', parameter: 'redeemedVersion' },
    { column: 'issued_at', type: 'float8', parameter: 'issuedAt' },
    { column: 'client_id', type: 'text', parameter: 'clientId' },
    { column: 'rejections', type: 'bigint', parameter: 'rejections' },
  ] as const;
  const newTokens = (value: (column: string, parameter: string) => string): string =>
    `${shape.tokens.map(({ column, parameter }) => `${column} = ${value(column, parameter)}`).join(', ')},
           token_version = ${value('version', 'version')}, parent_version = ${value('redeemed_version', 'redeemedVersion')},
           issued_at = to_timestamp(${value('issued_at', 'issuedAt')}::float8),
           client_id = ${value('client_id', 'clientId')}, rejections = ${value('rejections', 'rejections')}, ${RESET}`;
  const ownTokens = newTokens((_, parameter) => `$${parameter}`);

  return {
    // For many callers at once. The state is judged once more, on the locked row; a refusal says what the row is now. A lease
    // is a new try: no backoff of an earlier one outlives it.
    acquire: defineStatement({
      label: `acquire_${label}`,
      action: `lease ${content} for a refresh`,
      isRepeatable: true, // under the same id it is granted again
      text: `WITH ${unlocked(request)},
       granted AS (
         UPDATE ${table} AS stored SET lease_id = unlocked.lease_id,
             lease_expires_at = now() + unlocked.lease_ms * interval '1 ms', lease_outcome_unknown = false,
             open_leases = least(stored.open_leases + CASE WHEN stored.lease_id = unlocked.lease_id THEN 0 ELSE 1 END, 32767),
             first_leased_at = coalesce(stored.first_leased_at, now()), retry_at = NULL, updated_at = now(),
             access_token_rejected = stored.access_token_rejected OR unlocked.is_rejected AND stored.open_leases = 0
           FROM unlocked
           WHERE stored.${id} = unlocked.row_id AND stored.token_version = unlocked.seen_version
             AND (stored.lease_id = unlocked.lease_id OR ${leaseState('stored', 'now()')} = unlocked.seen_state)
           RETURNING unlocked.position, date_part('epoch', now()) AS granted_at, NULL AS refusal, ${rowColumns})
       SELECT * FROM granted
       UNION ALL
       SELECT asked.position, NULL, CASE WHEN stored.token_version <> asked.seen_version THEN 'replaced'
             WHEN ${leaseState('stored', 'now()')} <> asked.seen_state THEN 'changed' ELSE 'locked' END, ${rowColumns}
         FROM ${asked(request)} WHERE NOT EXISTS (SELECT FROM granted WHERE granted.position = asked.position)`,
      read: (row) => ({
        position: Number(row.position),
        row: shape.read(row),
        grantedAt: row.granted_at === null ? null : Number(row.granted_at),
        refusal: row.refusal as LeaseRefusal | null,
      }),
    }),

    renew: defineStatement({
      label: `renew_${label}`,
      action: `keep the lease of ${content}`,
      isRepeatable: true,
      text: `UPDATE ${table} AS stored SET lease_expires_at = now() + $leaseMs::bigint * interval '1 ms',
           open_leases = CASE WHEN $isUnspent::boolean THEN 1 ELSE stored.open_leases END,
           first_leased_at = CASE WHEN $isUnspent::boolean THEN now() ELSE stored.first_leased_at END, updated_at = now()
         WHERE ${unlockedRow} AND stored.lease_id = $leaseId AND stored.token_version = $seenVersion
         RETURNING date_part('epoch', now()) AS granted_at`,
      read: (row) => Number(row.granted_at),
    }),

    // The lease is no condition: the process that got the answer holds the only live token.
    commit: defineStatement({
      label: `commit_${label}`,
      action: `store refreshed ${content}`,
      isRepeatable: true, // a second time the version is another
      text: `UPDATE ${table} AS stored SET ${ownTokens}
         WHERE ${unlockedRow} AND stored.token_version = $redeemedVersion RETURNING stored.token_version`,
      read: noColumns,
    }),

    // As commit, for many at once. What it does not store is not decided yet: its row may only be locked.
    commitMany: defineStatement({
      label: `commit_many_${label}`,
      action: `store refreshed ${content}`,
      isRepeatable: true,
      text: `WITH ${unlocked([
        ...shape.key,
        ...shape.tokens.map((each) => ({ ...each, column: `new_${each.column}` })),
        ...successor.map((each) => ({ ...each, column: `new_${each.column}` })),
      ])}
       UPDATE ${table} AS stored SET ${newTokens((column) => `unlocked.new_${column}`)}
         FROM unlocked WHERE stored.${id} = unlocked.row_id AND stored.token_version = unlocked.new_redeemed_version
         RETURNING unlocked.position`,
      read: (row) => ({ position: Number(row.position) }),
    }),

    // Two exchanges of one token in the provider's replay window both got tokens: the newer ones are live.
    commitNewerSibling: defineStatement({
      label: `commit_newer_sibling_${label}`,
      action: `store refreshed ${content}`,
      isRepeatable: true,
      text: `UPDATE ${table} AS stored SET ${ownTokens}
         WHERE ${unlockedRow} AND stored.parent_version = $redeemedVersion
           AND stored.issued_at < to_timestamp($issuedAt::float8) RETURNING stored.token_version`,
      read: noColumns,
    }),

    // The leases before stay open: their exchanges may have redeemed the token all the same.
    release: defineStatement({
      label: `release_${label}`,
      action: `release the lease of ${content}`,
      isRepeatable: true,
      text: `UPDATE ${table} AS stored SET lease_id = NULL, lease_expires_at = NULL,
           open_leases = greatest(stored.open_leases - 1, 0),
           first_leased_at = CASE WHEN stored.open_leases > 1 THEN stored.first_leased_at END,
           failure_count = least(stored.failure_count + CASE WHEN $failureKind::text IS NULL THEN 0 ELSE 1 END, 32767),
           failure_kind = coalesce($failureKind::text, stored.failure_kind),
           last_error_code = coalesce($errorCode::text, stored.last_error_code),
           retry_at = now() + $backoffMs::float8 * interval '1 ms', updated_at = now()
         WHERE ${unlockedRow} AND stored.lease_id = $leaseId RETURNING stored.lease_id`,
      read: noColumns,
    }),

    // The lease stays and runs out, because its token may have been redeemed; callers do not wait for it.
    giveUp: defineStatement({
      label: `give_up_${label}`,
      action: 'note a lost answer',
      isRepeatable: true,
      text: `UPDATE ${table} AS stored SET lease_outcome_unknown = true, failure_kind = 'transient', last_error_code = $errorCode,
           failure_count = least(stored.failure_count + 1, 32767), updated_at = now()
         WHERE ${unlockedRow} AND stored.lease_id = $leaseId RETURNING stored.lease_id`,
      read: noColumns,
    }),

    // With a takeover behind it the verdict may be about tokens that another holder already replaced: it is believed only
    // when it comes again after the quarantine.
    reject: defineStatement({
      label: `reject_${label}`,
      action: 'record a rejected refresh token',
      isRepeatable: true,
      text: `UPDATE ${table} AS stored SET lease_id = NULL, lease_expires_at = NULL, last_error_code = $errorCode,
           failure_kind = 'transient', open_leases = greatest(stored.open_leases - 1, 0), updated_at = now(),
           first_leased_at = CASE WHEN stored.open_leases > 1 THEN stored.first_leased_at END,
           status = CASE WHEN $isCertain::boolean OR stored.open_leases <= 1 OR stored.quarantined_until IS NOT NULL
             THEN 'reauthentication_required' ELSE stored.status END,
           quarantined_until = CASE WHEN $isCertain::boolean OR stored.open_leases <= 1 OR stored.quarantined_until IS NOT NULL
             THEN NULL ELSE now() + $quarantineMs::float8 * interval '1 ms' END
         WHERE ${unlockedRow} AND stored.lease_id = $leaseId AND stored.token_version = $seenVersion
         RETURNING stored.status`,
      read: (row) => (row.status === 'active' ? 'quarantined' : 'ended'),
    }),
  };
}
