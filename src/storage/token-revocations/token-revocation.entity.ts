import { Column, Entity, Index, PrimaryGeneratedColumn } from 'typeorm';

/** A sealed token pair that is no longer stored and is still to be revoked at its provider. */
@Entity({ name: 'token_revocations' })
@Index('idx_token_revocations_next_attempt_at', ['nextAttemptAt'])
export class TokenRevocation {
  @PrimaryGeneratedColumn('identity', {
    type: 'bigint',
    generatedIdentity: 'BY DEFAULT',
    primaryKeyConstraintName: 'token_revocations_pkey',
  })
  id!: string;

  @Column({ name: 'keycloak_user_id', type: 'varchar' })
  keycloakUserId!: string;

  @Column({ name: 'identity_provider', type: 'varchar' })
  identityProvider!: string;

  /** The account in `auth_tokens`, because the sealed texts open only with it; empty for the default account. */
  @Column({ type: 'varchar', default: '' })
  account!: string;

  /**
   * The OAuth client to which the provider issued the pair. Only this client can revoke it. Null when it is not known.
   */
  @Column({ name: 'client_id', type: 'varchar', nullable: true })
  clientId!: string | null;

  /** Sealed for the place it had in `auth_tokens`. */
  @Column({ name: 'access_token', type: 'varchar' })
  accessToken!: string;

  /** Sealed for the place it had in `auth_tokens`; empty when there was no refresh token. */
  @Column({ name: 'refresh_token', type: 'varchar' })
  refreshToken!: string;

  /** How often a process took the pair up. */
  @Column({ type: 'smallint', default: 0 })
  attempts!: number;

  @Column({ name: 'next_attempt_at', type: 'timestamptz', default: () => 'now()' })
  nextAttemptAt!: Date;

  /** OAuth or transport code of the last failure; never a message or a body. */
  @Column({ name: 'last_error_code', type: 'varchar', nullable: true })
  lastErrorCode!: string | null;

  @Column({ name: 'created_at', type: 'timestamptz', default: () => 'now()' })
  createdAt!: Date;
}
