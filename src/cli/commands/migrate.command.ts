import { Option } from 'commander';

import { type MigrationPlan, planTokenMigrations, runTokenMigrations } from '../../postgres/run-token-migrations.js';
import type { CliCommand } from '../cli-command.js';
import { wrap } from '../text-layout.js';

/** Applies the migrations of the module that are missing, and no others. */
export const migrateCommand: CliCommand = {
  name: 'migrate',
  summary: 'Apply the migrations that are missing, or print their SQL.',
  options: [new Option('--dry-run', 'print the SQL, and change nothing')],
  examples: ['idp-tokens migrate', 'idp-tokens migrate --dry-run > tokens.sql && psql -f tokens.sql'],
  needs: 'database',
  run: async (context, { options }) => {
    const dataSource = await context.connect();
    if (options.dryRun === true) {
      const plan = await planTokenMigrations(dataSource);
      const sql = sqlOf(plan);
      return { ok: true, result: { isDryRun: true, migrations: plan.names, sql }, text: () => sql };
    }
    const applied = await runTokenMigrations(dataSource);
    const lines = applied.length === 0 ? ['Every migration is applied.'] : applied.map((name) => `applied ${name}`);
    return {
      ok: true,
      result: { isDryRun: false, migrations: applied },
      text: (columns) => lines.map((line) => wrap(line, columns)).join('\n'),
    };
  },
};

function sqlOf({ names, statements }: MigrationPlan): string {
  if (names.length === 0) return '-- Every migration is applied.';
  const lines = statements.map((statement) => `${statement.trim()};`);
  return [`-- ${names.join(', ')}`, 'BEGIN;', ...lines, 'COMMIT;'].join('\n');
}
