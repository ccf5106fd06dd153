import { execFile } from 'node:child_process';
import { chmod, readFile, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import { afterAll, beforeAll, describe, expect, it, jest } from '@jest/globals';

import { type PostgresServer, startPostgres } from '../../examples/support/postgres.js';
import { wrap } from '../../src/cli/text-layout.js';
import { runTokenMigrations } from '../../src/index.js';
import { configText, fillTables, openApplication } from '../support/command-line-fixture.js';
import { type CommandLineHost, createCommandLineHost } from '../support/command-line.js';
import { queryDatabase } from '../support/query-database.js';
import { createTestDatabase, openDataSource, type TestDatabase } from '../support/test-database.js';
import { startTokenEndpoint, type TokenEndpoint } from '../support/token-endpoint.js';
import { newKey } from '../support/tokens-app.js';

/** Each recorded command is a process. */
jest.setTimeout(600_000);

const DOCUMENT = 'docs/reference/command-line.md';
/** A block with a command and what it printed. */
const RECORDED = /^```text\n\$ (idp-tokens .*)\n([^]*?)^```$/gm;
const MAIN = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
const older = { id: '2025-11', secret: newKey() };
const newer = { id: '2026-11', secret: newKey() };

let database: TestDatabase;
let empty: TestDatabase;
let host: CommandLineHost;
/** The doctor has a server of its own, because it tells the settings of the server. */
let server: PostgresServer;
let endpoint: TokenEndpoint;

beforeAll(async () => {
  database = await createTestDatabase();
  empty = await createTestDatabase({ empty: true });
  const app = await openApplication(database, [older]);
  await fillTables(database, app);
  await app.close();
  [server, endpoint] = await Promise.all([startPostgres(), startTokenEndpoint()]);
  endpoint.answer = (_, form) => ({
    status: 400,
    body: { error: form.get('client_id') === 'acme-client' ? 'invalid_grant' : 'invalid_client' },
  });
  await queryDatabase(server.url, `ALTER DATABASE postgres SET statement_timeout = '8s'`);
  const dataSource = await openDataSource(server.url);
  await runTokenMigrations(dataSource);
  await dataSource.destroy();
  const client = { clientSecret: 'secret', tokenEndpoint: endpoint.url, clientAuthentication: 'client_secret_post' };
  const identityProviders = {
    acme: { ...client, clientId: 'acme-client' },
    initech: { ...client, clientId: 'initech-client' },
  };
  host = await createCommandLineHost({
    'idp-tokens.config.mjs': configText(database.url, [newer, older], { connectionTimeoutMs: 500 }),
    'empty.config.mjs': configText(empty.url, [newer]),
    'doctor.config.mjs': configText(server.url, [newer], { identityProviders }),
    // The migrations run on a database without tables.
    'bin/idp-tokens': `#!/bin/sh
case "$1" in migrate) set -- "$@" --config empty.config.mjs;; doctor) set -- "$@" --config doctor.config.mjs;; esac
exec "${process.execPath}" "${MAIN}" "$@"
`,
  });
  await chmod(`${host.folder}/bin/idp-tokens`, 0o755);
});

afterAll(async () => {
  await host.remove();
  await empty.drop();
  await endpoint.close();
  await server.stop();
  await database.drop();
});

/** Runs a command as a shell does, and returns both streams. */
async function record(command: string): Promise<string> {
  const environment = {
    ...process.env,
    PATH: `${host.folder}/bin:${process.env.PATH ?? ''}`,
    NODE_OPTIONS: '',
    COLUMNS: '80',
  };
  const ran = promisify(execFile)('bash', ['-c', `${command} 2>&1; echo "exit code $?"`], {
    cwd: host.folder,
    env: environment,
  });
  const { stdout } = await ran;
  return masked(command.startsWith('idp-tokens doctor') ? maskedFindings(stdout) : stdout).replace(
    /exit code 0\n$/,
    '',
  );
}

/** Replaces what differs from run to run by texts of the same length. */
function masked(text: string): string {
  return text
    .replace(/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z/g, '2026-11-26T09:00:00.000Z')
    .replace(/\b\d{15,19}\b/g, '4223372036854775807')
    .replace(/[A-Za-z0-9+/]{43}=/g, 'MzIgcmFuZG9tIGJ5dGVzLCBlbmNvZGVkIGluIGJhc2U2NAo=')
    .replace(/after \d+ s/g, 'after 21 s')
    .replace(/ +$/gm, ''); // prettier removes them from the page
}

/** Replaces what differs from run to run in findings, and wraps their lines anew, because the length differs too. */
function maskedFindings(text: string): string {
  const indent = ' '.repeat(9);
  return text
    .replace(/\n {9}(?!To do:)/g, ' ')
    .replace(/PostgreSQL \d+\.\d+/, 'PostgreSQL 18.4')
    .replace(/\d+\.\d ms for a round trip/, '0.4 ms for a round trip')
    .replace(/and \d+ are in use/, 'and 2 are in use')
    .replace(/127\.0\.0\.1:\d+/g, '127.0.0.1:8080')
    .replace(/^((?:ok|warning|fault) +| {9})(.*)$/gm, (_, level: string, rest: string) => {
      const lines = wrap(rest, 80 - indent.length);
      return level + lines.replaceAll('\n', `\n${indent}`);
    });
}

describe('The recorded run of the command line', () => {
  it('is what the commands print', async () => {
    const page = await readFile(DOCUMENT, 'utf8');
    let recorded = '';
    let end = 0;
    for (const { 0: block, 1: command = '', index } of page.matchAll(RECORDED)) {
      recorded += `${page.slice(end, index)}\`\`\`text\n$ ${command}\n${await record(command)}\`\`\``;
      end = index + block.length;
    }
    recorded += page.slice(end);
    if (process.env.UPDATE_GOLDEN === '1') await writeFile(DOCUMENT, recorded);
    if (recorded !== page)
      console.error(`${DOCUMENT} differs. If you meant it: UPDATE_GOLDEN=1 npm test -- test/golden`);
    expect(recorded).toBe(await readFile(DOCUMENT, 'utf8'));
  });

  it('has every command', async () => {
    const { stdout } = await promisify(execFile)(process.execPath, [MAIN, '--help']);
    const keys = await promisify(execFile)(process.execPath, [MAIN, 'keys', '--help']);
    const namesOf = (help: string) => [...help.matchAll(/^ {2}([a-z]+) .*/gm)].map(([, name = '']) => name);
    const names = [
      ...namesOf(stdout).filter((name) => !['keys', 'help'].includes(name)),
      ...namesOf(keys.stdout)
        .filter((name) => name !== 'help')
        .map((name) => `keys ${name}`),
    ];
    const commands = [...(await readFile(DOCUMENT, 'utf8')).matchAll(RECORDED)].map(([, command = '']) => command);
    expect(names.length).toBeGreaterThanOrEqual(10);
    expect(names.filter((name) => !commands.some((command) => command.startsWith(`idp-tokens ${name}`)))).toEqual([]);
  });
});
