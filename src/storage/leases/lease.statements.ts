import { defineStatement, noColumns, type Statement } from '../../postgres/statement.js';
import { leaseColumns, type LeasedRow, leaseState } from './leased-row.js';
import { keyCondition, type LeasedTableShape, type ParameterColumn, RESET } from './leased-table-shape.js';
import { type FailureKind, RANDOM_VERSION } from './leased.entity.js';

/** The request of a caller for a lease. */
export interface LeaseRequest {
  readonly leaseId: string;
  readonly leaseMs: number;
  /** The version and the state that the caller has seen. PostgreSQL grants the lease only if the row still has both. */
  readonly seenVersion: string;
  readonly seenState: string;
  /** Whether the provider's API refused the access token. */
  readonly isRejected: boolean;
}

/**
 * Why PostgreSQL refused a lease. `replaced`: the row has another version. `locked`: a transaction has the row locked.
 * `changed`: the row has another state.
 */
export type LeaseRefusal = 'replaced' | 'locked' | 'changed';

/** The answer to one caller that asked for a lease: the row, and the time of the grant or the reason of the refusal. */
export interface LeaseAnswer<Row> {
  readonly row: Row;
  /** Epoch seconds of the database; null when PostgreSQL refused the lease. */
  readonly grantedAt: number | null;
  readonly refusal: LeaseRefusal | null;
}

/** What a commit writes beside the new tokens. */
export interface Successor {
  readonly version: string;
  readonly redeemedVersion: string;
  /**
   * When the process sent the request, in epoch seconds of the database. The time of the answer would be wrong, because
   * the operating system can stop the process in between. The process would then take its older pair for the newer
   * sibling, and compute a wrong lifetime of its access token.
   */
  readonly issuedAt: number;
  readonly clientId: string | null;
  readonly rejections: number;
}

/** The end of a lease that led to no tokens. */
export interface LeaseEnd {
  readonly leaseId: string;
  readonly failureKind: FailureKind | null;
  readonly errorCode: string | null;
  /** Milliseconds for which no process tries again; null when nothing failed. */
  readonly backoffMs: number | null;
}

type At<Row> = Row & { readonly position: number };

/** The statements that lease a row and end its lease, named by what they do. */
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

/** One array for each parameter, with the values of many callers. */
export type Columns<Params> = { readonly [Name in keyof Params]: readonly Params[Name][] };

/** The request of a holder to renew its lease. */
export interface RenewRequest {
  readonly leaseId: string;
  readonly leaseMs: number;
  readonly seenVersion: string;
  /** Whether the caller knows that no earlier exchange redeemed the token. */
  readonly isUnspent: boolean;
}

/** A verdict about a refresh token. */
export interface Rejection {
  readonly leaseId: string;
  readonly seenVersion: string;
  readonly quarantineMs: number;
  readonly errorCode: string;
  /** Whether the grant ends in any case, without a quarantine. */
  readonly isCertain: boolean;
}

