import { readdir, readFile, writeFile } from 'node:fs/promises';

import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import pg from 'pg';

import type { Statement } from '../../src/postgres/statement.js';
import { tablePathOf } from '../../src/postgres/table-path.js';
import { authTokensLeases } from '../../src/storage/auth-tokens/auth-tokens-lease.statements.js';
import { authTokensLinks } from '../../src/storage/auth-tokens/auth-tokens-link.statements.js';
import { authTokensLookups } from '../../src/storage/auth-tokens/auth-tokens-lookup.statements.js';
import { authTokensWrites } from '../../src/storage/auth-tokens/auth-tokens-write.statements.js';
import { disconnectedAccountsStatements } from '../../src/storage/disconnected-accounts/disconnected-accounts.statements.js';
import { linkAttemptsStatements } from '../../src/storage/link-attempts/link-attempts.statements.js';
import { offlineTokensStatements } from '../../src/storage/offline-tokens/offline-tokens.statements.js';
import {
  disconnectedStatement,
  outboxStatement,
  overviewStatements,
  reactivatableStatement,
} from '../../src/storage/overview/overview.statements.js';
import { overviewShapes } from '../../src/storage/overview/overview.table.js';
import { openWritersStatement, sealedTextsStatements } from '../../src/storage/sealed-texts/sealed-texts.statements.js';
import { sealedTextsShapes } from '../../src/storage/sealed-texts/sealed-texts.table.js';
import { tokenKeysStatements } from '../../src/storage/token-keys/token-keys.statements.js';
import { tokenRevocationsStatements } from '../../src/storage/token-revocations/token-revocations.statements.js';
import { tokensEntities } from '../../src/storage/tokens-entities.js';
import { createTestDatabase, openDataSource, type TestDatabase } from '../support/test-database.js';

const FOLDER = 'test/golden';
const TABLES = [
  'auth_tokens',
  'offline_tokens',
  'token_revocations',
  'disconnected_accounts',
  'token_keys',
  'link_attempts',
];
/** The quoted paths by which the module names its tables in a data source without a schema. */
const PATHS = TABLES.map((table) => `"${table}"`);
const [
  AUTH_TOKENS = '',
  OFFLINE_TOKENS = '',
  TOKEN_REVOCATIONS = '',
  DISCONNECTED_ACCOUNTS = '',
  TOKEN_KEYS = '',
  LINK_ATTEMPTS = '',
] = PATHS;

type AnyStatement = Statement<never, unknown>;

/** Returns the lookups of `auth_tokens` by their names, such as `rows.ofMany`. */
function lookups(): Record<string, AnyStatement> {
  const each: Record<string, AnyStatement> = {};
  const { accounts, ...ofRows } = authTokensLookups(AUTH_TOKENS);
  for (const [of, lookup] of Object.entries<object>(ofRows)) {
    for (const [name, statement] of Object.entries(lookup) as [string, AnyStatement | (() => unknown)][]) {
      if (typeof statement !== 'function') each[`${of}.${name}`] = statement;
    }
  }
  return { ...each, accounts };
}

/** Returns the statements on sealed texts by their tables and names, such as `auth_tokens.page`. */
function sealedTexts(): Record<string, AnyStatement> {
  const paths = {
    auth_tokens: AUTH_TOKENS,
    offline_tokens: OFFLINE_TOKENS,
    token_revocations: TOKEN_REVOCATIONS,
    link_attempts: LINK_ATTEMPTS,
  };
  const each: Record<string, AnyStatement> = { openWriters: openWritersStatement(Object.values(paths)) };
  for (const [table, shape] of Object.entries(sealedTextsShapes(paths))) {
    for (const [name, statement] of Object.entries(sealedTextsStatements(shape)) as [string, AnyStatement][]) {
      each[`${table}.${name}`] = statement;
    }
  }
  return each;
}

/** Returns the statements of the overview by their tables and names, such as `pairs.states`. */
function overview(): Record<string, AnyStatement> {
  const each: Record<string, AnyStatement> = {
    reactivatable: reactivatableStatement(AUTH_TOKENS),
    outbox: outboxStatement(TOKEN_REVOCATIONS),
    disconnected: disconnectedStatement(DISCONNECTED_ACCOUNTS, AUTH_TOKENS),
  };
  for (const [table, shape] of Object.entries(overviewShapes(AUTH_TOKENS, OFFLINE_TOKENS))) {
    for (const [name, statement] of Object.entries(overviewStatements(shape)) as [string, AnyStatement][]) {
      each[`${table}.${name}`] = statement;
    }
  }
  return each;
}

const statements: Record<string, Record<string, AnyStatement>> = {
  'auth_tokens.lookups': lookups(),
  'auth_tokens.writes': { ...authTokensWrites(AUTH_TOKENS, TOKEN_REVOCATIONS, DISCONNECTED_ACCOUNTS) },
  'auth_tokens.leases': { ...authTokensLeases(AUTH_TOKENS) },
  'auth_tokens.links': { ...authTokensLinks(AUTH_TOKENS, TOKEN_REVOCATIONS) },
  link_attempts: { ...linkAttemptsStatements(LINK_ATTEMPTS) },
  offline_tokens: { ...offlineTokensStatements(OFFLINE_TOKENS) },
  token_revocations: { ...tokenRevocationsStatements(TOKEN_REVOCATIONS) },
  token_keys: { ...tokenKeysStatements(TOKEN_KEYS) },
  sealed_texts: sealedTexts(),
  overview: overview(),
  disconnected_accounts: { ...disconnectedAccountsStatements(DISCONNECTED_ACCOUNTS) },
};

