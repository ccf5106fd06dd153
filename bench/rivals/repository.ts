import { Column, DataSource, Entity, PrimaryGeneratedColumn } from 'typeorm';

import type { Contestant } from '../support/race.js';
import { IDP, userId } from '../support/users.js';
import { open } from './bare-pg.js';

@Entity('plain_tokens')
class PlainTokens {
  @PrimaryGeneratedColumn('identity', { type: 'integer' })
  id!: number;

  @Column({ name: 'user_id', type: 'varchar' })
  userId!: string;

  @Column({ type: 'varchar' })
  provider!: string;

  @Column({ name: 'access_token', type: 'varchar' })
  accessToken!: string;

  @Column({ name: 'refresh_token', type: 'varchar' })
  refreshToken!: string;

  @Column({ name: 'expires_at', type: 'bigint' })
  expiresAt!: string;
}

/** Opens a data source with the entity that a Nest application would write for its tokens. */
export async function openPlainTokens(url: string): Promise<DataSource> {
  return new DataSource({ type: 'postgres', url, entities: [PlainTokens], poolSize: 10 }).initialize();
}

/** Returns the rival that most applications begin with: `repository.findOneBy` and a decryption. */
export function repositoryReads(dataSource: DataSource): Contestant {
  const repository = dataSource.getRepository(PlainTokens);
  return {
    name: 'repository.findOneBy',
    async call(n) {
      const row = await repository.findOneBy({ userId: userId(n), provider: IDP });
      if (!row || Number(row.expiresAt) * 1000 < Date.now()) throw new Error('The token is not there or has expired.');
      return open(row.accessToken);
    },
  };
}