/** Returns the statements for the leases of a table. Each is one round trip, and autocommits. */
export function leaseStatements<Key extends object, Tokens extends object, Row extends LeasedRow>(
  shape: LeasedTableShape<Key, Tokens, Row>,
): LeaseStatements<Key, Tokens, Row> {
  const { label, content, table, id } = shape;

  // A transaction of the host can have the row locked for any time. A statement that waits for it holds a connection,
  // and that transaction may itself wait for a connection. So the statement fails at once, and the caller tries again.
  const unlockedRow = `stored.${id} = (SELECT own.${id} FROM ${table} AS own
         WHERE ${keyCondition(shape, 'own')} FOR NO KEY UPDATE NOWAIT)`;

  // The SQL names each column with its alias, because a column that the host added to the table can have any name.
  const asked = (parameters: readonly ParameterColumn[]): string => {
    const arrays = parameters.map(({ parameter, type }) => `(SELECT $${parameter}::${type}[])`);
    const names = parameters.map(({ column }) => column);
    return `unnest(${arrays.join(', ')}) WITH ORDINALITY AS asked (${names.join(', ')}, position)
         JOIN ${table} AS stored ON ${shape.key.map(({ column }) => `stored.${column} = asked.${column}`).join(' AND ')}`;
  };
  // The statement skips locked rows. A transaction of the host has them locked, or a statement of another process. If
  // two statements waited for rows of each other, PostgreSQL would end one of them.
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
  const isVerdict = '($isCertain::boolean OR stored.open_leases <= 1 OR stored.quarantined_until IS NOT NULL)';
  /** Sets columns by whether a verdict is about the refresh token alone: then to the first value, else to the second. */
  const dropped = (columns: Record<string, readonly [string, string]>): string => {
    const { droppedRefreshToken } = shape;
    if (!droppedRefreshToken)
      return Object.entries(columns)
        .map(([name, [, value]]) => `${name} = ${value}`)
        .join(', ');
    const isAlone = `${isVerdict} AND stored.issued_at > stored.first_leased_at`;
    const own = Object.entries(droppedRefreshToken).map(([name, value]) => [name, [value, `stored.${name}`]] as const);
    return [...Object.entries(columns), ...own]
      .map(([name, [alone, value]]) => `${name} = CASE WHEN ${isAlone} THEN ${alone} ELSE ${value} END`)
      .join(', ');
  };
  const ownTokens = newTokens((_, parameter) => `$${parameter}`);

  return {
    // Leases rows for many callers at once. PostgreSQL compares the version and the state that the caller has seen with
    // those of the locked row. A refusal returns the row as it is now. The statement clears `retry_at`, because a lease
    // is a new try and ends the backoff of an earlier one.
    acquire: defineStatement({
      label: `acquire_${label}`,
      action: `lease ${content} for a refresh`,
      isRepeatable: true, // the second try gets the same lease, by its id
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

    // The lease is no condition, because the process that got the answer has the only live token.
    commit: defineStatement({
      label: `commit_${label}`,
      action: `store refreshed ${content}`,
      isRepeatable: true, // the second try has no effect, because the row has another version
      text: `UPDATE ${table} AS stored SET ${ownTokens}
         WHERE ${unlockedRow} AND stored.token_version = $redeemedVersion RETURNING stored.token_version`,
      read: noColumns,
    }),

    // Commits for many callers at once. The statement skips locked rows, so it does not decide about tokens that it did
    // not store. The statement `commit` decides about each of them.
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

    // Two exchanges of one token both got tokens inside the replay window. The row keeps the newer ones, because these
    // are live.
    commitNewerSibling: defineStatement({
      label: `commit_newer_sibling_${label}`,
      action: `store refreshed ${content}`,
      isRepeatable: true,
      text: `UPDATE ${table} AS stored SET ${ownTokens}
         WHERE ${unlockedRow} AND stored.parent_version = $redeemedVersion
           AND stored.issued_at < to_timestamp($issuedAt::float8) RETURNING stored.token_version`,
      read: noColumns,
    }),

    // Earlier leases stay open, because their exchanges may have redeemed the token.
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

    // The row keeps the lease until it expires, because the provider may have redeemed the token. Callers do not wait
    // for that.
    giveUp: defineStatement({
      label: `give_up_${label}`,
      action: 'note a lost answer',
      isRepeatable: true,
      text: `UPDATE ${table} AS stored SET lease_outcome_unknown = true, failure_kind = 'transient', last_error_code = $errorCode,
           failure_count = least(stored.failure_count + 1, 32767), updated_at = now()
         WHERE ${unlockedRow} AND stored.lease_id = $leaseId RETURNING stored.lease_id`,
      read: noColumns,
    }),

    // While an earlier lease is open, its holder may have replaced the tokens that the verdict is about. So the first
    // verdict puts the row in quarantine. A second verdict after the quarantine ends the grant. If a login has replaced
    // the access token since the exchange began, the verdict is about the refresh token alone, and the row drops it.
    reject: defineStatement({
      label: `reject_${label}`,
      action: 'record a rejected refresh token',
      isRepeatable: true,
      text: `UPDATE ${table} AS stored SET lease_id = NULL, lease_expires_at = NULL, last_error_code = $errorCode,
           failure_kind = 'transient', updated_at = now(),
           ${dropped({
             open_leases: ['0', 'greatest(stored.open_leases - 1, 0)'],
             first_leased_at: ['NULL', 'CASE WHEN stored.open_leases > 1 THEN stored.first_leased_at END'],
             token_version: [RANDOM_VERSION, 'stored.token_version'],
             status: [
               'stored.status',
               `CASE WHEN ${isVerdict} THEN 'reauthentication_required' ELSE stored.status END`,
             ],
           })},
           quarantined_until = CASE WHEN ${isVerdict} THEN NULL ELSE now() + $quarantineMs::float8 * interval '1 ms' END
         WHERE ${unlockedRow} AND stored.lease_id = $leaseId AND stored.token_version = $seenVersion
         RETURNING stored.status`,
      read: (row) => (row.status === 'active' ? 'quarantined' : 'ended'),
    }),
  };
}
