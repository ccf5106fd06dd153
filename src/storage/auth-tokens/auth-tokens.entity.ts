import { Check, Column, Entity, Index, PrimaryGeneratedColumn } from 'typeorm';

/** Whether the grant behind a token pair is alive, by the provider's own verdict. */
export type AuthTokensStatus = 'active' | 'reauthentication_required';

/** 63 random bits. Written as TypeORM reads it back from PostgreSQL, so that its schema builder sees no difference. */
const RANDOM_VERSION = "(uuid_hash_extended(gen_random_uuid(), (0)) & '9223372036854775807')";

/**
 * One sealed token pair of one user at one identity provider, with the state of its refresh. The module reads and
 * writes it by its own statements; the entity tells TypeORM of the table, for migrations and for the host's queries.
 */
@Entity({ name: 'auth_tokens' })
@Index('idx_auth_tokens_keycloak_user_id', ['keycloakUserId'])
@Index('idx_auth_tokens_keycloak_user_identity_provider', ['keycloakUserId', 'identityProvider'], { unique: true })
@Check('auth_tokens_status_check', `"status" IN ('active', 'reauthentication_required')`)
export class AuthTokens {
  @PrimaryGeneratedColumn('identity', {
    type: 'integer',
    generatedIdentity: 'BY DEFAULT',
    primaryKeyConstraintName: 'auth_tokens_pkey',
  })
  id!: number;

  @Column({ name: 'keycloak_user_id', type: 'varchar' })
  keycloakUserId!: string;

  @Column({ name: 'identity_provider', type: 'varchar' })
  identityProvider!: string;

  /** Sealed. Unbounded: access tokens of Bitbucket and JWTs exceed 2,500 characters. */
  @Column({ name: 'access_token', type: 'varchar' })
  accessToken!: string;

  /** Sealed; empty when the provider gave none. */
  @Column({ name: 'refresh_token', type: 'varchar' })
  refreshToken!: string;

  /** Epoch seconds; 0 = does not expire. */
  @Column({ name: 'access_token_expires_at', type: 'bigint' })
  accessTokenExpiresAt!: string;

  /** Epoch seconds; 0 = does not expire. */
  @Column({ name: 'refresh_token_expires_at', type: 'bigint' })
  refreshTokenExpiresAt!: string;

  /** Names the stored refresh-token instance: every store and every committed refresh draws a new one. */
  @Column({ name: 'token_version', type: 'bigint', default: () => RANDOM_VERSION })
  tokenVersion!: string;

  /** The version that was redeemed to get this one; null after a login. */
  @Column({ name: 'parent_version', type: 'bigint', nullable: true })
  parentVersion!: string | null;

  /** When the provider issued the pair, as far as known: its lifetime counts from here. */
  @Column({ name: 'issued_at', type: 'timestamptz', default: () => 'now()' })
  issuedAt!: Date;

  /** Names the exchange that may redeem the refresh token until `lease_expires_at`. */
  @Column({ name: 'lease_id', type: 'bigint', nullable: true })
  leaseId!: string | null;

  @Column({ name: 'lease_expires_at', type: 'timestamptz', nullable: true })
  leaseExpiresAt!: Date | null;

  /** Leases taken since the last exchange that ended in an answer; above 1 = a takeover happened. */
  @Column({ name: 'open_leases', type: 'smallint', default: 0 })
  openLeases!: number;

  /** No refresh is tried before this time. */
  @Column({ name: 'retry_at', type: 'timestamptz', nullable: true })
  retryAt!: Date | null;

  /** Failed refreshes since the last success. */
  @Column({ name: 'failure_count', type: 'smallint', default: 0 })
  failureCount!: number;

  /** Until then an `invalid_grant` may have been caused by a race of our own. */
  @Column({ name: 'suspect_until', type: 'timestamptz', nullable: true })
  suspectUntil!: Date | null;

  @Column({ name: 'status', type: 'varchar', default: 'active' })
  status!: AuthTokensStatus;

  /** OAuth or transport code of the last failure; never a message or a body. */
  @Column({ name: 'last_error_code', type: 'varchar', nullable: true })
  lastErrorCode!: string | null;

  @Column({ name: 'created_at', type: 'timestamptz', default: () => 'now()' })
  createdAt!: Date;

  @Column({ name: 'updated_at', type: 'timestamptz', default: () => 'now()' })
  updatedAt!: Date;
}
