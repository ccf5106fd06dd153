import { Column } from 'typeorm';

/** Whether the grant behind a refresh token is alive, by the provider's own verdict. */
export type GrantStatus = 'active' | 'reauthentication_required';

/**
 * Why the last refresh failed. `configuration`: the provider refuses the application. `transient`: it can succeed later.
 * `undecided`: nothing tells whether the refresh token is spent.
 */
export type FailureKind = 'configuration' | 'transient' | 'undecided';

/** 63 random bits. Written as TypeORM reads it back from PostgreSQL, so that its schema builder sees no difference. */
export const RANDOM_VERSION = "(uuid_hash_extended(gen_random_uuid(), (0)) & '9223372036854775807')";

/** The columns that every table with redeemable refresh tokens has: which instance it holds, and how its refresh stands. */
export abstract class LeasedEntity {
  /** Names the stored refresh-token instance: every store and every committed refresh draws a new one. */
  @Column({ name: 'token_version', type: 'bigint', default: () => RANDOM_VERSION })
  tokenVersion!: string;

  /** The version that was redeemed to get this one; null after a login. */
  @Column({ name: 'parent_version', type: 'bigint', nullable: true })
  parentVersion!: string | null;

  /** The OAuth client that the grant was issued to; null in adopted rows until their first success. */
  @Column({ name: 'client_id', type: 'varchar', nullable: true })
  clientId!: string | null;

  /** When the provider issued the tokens, as far as known: their lifetimes count from here. */
  @Column({ name: 'issued_at', type: 'timestamptz', default: () => 'now()' })
  issuedAt!: Date;

  /** Names the exchange that may redeem the refresh token until `lease_expires_at`. */
  @Column({ name: 'lease_id', type: 'bigint', nullable: true })
  leaseId!: string | null;

  @Column({ name: 'lease_expires_at', type: 'timestamptz', nullable: true })
  leaseExpiresAt!: Date | null;

  /** Whether the holder of the lease has said that the answer is lost: it will not bring a successor any more. */
  @Column({ name: 'lease_outcome_unknown', type: 'boolean', default: false })
  leaseOutcomeUnknown!: boolean;

  /** Leases whose exchange did not end in an answer; above 0 without a live lease, the token may be spent. */
  @Column({ name: 'open_leases', type: 'smallint', default: 0 })
  openLeases!: number;

  /** When the first of the open leases was taken: the refresh token may have been sent from then on. */
  @Column({ name: 'first_leased_at', type: 'timestamptz', nullable: true })
  firstLeasedAt!: Date | null;

  /** No refresh is tried before this time. */
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

  /** Refreshes in a row that were made because the provider's API refused the access token before. */
  @Column({ name: 'rejections', type: 'smallint', default: 0 })
  rejections!: number;

  /** Whether the provider's API refused the access token before a refresh was tried: then it is no witness of one. */
  @Column({ name: 'access_token_rejected', type: 'boolean', default: false })
  accessTokenRejected!: boolean;

  /** Until then an `invalid_grant` may have been caused by a race of our own. */
  @Column({ name: 'quarantined_until', type: 'timestamptz', nullable: true })
  quarantinedUntil!: Date | null;

  @Column({ name: 'status', type: 'varchar', default: 'active' })
  status!: GrantStatus;
}
