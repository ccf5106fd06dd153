import type { QueryResultRow } from 'pg';

/** A column, and the parameter that has its value in statements. */
export interface ParameterColumn<Parameter extends string = string> {
  readonly column: string;
  /** Name of the type in PostgreSQL. */
  readonly type: string;
  readonly parameter: Parameter;
}

/** What a store writes beside the tokens: their version, and the OAuth client to which the provider issued them. */
export interface Stamp {
  readonly version: string;
  /** Null when it is not known. */
  readonly clientId: string | null;
}

/** Describes one table whose refresh tokens the module redeems. */
export interface LeasedTableShape<Key, Tokens, Row> {
  /** Part of the names of its statements. */
  readonly label: string;
  /** What a row has, for error messages: "tokens". */
  readonly content: string;
  /** Quoted path. */
  readonly table: string;
  /** Column that names a row from its first store to its deletion. */
  readonly id: string;
  readonly key: readonly ParameterColumn<keyof Key & string>[];
  readonly tokens: readonly ParameterColumn<keyof Tokens & string>[];
  /** The columns of the refresh token beside an access token, with the SQL values that drop it; absent = none. */
  readonly droppedRefreshToken?: Readonly<Record<string, string>>;
  /** The columns to read beside those of the lease, of the alias `stored`. */
  readonly columns: string;
  readonly read: (row: QueryResultRow) => Row;
}

/** The state of the refresh after a statement stored a new refresh token, as SQL values of the columns. */
export const CLEAR_STATE = {
  lease_id: 'NULL',
  lease_expires_at: 'NULL',
  lease_outcome_unknown: 'false',
  open_leases: '0',
  first_leased_at: 'NULL',
  retry_at: 'NULL',
  failure_count: '0',
  failure_kind: 'NULL',
  last_error_code: 'NULL',
  access_token_rejected: 'false',
  quarantined_until: 'NULL',
  status: "'active'",
} as const;

/** SQL that clears the state of the refresh when a statement stores new tokens. */
export const RESET = `${Object.entries(CLEAR_STATE)
  .map(([column, value]) => `${column} = ${value}`)
  .join(', ')}, updated_at = clock_timestamp()`;

/** Returns the SQL condition that names the row of a key. @param row alias of the table */
export function keyCondition({ key }: { key: readonly ParameterColumn[] }, row: string): string {
  return key.map(({ column, parameter }) => `${row}.${column} = $${parameter}`).join(' AND ');
}
