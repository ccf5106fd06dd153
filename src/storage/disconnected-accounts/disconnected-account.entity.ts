import { Column, Entity, PrimaryColumn } from 'typeorm';

/**
 * A note that a user disconnected an account at a provider. It has a meaning only while `auth_tokens` has no row of the
 * same key.
 */
@Entity({ name: 'disconnected_accounts' })
export class DisconnectedAccount {
  @PrimaryColumn({
    name: 'keycloak_user_id',
    type: 'varchar',
    primaryKeyConstraintName: 'disconnected_accounts_pkey',
  })
  keycloakUserId!: string;

  @PrimaryColumn({
    name: 'identity_provider',
    type: 'varchar',
    primaryKeyConstraintName: 'disconnected_accounts_pkey',
  })
  identityProvider!: string;

  /** The account in `auth_tokens`; empty for the default account. */
  @PrimaryColumn({
    type: 'varchar',
    default: '',
    primaryKeyConstraintName: 'disconnected_accounts_pkey',
  })
  account!: string;

  @Column({ name: 'disconnected_at', type: 'timestamptz', default: () => 'now()' })
  disconnectedAt!: Date;
}
