import { Column, Entity, PrimaryColumn } from 'typeorm';

/** The Keycloak offline token of one user, sealed. */
@Entity({ name: 'offline_tokens' })
export class StoredOfflineToken {
  @PrimaryColumn({ name: 'user_id', type: 'varchar', length: 255, primaryKeyConstraintName: 'offline_tokens_pkey' })
  userId!: string;

  /** JSON `{"tokens": sealed JSON {"refresh_token": …}}`, the form of the adopted system. */
  @Column({ name: 'offline_token', type: 'varchar' })
  offlineToken!: string;

  /** Names the redemption that may use the token until `lease_expires_at`. */
  @Column({ name: 'lease_id', type: 'bigint', nullable: true })
  leaseId!: string | null;

  @Column({ name: 'lease_expires_at', type: 'timestamptz', nullable: true })
  leaseExpiresAt!: Date | null;

  @Column({ name: 'created_at', type: 'timestamp', default: () => 'now()' })
  createdAt!: Date;

  @Column({ name: 'updated_at', type: 'timestamp', default: () => 'now()' })
  updatedAt!: Date;
}