let database: TestDatabase;
let client: pg.Client;

beforeAll(async () => {
  database = await createTestDatabase();
  client = new pg.Client(database.url);
  await client.connect();
});

afterAll(async () => {
  await client.end();
  await database.drop();
});

/** Compares a text with its golden file. With UPDATE_GOLDEN=1 it writes the file. */
async function expectGolden(name: string, text: string): Promise<void> {
  const path = `${FOLDER}/${name}.sql`;
  if (process.env.UPDATE_GOLDEN === '1') await writeFile(path, text);
  const golden = await readFile(path, 'utf8').catch(() => '');
  if (golden !== text) console.error(`${path} differs. If you meant it: UPDATE_GOLDEN=1 npm test -- test/golden`);
  expect(text).toBe(golden);
}

/** Describes a table from the catalogue of PostgreSQL, with a line for each column, constraint and index. */
async function describeTable(table: string): Promise<string> {
  const lines = await client.query<{ line: string }>(
    `SELECT line FROM (SELECT 1 AS part, a.attnum AS position, format('  %I %s%s%s%s', a.attname, format_type(a.atttypid, a.atttypmod),
         CASE WHEN a.attnotnull THEN ' NOT NULL' ELSE '' END,
         CASE a.attidentity WHEN 'd' THEN ' GENERATED BY DEFAULT AS IDENTITY' ELSE '' END,
         coalesce(' DEFAULT ' || pg_get_expr(d.adbin, d.adrelid), '')) AS line
       FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
       WHERE a.attrelid = $1::text::regclass AND a.attnum > 0 AND NOT a.attisdropped
     UNION ALL
     SELECT 2, 0, format('  CONSTRAINT %I %s%s', conname, pg_get_constraintdef(oid),
         ' -- ' || obj_description(oid, 'pg_constraint')) FROM pg_constraint
       WHERE conrelid = $1::text::regclass AND contype IN ('p', 'u', 'c', 'f')
     UNION ALL
     SELECT 3, 0, format('  %s', regexp_replace(indexdef, ' ON public\\.', ' ON ')) FROM pg_indexes
       WHERE tablename = $1::text AND indexname NOT IN (SELECT conname FROM pg_constraint WHERE conrelid = $1::text::regclass)) AS lines
     ORDER BY part, position, line COLLATE "C"`,
    [table],
  );
  const options = await client.query<{ options: string | null }>(
    "SELECT array_to_string(reloptions, ', ') AS options FROM pg_class WHERE oid = $1::text::regclass",
    [table],
  );
  return `TABLE ${table} (${options.rows[0]?.options ?? ''})\n${lines.rows.map(({ line }) => line).join('\n')}\n`;
}

/**
 * Describes a statement: the text that PostgreSQL gets, the name by which it is prepared, and the types that PostgreSQL
 * gives to its parameters.
 */
async function describeStatement(key: string, statement: AnyStatement): Promise<string> {
  const { name, text, action, parameters, isRepeatable } = statement;
  await client.query(`PREPARE ${name} AS ${text}`);
  const prepared = await client.query<{ types: string[] }>(
    'SELECT parameter_types::text[] AS types FROM pg_prepared_statements WHERE name = $1',
    [name],
  );
  const types = prepared.rows[0]?.types ?? [];
  expect(types).toHaveLength(parameters.length);
  const named = parameters.map((parameter: string, index) => `--   $${index + 1} ${parameter}: ${types[index] ?? ''}`);
  const repeated = isRepeatable ? 'repeated when its connection breaks' : 'never repeated';
  const head = [`-- ${key}: ${action}`, `-- ${name}, ${repeated}`, ...named];
  return `${head.join('\n')}\n${text.replace(/^ +$/gm, '')};\n`;
}

describe('The golden files', () => {
  it('have the tables by the paths that the module gives them', async () => {
    const dataSource = await openDataSource(database.url);
    expect(tokensEntities.map((entity) => tablePathOf(dataSource, entity))).toEqual(PATHS);
    await dataSource.destroy();
  });

  it('have the statements of every file, and no others', async () => {
    const test = await readFile(`${FOLDER}/golden.e2e-spec.ts`, 'utf8');
    const sources = (await readdir('src/storage', { recursive: true })).filter((path) =>
      path.endsWith('.statements.ts'),
    );
    // Both tables with leases have its statements.
    const missing = sources.filter(
      (path) => path !== 'leases/lease.statements.ts' && !test.includes(path.slice(0, -3)),
    );
    expect(missing).toEqual([]);
    const golden = (await readdir(FOLDER)).filter((name) => name.endsWith('.sql'));
    expect(golden.sort()).toEqual([...Object.keys(statements), 'schema'].map((name) => `${name}.sql`).sort());
  });

  it('have the migrated schema', async () => {
    const tables: string[] = [];
    for (const table of TABLES) tables.push(await describeTable(table));
    await expectGolden('schema', tables.join('\n'));
  });

  it.each(Object.keys(statements))('have the statements of %s, which PostgreSQL prepares', async (file) => {
    const texts: string[] = [];
    for (const [key, statement] of Object.entries(statements[file] ?? {})) {
      texts.push(await describeStatement(key, statement));
    }
    await expectGolden(file, texts.join('\n'));
  });
});
