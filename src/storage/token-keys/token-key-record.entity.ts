import { Column, Entity, PrimaryColumn } from 'typeorm';

/**
 * One encryption key that has sealed, without its secret. The module registers a key when it boots with the key in first
 * place.
 */
@Entity({ name: 'token_keys' })
export class TokenKeyRecord {
  /** The key id, as `encryption.keys` and the sealed texts have it. */
  @PrimaryColumn({ type: 'varchar', primaryKeyConstraintName: 'token_keys_pkey' })
  id!: string;

  /** A fixed text that the key has sealed. Only the same secret with the same algorithm opens it. */
  @Column({ name: 'check_text', type: 'varchar' })
  checkText!: string;

  @Column({ name: 'created_at', type: 'timestamptz', default: () => 'now()' })
  createdAt!: Date;

  /** When the operator retired the key; null while the key is in use. A retired key seals no more. */
  @Column({ name: 'retired_at', type: 'timestamptz', nullable: true })
  retiredAt!: Date | null;
}
