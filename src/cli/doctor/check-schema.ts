import { TokensMigrationExecutor } from '../../postgres/migrations/tokens-migration-executor.js';
import { tokensMigrations } from '../../postgres/run-token-migrations.js';
import { schemaGaps } from '../../postgres/schema-gaps.js';
import type { DoctorContext } from './doctor-context.js';
import { type Finding, findingsOf } from './finding.js';

const migrations = findingsOf('migrations');
const drift = findingsOf('drift');

/** Are the migrations applied, and are the tables as the migrations make them? */
export async function checkSchema(context: DoctorContext): Promise<Finding[]> {
  const { dataSource } = context;
  return context.withRunner(async (queryRunner) => {
    const executor = new TokensMigrationExecutor(dataSource, queryRunner, tokensMigrations);
    const pending = (await executor.getPendingMigrations()).map(({ name }) => name);
    const gaps = await schemaGaps(queryRunner);
    const broken = gaps.filter(({ isHarmless }) => !isHarmless).map(({ gap }) => gap);
    const harmless = gaps.filter(({ isHarmless }) => isHarmless).map(({ gap }) => gap);
    return [migrationsFinding(pending, broken), ...driftFindings(broken, harmless, pending.length > 0)];
  });
}

function migrationsFinding(pending: readonly string[], broken: readonly string[]): Finding {
  if (pending.length === 0) return migrations.ok(`All ${tokensMigrations.length} migrations are applied.`);
  const message = `Not applied: ${pending.join(', ')}.`;
  if (broken.length > 0) return migrations.fault(message, 'Run idp-tokens migrate.');
  return migrations.warning(
    `${message} The tables are as the migrations make them, so something else has created them.`,
    'Run idp-tokens migrate, which records the migrations, unless synchronize of TypeORM owns the tables.',
  );
}

function driftFindings(broken: readonly string[], harmless: readonly string[], isPending: boolean): Finding[] {
  const found: Finding[] = [];
  if (broken.length > 0) {
    found.push(
      drift.fault(
        sentence(broken),
        isPending
          ? 'Run idp-tokens migrate, which makes what is missing.'
          : 'Undo what changed the tables. docs/reference/sql-tables.md says how they are.',
      ),
    );
  }
  if (harmless.length > 0) {
    found.push(
      drift.warning(
        sentence(harmless),
        'Every call works with the rows that are there. Make the table as the migrations do: for example ALTER TABLE … ' +
          'SET (fillfactor = 80), and then VACUUM FULL or pg_repack. Drop an index that refuses a second account before ' +
          'you name accounts.',
      ),
    );
  }
  return found.length > 0 ? found : [drift.ok('The tables are as the migrations make them.')];
}

function sentence(clauses: readonly string[]): string {
  const text = clauses.join('; ');
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
}
