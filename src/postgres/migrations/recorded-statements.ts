import type { QueryRunner } from 'typeorm';

import { tablePath } from './runner-paths.js';
import { AUTH_TOKENS, OFFLINE_TOKENS, OWN_TABLES } from './token-tables.js';

/** The statements that a query runner was asked for since the recording began, without those that only read. */
export interface StatementRecording {
  readonly statements: readonly string[];
  /** Makes the query runner execute every statement again. */
  end(): void;
}

const TABLES = [AUTH_TOKENS, OFFLINE_TOKENS, ...OWN_TABLES];
const READS = /^\s*(SELECT|SHOW)\b/i;
const INSERTS = /^\s*INSERT\b/i;
const DROPS = /^\s*DROP\b/i;

/**
 * Records the statements of migrations. The query runner executes what reads, and what is about a table that does not
 * exist yet, because a later migration looks at the table. It does not execute what changes a table that exists, because
 * that would lock the table, and can rewrite it. No migration of this module depends on such a change of an earlier one.
 */
export async function recordStatements(queryRunner: QueryRunner): Promise<StatementRecording> {
  const paths = TABLES.map(({ name }) => tablePath(queryRunner, name));
  const existing = (await queryRunner.query(
    'SELECT path FROM unnest($1::text[]) AS path WHERE to_regclass(path) IS NOT NULL',
    [paths],
  )) as { path: string }[];
  const statements: string[] = [];
  const query = queryRunner.query.bind(queryRunner) as (...call: unknown[]) => Promise<unknown>;
  const record = (text: string, parameters?: unknown[], isStructured?: boolean): Promise<unknown> => {
    const isRead = READS.test(text);
    if (!isRead) statements.push(withValues(text, parameters ?? []));
    // A sequence keeps a number that an insert has taken, also after the rollback. A drop of an index locks the table.
    const isSkipped = INSERTS.test(text) || DROPS.test(text) || existing.some(({ path }) => text.includes(path));
    if (!isRead && isSkipped) return Promise.resolve(isStructured ? { raw: [], records: [], affected: 0 } : []);
    return query(text, parameters, isStructured);
  };
  Reflect.set(queryRunner, 'query', record); // its types differ between the versions of TypeORM
  return {
    statements,
    end: () => {
      Reflect.set(queryRunner, 'query', query);
    },
  };
}

/** Writes the values into the statement. They are names and times of migrations. */
function withValues(text: string, values: readonly unknown[]): string {
  return text.replace(/\$(\d+)/g, (_, number: string) => {
    const value = values[Number(number) - 1];
    return typeof value === 'number' ? String(value) : `'${String(value).replaceAll("'", "''")}'`;
  });
}
