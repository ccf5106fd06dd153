import type { DoctorContext } from './doctor-context.js';
import { type Finding, findingsOf } from './finding.js';

const durability = findingsOf('durability');
const replication = findingsOf('replication');

const LOST = 'Then users whose provider has spent the old refresh token connect their accounts again.';

/** Does PostgreSQL keep a refreshed pair that it has confirmed: in a crash, and in a failover? */
export async function checkDurability(context: DoctorContext): Promise<Finding[]> {
  const settings = await context.row(
    'read the settings of commits',
    `SELECT current_setting('fsync')::boolean AS fsync, current_setting('full_page_writes')::boolean AS full_page_writes,
       current_setting('synchronous_commit') AS synchronous_commit,
       current_setting('synchronous_standby_names') AS synchronous_standby_names`,
  );
  const standbys = await context.rows(
    'read the standbys',
    'SELECT application_name, sync_state FROM pg_stat_replication',
  );
  return [
    ...crashFindings(settings),
    replicationFinding({
      synchronousCommit: String(settings.synchronous_commit),
      synchronousNames: String(settings.synchronous_standby_names),
      standbys: standbys.map(({ sync_state }) => (sync_state === null ? null : String(sync_state))),
    }),
  ];
}

function crashFindings(settings: Record<string, unknown>): Finding[] {
  const found: Finding[] = [];
  if (settings.fsync !== true || settings.full_page_writes !== true) {
    const name = settings.fsync === true ? 'full_page_writes' : 'fsync';
    found.push(
      durability.fault(
        `${name} is off, so a crash of the machine can lose or damage every table.`,
        `Set ${name} = on, unless the data may be lost.`,
      ),
    );
  }
  if (settings.synchronous_commit === 'off') {
    found.push(
      durability.fault(
        `synchronous_commit is off, so a crash loses pairs that were committed just before. ${LOST}`,
        'Set synchronous_commit = on for the role or the database: ALTER ROLE … or ALTER DATABASE … RESET synchronous_commit.',
      ),
    );
  }
  return found.length > 0 ? found : [durability.ok('A commit is on the disk before PostgreSQL confirms it.')];
}

/**
 * Judges what a failover can lose.
 *
 * @param standbys the state of each connected standby; null if the role may not see it
 */
export function replicationFinding(seen: {
  synchronousCommit: string;
  synchronousNames: string;
  standbys: readonly (string | null)[];
}): Finding {
  const { synchronousCommit, synchronousNames, standbys } = seen;
  const waits = synchronousNames !== '' && !['off', 'local'].includes(synchronousCommit);
  const isInStep = standbys.some((state) => state === 'sync' || state === 'quorum');
  const count = standbys.length === 1 ? 'One standby is connected' : `${standbys.length} standbys are connected`;
  if (waits && standbys.length === 0) {
    return replication.fault(
      'Commits wait for a synchronous standby, and none is connected. So every store and refresh waits.',
      'Start the standby, or remove it from synchronous_standby_names.',
    );
  }
  if (standbys.length === 0) return replication.ok('No standby is connected to this server.');
  const isUnknown = waits && standbys.some((state) => state === null);
  if (waits && (isInStep || isUnknown)) {
    return replication.ok(`${count}. A commit waits for a synchronous one (synchronous_commit ${synchronousCommit}).`);
  }
  if (waits) {
    return replication.fault(
      `${count}, and none of them is one that commits wait for. So every store and refresh waits.`,
      'Compare synchronous_standby_names with application_name in pg_stat_replication.',
    );
  }
  return replication.warning(
    `${count}, and no commit waits for it. A failover loses the pairs that were refreshed and not yet replicated. ${LOST}`,
    'Accept this, or name the standby in synchronous_standby_names. See docs/reliability.md, "A standby that is promoted".',
  );
}
