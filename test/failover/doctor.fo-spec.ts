import { afterEach, describe, expect, it } from '@jest/globals';
import { DataSource } from 'typeorm';

import { runTokenMigrations, tokensEntities } from '../../src/index.js';
import { examine, findingOf } from '../support/doctor.js';
import { type ReplicatedPostgres, startReplicatedPostgres } from '../support/replicated-postgres.js';

let servers: ReplicatedPostgres;

afterEach(() => servers.stop());

/** Starts a migrated primary with its standby. */
async function start(isSynchronous: boolean): Promise<void> {
  servers = await startReplicatedPostgres({ isSynchronous });
  const dataSource = new DataSource({ type: 'postgres', url: servers.primaryUrl, entities: tokensEntities });
  await dataSource.initialize();
  await runTokenMigrations(dataSource);
  await dataSource.destroy();
}

describe('the doctor', () => {
  it('says what a failover to an asynchronous standby can lose', async () => {
    await start(false);
    const { message } = findingOf(await examine({ url: servers.primaryUrl }, 'durability'), 'replication', 'warning');
    expect(message).toContain('A failover loses the pairs that were refreshed and not yet replicated.');
  });

  it('accepts a synchronous standby, and refuses one for which commits wait in vain', async () => {
    await start(true);
    expect(findingOf(await examine({ url: servers.primaryUrl }, 'durability'), 'replication').level).toBe('ok');
    await servers.cutOff();
    const findings = await examine({ url: servers.primaryUrl }, 'durability');
    expect(findingOf(findings, 'replication', 'fault').message).toContain('none is connected');
  });

  it('refuses the standby itself', async () => {
    await start(false);
    await servers.inStep();
    const findings = await examine({ url: servers.standbyUrl }, 'migrations', 'privileges');
    expect(findingOf(findings, 'writable', 'fault').message).toContain('standby');
    expect(findingOf(findings, 'drift').level).toBe('ok');
  });
});
