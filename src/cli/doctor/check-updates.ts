import type { DoctorContext, TokensTable } from './doctor-context.js';
import { type Finding, findingsOf } from './finding.js';

const hot = findingsOf('hot updates');
const bloat = findingsOf('bloat');

const NOTHING = 'There is no table to look at.';
const MIGRATE = 'Run idp-tokens migrate, and then the doctor again.';
/** The tables whose rows a refresh updates in place. */
const REFRESHED = ['auth_tokens', 'offline_tokens'];
/** The columns that no refresh changes. An index may have them, and columns of the host. */
const CONSTANT = [
  'id',
  'user_id',
  'keycloak_user_id',
  'identity_provider',
  'account',
  'subject',
  'account_name',
  'created_at',
];
/** Before so many updates, and so many dead rows, a share says nothing. */
const ENOUGH_UPDATES = 1000;
const ENOUGH_DEAD_ROWS = 1000;
const LEAST_HOT_SHARE = 0.7;
const MOST_DEAD_SHARE = 0.3;

interface Statistics {
  readonly path: string;
  readonly updates: number;
  readonly hotUpdates: number;
  readonly live: number;
  readonly dead: number;
  readonly vacuumedAt: Date | null;
  readonly isVacuumed: boolean;
  /** Index and column, where a column that a refresh changes is in an index. */
  readonly indexed: readonly string[];
}

/**
 * Do updates stay in their page without a write to the indexes, and does autovacuum keep up with the rows that they
 * leave behind? The figures are those since the last reset of the statistics.
 */
export async function checkUpdates(context: DoctorContext): Promise<Finding[]> {
  const found: Statistics[] = [];
  for (const table of context.tables.filter(({ name }) => REFRESHED.includes(name))) {
    const statistics = await statisticsOf(context, table);
    if (statistics) found.push(statistics);
  }
  if (found.length === 0) return [hot, bloat].map(({ warning }) => warning(NOTHING, MIGRATE));
  const hotFindings = found.flatMap(hotFindingsOf);
  const bloatFindings = found.flatMap(bloatFindingsOf);
  return [
    ...(hotFindings.length > 0 ? hotFindings : [hot.ok(hotSummary(found))]),
    ...(bloatFindings.length > 0 ? bloatFindings : [bloat.ok(bloatSummary(found))]),
  ];
}

async function statisticsOf(context: DoctorContext, { path, name }: TokensTable): Promise<Statistics | undefined> {
  const [row] = await context.rows(
    `read the statistics of ${name}`,
    `SELECT n_tup_upd, n_tup_hot_upd, n_live_tup, n_dead_tup,
       date_part('epoch', greatest(last_autovacuum, last_vacuum)) AS vacuumed_at,
       current_setting('autovacuum')::boolean AND coalesce((SELECT option_value::boolean
         FROM pg_options_to_table(reloptions) WHERE option_name = 'autovacuum_enabled'), true) AS is_vacuumed,
       ARRAY(SELECT format('%s (%s)', indexrelid::regclass, attname) FROM pg_index JOIN pg_attribute
           ON attrelid = indrelid AND attnum = ANY (indkey)
         WHERE indrelid = pg_class.oid AND attname <> ALL ($constant::text[]) AND attname = ANY ($columns::text[])
       ) AS indexed
     FROM pg_class JOIN pg_stat_user_tables ON relid = pg_class.oid WHERE pg_class.oid = to_regclass($path::text)`,
    { path, constant: CONSTANT, columns: columnsOf(context, name) },
  );
  if (!row) return undefined;
  return {
    path,
    updates: Number(row.n_tup_upd),
    hotUpdates: Number(row.n_tup_hot_upd),
    live: Number(row.n_live_tup),
    dead: Number(row.n_dead_tup),
    vacuumedAt: row.vacuumed_at === null ? null : new Date(Number(row.vacuumed_at) * 1000),
    isVacuumed: row.is_vacuumed === true,
    indexed: row.indexed as string[],
  };
}

function columnsOf({ dataSource }: DoctorContext, name: string): string[] {
  const prefix = dataSource.options.entityPrefix ?? '';
  const metadata = dataSource.entityMetadatas.find(({ tableName }) => tableName === prefix + name);
  return (metadata?.columns ?? []).map(({ databaseName }) => databaseName);
}

function hotFindingsOf(statistics: Statistics): Finding[] {
  const { path, updates, hotUpdates, indexed } = statistics;
  if (indexed.length > 0) {
    return [
      hot.warning(
        `A refresh changes columns that an index has: ${indexed.join(', ')}. So each refresh writes to all indexes of ${path}.`,
        'Drop this index of yours, or do without these columns in it.',
      ),
    ];
  }
  if (updates < ENOUGH_UPDATES || hotUpdates / updates >= LEAST_HOT_SHARE) return [];
  return [
    hot.warning(
      `Only ${percent(hotUpdates / updates)} of ${updates.toLocaleString('en')} updates of ${path} were heap-only.`,
      'Let pages keep free space (fillfactor 80, and VACUUM FULL or pg_repack once for old rows), let autovacuum run ' +
        'more often, and look for transactions that stay open for hours.',
    ),
  ];
}

function bloatFindingsOf({ path, live, dead, vacuumedAt, isVacuumed }: Statistics): Finding[] {
  if (!isVacuumed) {
    return [
      bloat.warning(
        `Autovacuum is off for ${path}, so the rows that refreshes leave behind stay.`,
        `Switch it on: ALTER TABLE ${path} RESET (autovacuum_enabled), and autovacuum = on for the server.`,
      ),
    ];
  }
  if (dead < ENOUGH_DEAD_ROWS || dead / (dead + live) <= MOST_DEAD_SHARE) return [];
  const when = vacuumedAt ? `the last vacuum was at ${vacuumedAt.toISOString()}` : 'it was never vacuumed';
  return [
    bloat.warning(
      `${percent(dead / (dead + live))} of the rows of ${path} are dead, and ${when}.`,
      `Let autovacuum run more often: ALTER TABLE ${path} SET (autovacuum_vacuum_scale_factor = 0.02). Look for ` +
        'transactions that stay open for hours, because they keep dead rows.',
    ),
  ];
}

function hotSummary(found: readonly Statistics[]): string {
  const shares = found.map(({ path, updates, hotUpdates }) =>
    updates < ENOUGH_UPDATES
      ? `${path} has too few updates to tell`
      : `${percent(hotUpdates / updates)} of the updates of ${path}`,
  );
  return `Heap-only updates: ${shares.join(', ')}. No index has a column that a refresh changes.`;
}

function bloatSummary(found: readonly Statistics[]): string {
  const dead = found.map(
    ({ path, dead, live }) => `${dead.toLocaleString('en')} beside ${live.toLocaleString('en')} of ${path}`,
  );
  return `Dead rows: ${dead.join(', ')}.`;
}

function percent(share: number): string {
  return `${Math.floor(share * 100)} %`;
}
