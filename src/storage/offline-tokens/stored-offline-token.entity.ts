import { Check, Column, Entity, PrimaryColumn } from 'typeorm';

import { LeasedEntity } from '../leases/leased.entity.js';

/** The Keycloak offline token of one user, sealed, with the state of its refresh. */
@Entity({ name: 'offline_tokens' })
@Check('offline_tokens_status_check', `"status" IN ('active', 'reauthentication_required')`)
@Check('offline_tokens_failure_kind_check', `"failure_kind" IN ('configuration', 'transient', 'undecided')`)
export class StoredOfflineToken extends LeasedEntity {
  @PrimaryColumn({ name: 'user_id', type: 'varchar', length: 255, primaryKeyConstraintName: 'offline_tokens_pkey' })
  userId!: string;

  /** JSON `{"tokens": sealed JSON {"refresh_token": …}}`, the form of the adopted system. */
  @Column({ name: 'offline_token', type: 'varchar' })
  offlineToken!: string;

  @Column({ name: 'created_at', type: 'timestamp', default: () => 'now()' })
  createdAt!: Date;

  @Column({ name: 'updated_at', type: 'timestamp', default: () => 'now()' })
  updatedAt!: Date;
}
