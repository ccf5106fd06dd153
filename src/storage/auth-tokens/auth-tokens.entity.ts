import { Check, Column, Entity, Index, PrimaryGeneratedColumn } from 'typeorm';

import { LeasedEntity } from '../leases/leased.entity.js';

/**
 * One sealed token pair of one user at one identity provider, with the state of its refresh. The module reads and
 * writes it by its own statements. The entity describes the table to TypeORM, for migrations and for queries of the
 * host.
 */
@Entity({ name: 'auth_tokens' })
@Index('idx_auth_tokens_keycloak_user_id', ['keycloakUserId'])
@Index('idx_auth_tokens_keycloak_user_identity_provider', ['keycloakUserId', 'identityProvider'], { unique: true })
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

  @Column({ name: 'created_at', type: 'timestamptz', default: () => 'now()' })
  createdAt!: Date;

  @Column({ name: 'updated_at', type: 'timestamptz', default: () => 'now()' })
  updatedAt!: Date;
}
