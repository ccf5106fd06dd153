import { Check, Column, Entity, Index, PrimaryGeneratedColumn } from 'typeorm';

import { LeasedEntity } from '../leases/leased.entity.js';

/**
 * One sealed token pair of one account of one user at one identity provider, with the state of its refresh. The module reads and
 * writes it by its own statements. The entity describes the table to TypeORM, for migrations and for queries of the
 * host.
 */
@Entity({ name: 'auth_tokens' })
@Index('idx_auth_tokens_keycloak_user_id', ['keycloakUserId'])
@Index('idx_auth_tokens_keycloak_user_identity_provider_account', ['keycloakUserId', 'identityProvider', 'account'], {
  unique: true,
})
@Check('auth_tokens_status_check', `"status" IN ('active', 'reauthentication_required')`)
@Check('auth_tokens_failure_kind_check', `"failure_kind" IN ('configuration', 'transient', 'undecided')`)
export class AuthTokens extends LeasedEntity {
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

  /** A name that the host gives to the account; empty for the default account. */
  @Column({ type: 'varchar', default: '' })
  account!: string;

  /** Sealed. The length has no limit, because access tokens of Bitbucket and JWTs exceed 2,500 characters. */
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

  /**
   * The scopes of the access token, sorted, with a space between two. Null when they are not known, as in adopted rows.
   */
  @Column({ type: 'varchar', nullable: true })
  scopes!: string | null;

  /** The id of the account at the provider; null if it is not known. A link stores it. */
  @Column({ type: 'varchar', nullable: true })
  subject!: string | null;

  /** The name of the account at the provider, such as a login; null if it is not known. */
  @Column({ name: 'account_name', type: 'varchar', nullable: true })
  accountName!: string | null;

  @Column({ name: 'created_at', type: 'timestamptz', default: () => 'now()' })
  createdAt!: Date;

  @Column({ name: 'updated_at', type: 'timestamptz', default: () => 'now()' })
  updatedAt!: Date;
}
