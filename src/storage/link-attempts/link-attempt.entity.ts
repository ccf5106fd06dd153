import { Column, Entity, Index, PrimaryColumn } from 'typeorm';

/**
 * One attempt of a user to connect an account at an identity provider. Any process can finish it, once, until it
 * expires. The row has no secret in plaintext.
 */
@Entity({ name: 'link_attempts' })
@Index('idx_link_attempts_keycloak_user_id', ['keycloakUserId'])
@Index('idx_link_attempts_expires_at', ['expiresAt'])
export class LinkAttempt {
  /** The SHA-256 of the state, as base64url. Only the browser of the user has the state. */
  @PrimaryColumn({ name: 'state_hash', type: 'varchar', primaryKeyConstraintName: 'link_attempts_pkey' })
  stateHash!: string;

  /** The user who began. Only this user can finish. */
  @Column({ name: 'keycloak_user_id', type: 'varchar' })
  keycloakUserId!: string;

  @Column({ name: 'identity_provider', type: 'varchar' })
  identityProvider!: string;

  /** The name of the host for the account; empty for the default account. */
  @Column({ type: 'varchar', default: '' })
  account!: string;

  /** The scopes of the authorization request, with a space between two of them. */
  @Column({ type: 'varchar' })
  scopes!: string;

  /** Sealed. @see RFC 7636 section 4.1 */
  @Column({ name: 'code_verifier', type: 'varchar' })
  codeVerifier!: string;

  /** Where the host sends the browser at the end; null if the host did not say. */
  @Column({ name: 'return_to', type: 'varchar', nullable: true })
  returnTo!: string | null;

  /** Whether another account of the provider may replace the connected one. */
  @Column({ name: 'replaces_account', type: 'boolean', default: false })
  replacesAccount!: boolean;

  @Column({ name: 'created_at', type: 'timestamptz', default: () => 'now()' })
  createdAt!: Date;

  @Column({ name: 'expires_at', type: 'timestamptz' })
  expiresAt!: Date;
}
