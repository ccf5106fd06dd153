import { Column } from 'typeorm';

/** Whether the grant of a refresh token is alive, by the answers of the provider. */
export type GrantStatus = 'active' | 'reauthentication_required';

/**
 * Why the last refresh failed. `configuration`: the provider refuses the application. `transient`: a later try can
 * succeed. `undecided`: the module cannot tell whether the refresh token is spent.
 */
export type FailureKind = 'configuration' | 'transient' | 'undecided';

/** The error code of a grant that ended because its access token was dead before the expiry. */
export const ACCESS_TOKEN_DEAD = 'ACCESS_TOKEN_DEAD';

/**
 * SQL that draws 63 random bits. It has the form in which TypeORM reads it back from PostgreSQL, because the schema
 * builder would otherwise see a difference.
 */
export const RANDOM_VERSION = "(uuid_hash_extended(gen_random_uuid(), (0)) & '9223372036854775807')";

/**
 * The columns of every table whose refresh tokens the module redeems: the token version and the state of the refresh.
 */
export abstract class LeasedEntity {
  /** The token version. Every store and every commit draws a new one. */
  @Column({ name: 'token_version', type: 'bigint', default: () => RANDOM_VERSION })
  tokenVersion!: string;

  /** The parent version: the version that was redeemed to get this one; null after a login. */
  @Column({ name: 'parent_version', type: 'bigint', nullable: true })
  parentVersion!: string | null;

  /**
   * The OAuth client to which the provider issued the grant. Null when it is not known, as in adopted rows until their
   * first success.
   */
  @Column({ name: 'client_id', type: 'varchar', nullable: true })
  clientId!: string | null;

  /** When the provider issued the tokens, as far as it is known. Their lifetimes count from this time. */
  @Column({ name: 'issued_at', type: 'timestamptz', default: () => 'now()' })
  issuedAt!: Date;

  /** Names the exchange that may redeem the refresh token until `lease_expires_at`. */
  @Column({ name: 'lease_id', type: 'bigint', nullable: true })
  leaseId!: string | null;

  @Column({ name: 'lease_expires_at', type: 'timestamptz', nullable: true })
  leaseExpiresAt!: Date | null;

  /** Whether the holder of the lease noted that the outcome is unknown. This holder commits no successor. */
  @Column({ name: 'lease_outcome_unknown', type: 'boolean', default: false })
  leaseOutcomeUnknown!: boolean;

  /**
   * Number of leases whose exchange has not ended in an answer. Above 0 without a valid lease, the token may be spent.
   */
  @Column({ name: 'open_leases', type: 'smallint', default: 0 })
  openLeases!: number;

  /** When PostgreSQL granted the first of the open leases. A process may have sent the refresh token since then. */
  @Column({ name: 'first_leased_at', type: 'timestamptz', nullable: true })
  firstLeasedAt!: Date | null;

  /** No process tries a refresh before this time, unless the takeover of an undecided row is due. */
  @Column({ name: 'retry_at', type: 'timestamptz', nullable: true })
  retryAt!: Date | null;

  /** Failed refreshes since the last success. */
  @Column({ name: 'failure_count', type: 'smallint', default: 0 })
  failureCount!: number;

  @Column({ name: 'failure_kind', type: 'varchar', nullable: true })
  failureKind!: FailureKind | null;

  /** OAuth or transport code of the last failure; never a message or a body. */
  @Column({ name: 'last_error_code', type: 'varchar', nullable: true })
  lastErrorCode!: string | null;

  /** Number of refreshes in a row that the module made because the provider's API refused the access token. */
  @Column({ name: 'rejections', type: 'smallint', default: 0 })
  rejections!: number;

  /** Whether the provider's API refused the access token before a refresh was tried. Then the token is no witness. */
  @Column({ name: 'access_token_rejected', type: 'boolean', default: false })
  accessTokenRejected!: boolean;

  /** Until then the module does not act on an `invalid_grant`, because its own race may be the cause. */
  @Column({ name: 'quarantined_until', type: 'timestamptz', nullable: true })
  quarantinedUntil!: Date | null;

  @Column({ name: 'status', type: 'varchar', default: 'active' })
  status!: GrantStatus;
}
