import { once } from 'node:events';

import { startScript } from '../../examples/support/child-process.js';
import { queryDatabase } from './query-database.js';
import { until } from './until.js';

export interface ReplicatedPostgresSettings {
  /** Whether a commit waits until the standby has it. */
  isSynchronous: boolean;
}

/** The requests to the process of the two servers. */
export type ReplicatedPostgresRequest = 'kill-primary' | 'revive-primary' | 'promote';

/** A primary and its streaming standby. Both have the same superuser. */
export interface ReplicatedPostgres {
  readonly primaryUrl: string;
  readonly standbyUrl: string;
  /** Settles when the standby has replayed everything that the primary has written. */
  inStep(): Promise<void>;
  /** Ends the replication for good. The standby keeps its data. */
  cutOff(): Promise<void>;
  /** Sends SIGKILL to every process of the primary. Settles when the primary has ended. */
  killPrimary(): Promise<void>;
  /** Starts the killed primary again, so that a test can read its data. */
  revivePrimary(): Promise<void>;
  /** Promotes the standby. The new primary waits for no standby. */
  promote(): Promise<void>;
  /** Ends both servers and deletes their data. */
  stop(): Promise<void>;
}

/** Starts two servers of an installed PostgreSQL on the loopback interface. They end with this process. */
export async function startReplicatedPostgres(settings: ReplicatedPostgresSettings): Promise<ReplicatedPostgres> {
  const script = await startScript<{ primaryUrl: string; standbyUrl: string }>(
    new URL('./replicated-postgres.process', import.meta.url),
    [JSON.stringify(settings)],
  );
  const { primaryUrl, standbyUrl } = script.ready;
  const ask = async (request: ReplicatedPostgresRequest) => {
    const answer = once(script.child, 'message');
    script.child.send(request);
    const [error] = (await answer) as [string];
    if (error) throw new Error(error);
  };
  const onPrimary = (sql: string) => queryDatabase(primaryUrl, sql);
  const onStandby = (sql: string) => queryDatabase(standbyUrl, sql);
  return {
    primaryUrl,
    standbyUrl,
    async inStep() {
      const [row] = await onPrimary('SELECT pg_current_wal_lsn() AS lsn');
      await until(async () => {
        const [standby] = await onStandby(`SELECT pg_last_wal_replay_lsn() >= '${String(row?.lsn)}' AS has_it`);
        return standby?.has_it === true;
      });
    },
    async cutOff() {
      await onStandby("ALTER SYSTEM SET primary_conninfo = ''");
      await onStandby('SELECT pg_reload_conf()');
      await until(async () => (await onPrimary('SELECT FROM pg_stat_replication')).length === 0);
    },
    killPrimary: () => ask('kill-primary'),
    revivePrimary: () => ask('revive-primary'),
    promote: () => ask('promote'),
    stop: () => script.stop(),
  };
}
