import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';

import { afterAll, beforeAll, beforeEach, describe, expect, it, jest } from '@jest/globals';

import { type PostgresServer, startPostgres } from '../examples/support/postgres.js';
import type { Finding } from '../src/cli/doctor/finding.js';
import { type IdentityProvidersOptions, runTokenMigrations, TokenManager } from '../src/index.js';
import { queryDatabase } from './support/query-database.js';
import { openDataSource } from './support/test-database.js';
import { startTokenEndpoint, type TokenEndpoint } from './support/token-endpoint.js';
import { createTokensApp, newKey } from './support/tokens-app.js';

/** Each run is a process. */
jest.setTimeout(300_000);

/** A run of the built program. */
interface Run {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** The object that the configuration file exports. */
interface Config {
  dataSource: Record<string, unknown>;
  tokens: Record<string, unknown>;
}

const PROGRAM = new URL('../dist/cli/main.js', import.meta.url);
const key = { id: 'test', secret: newKey() };
const legacy = { id: 'legacy', legacyFernetSecret: 'legacy-secret-of-the-fixture' };
const clientSecret = 'client-secret-of-the-fixture';
const pair = { accessToken: 'access-token-of-the-fixture', refreshToken: 'refresh-token-of-the-fixture' };
const offlineToken = 'offline-token-of-the-fixture';

let server: PostgresServer;
let endpoint: TokenEndpoint;
let folder: string;
let config: Config;
/** Everything that no output may have. */
const secrets: string[] = [];

beforeAll(async () => {
  [server, endpoint, folder] = await Promise.all([
    startPostgres(),
    startTokenEndpoint(),
    mkdtemp(join(tmpdir(), 'idp-tokens-doctor-')),
  ]);
  endpoint.answer = (_, form) => ({
    status: 400,
    body: { error: form.get('client_secret') === clientSecret ? 'invalid_grant' : 'invalid_client' },
  });
  const dataSource = await openDataSource(server.url);
  await runTokenMigrations(dataSource);
  await dataSource.destroy();
  const { app } = await createTokensApp({
    databaseUrl: server.url,
    isDirect: true,
    options: {
      encryption: { keys: [key] },
      identityProviders: configFor(server.url).tokens.identityProviders as IdentityProvidersOptions,
    },
  });
  await app.get(TokenManager).storeIdpTokens('ada', 'acme', pair);
  await app.get(TokenManager).storeOfflineToken('ada', offlineToken);
  await app.close();
  const rows = await queryDatabase(server.url, 'SELECT access_token, refresh_token FROM auth_tokens');
  const [offline] = await queryDatabase(server.url, 'SELECT offline_token FROM offline_tokens');
  const [registered] = await queryDatabase(server.url, 'SELECT check_text FROM token_keys');
  const { password } = new URL(server.url);
  const sealed = [...Object.values(rows[0] ?? {}), offline?.offline_token, registered?.check_text].map(String);
  secrets.push(
    ...sealed,
    key.secret,
    legacy.legacyFernetSecret,
    clientSecret,
    ...Object.values(pair),
    offlineToken,
    password,
  );
  expect(secrets.every((secret) => secret.length >= 8)).toBe(true);
});

beforeEach(() => {
  config = configFor(server.url);
});

afterAll(async () => {
  await endpoint.close();
  await server.stop();
  await rm(folder, { recursive: true, force: true });
});

function configFor(url: string): Config {
  const acme = {
    clientId: 'acme',
    clientSecret,
    tokenEndpoint: endpoint.url,
    clientAuthentication: 'client_secret_post',
  };
  return {
    dataSource: { type: 'postgres', url, connectTimeoutMS: 5000 },
    tokens: { encryption: { keys: [key, legacy] }, identityProviders: { acme } },
  };
}

/** Runs the doctor with the present configuration, always with --debug, and looks for secrets in its output. */
async function doctor(words: string[] = [], environment: NodeJS.ProcessEnv = {}): Promise<Run> {
  const file = join(folder, 'idp-tokens.config.mjs');
  await writeFile(file, `export default ${JSON.stringify(config)};`);
  return runWithout(['--config', file, ...words], environment);
}

async function runWithout(words: string[], environment: NodeJS.ProcessEnv = {}): Promise<Run> {
  const child = spawn(process.execPath, [PROGRAM.pathname, 'doctor', '--debug', ...words], {
    cwd: folder,
    env: { PATH: process.env.PATH, HOME: folder, ...environment },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const exited = once(child, 'exit');
  const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr)]);
  const [exitCode] = (await exited) as [number];
  for (const secret of secrets) expect(stdout + stderr).not.toContain(secret);
  return { exitCode, stdout, stderr };
}

/** Returns the findings of a run with --json, after a look at the shape of its output. */
function findingsIn({ stdout }: Run): Finding[] {
  const { command, ok, result } = JSON.parse(stdout) as {
    command: string;
    ok: boolean;
    result: { ok: number; warnings: number; faults: number; findings: Finding[] };
  };
  const count = (level: string) => result.findings.filter((finding) => finding.level === level).length;
  expect(command).toBe('doctor');
  expect(ok).toBe(count('fault') === 0);
  expect(result).toMatchObject({ ok: count('ok'), warnings: count('warning'), faults: count('fault') });
  return result.findings;
}

const namesOf = (findings: Finding[], ...levels: string[]) =>
  findings.filter(({ level }) => levels.includes(level)).map(({ check }) => check);

describe('idp-tokens doctor', () => {
  it('ends with 0 when there are only warnings, and has a line for each check', async () => {
    await queryDatabase(server.url, `ALTER DATABASE postgres SET statement_timeout = 0`);
    const run = await doctor(['--json']);
    expect(run.exitCode).toBe(0);
    expect(run.stderr).toBe('');
    const findings = findingsIn(run);
    expect(namesOf(findings, 'warning')).toEqual(['statement timeout']);
    expect(namesOf(findings, 'ok', 'warning')).toEqual([
      'configuration',
      'server',
      'migrations',
      'drift',
      'privileges',
      'writable',
      'clock',
      'prepared statements',
      'statement timeout',
      'connection timeout',
      'pool',
      'keys',
      'sample',
      'hot updates',
      'bloat',
      'durability',
      'replication',
      'provider acme',
      'keycloak',
    ]);
  });

  it('changes no row, and registers no key', async () => {
    const content = async () =>
      queryDatabase(
        server.url,
        `SELECT query_to_xml('SELECT *, xmin FROM ' || oid::regclass, true, false, '')::text FROM pg_class
         WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY oid`,
      );
    const before = await content();
    expect(before.length).toBeGreaterThan(5);
    const other = { id: 'other', secret: newKey() };
    config.tokens.encryption = { keys: [other, key] };
    await doctor();
    expect(await content()).toEqual(before);
  });

  it.each([80, 40])('fits into %i columns', async (columns) => {
    config.tokens.encryption = { keys: [{ id: 'other', secret: newKey() }] };
    const { stdout, exitCode } = await doctor([], { COLUMNS: String(columns) });
    const lines = stdout.split('\n');
    expect(lines.filter((line) => line.length > columns)).toEqual([]);
    expect(exitCode).toBe(1);
    expect(lines.filter((line) => /^(ok|warning|fault) +\S/.test(line)).length).toBeGreaterThan(18);
    expect(lines.every((line) => /^((ok|warning|fault) | {9}|\d+ ok, |$)/.test(line))).toBe(true);
    expect(stdout).toMatch(/\n\d+ ok, 1 warning, \d+ faults\.\n$/);
  });

  it('ends with 1 for a wrong client secret, and says what to correct', async () => {
    config.tokens.identityProviders = {
      acme: {
        clientId: 'acme',
        clientSecret: 'wrong',
        tokenEndpoint: endpoint.url,
        clientAuthentication: 'client_secret_post',
      },
    };
    const { stdout, exitCode } = await doctor();
    expect(exitCode).toBe(1);
    expect(stdout.replace(/\s+/g, ' ')).toContain(
      'refuses the client (invalid_client). To do: Correct clientId, clientSecret',
    );
  });

  it('ends with 1 for a clock that is an hour ahead', async () => {
    const ahead = 'const now = Date.now; Date.now = () => now() + 3_600_000;';
    const run = await doctor(['--json'], {
      NODE_OPTIONS: `--import data:text/javascript,${encodeURIComponent(ahead)}`,
    });
    expect(run.exitCode).toBe(1);
    const clock = findingsIn(run).find(({ check }) => check === 'clock');
    expect(clock).toMatchObject({
      level: 'fault',
      message: expect.stringMatching(/is 3,600 s ahead of that of the database/),
    });
  });

  it('ends with 3 without a database, and still checks the providers', async () => {
    config = configFor('postgres://user:secret-of-the-url@127.0.0.1:9/none');
    const run = await doctor(['--json']);
    expect(run.exitCode).toBe(3);
    const findings = findingsIn(run);
    expect(namesOf(findings, 'fault')).toEqual(['database']);
    expect(namesOf(findings, 'ok', 'warning')).toEqual([
      'configuration',
      'connection timeout',
      'provider acme',
      'keycloak',
    ]);
    expect(run.stdout + run.stderr).not.toContain('secret-of-the-url');
  });

  it('ends with 3 for a server that accepts the connection and is silent, without connectTimeoutMS too', async () => {
    const silent = createServer(() => undefined).listen(0, '127.0.0.1');
    await once(silent, 'listening');
    config = configFor(`postgres://user:secret-of-the-url@127.0.0.1:${(silent.address() as AddressInfo).port}/none`);
    delete config.dataSource.connectTimeoutMS;
    const run = await doctor(['--json']);
    silent.close();
    expect(run.exitCode).toBe(3);
    const [database] = findingsIn(run);
    expect(database).toMatchObject({
      check: 'database',
      level: 'fault',
      message: expect.stringContaining('within 15 s'),
    });
  });

  it('names a wrong password without showing it', async () => {
    const url = new URL(server.url);
    url.password = 'wrong-password-of-the-url';
    config = configFor(url.href);
    const run = await doctor(['--json']);
    expect(run.exitCode).toBe(2);
    expect(findingsIn(run)[0]?.message).toContain('28P01');
    expect(run.stdout + run.stderr).not.toContain('wrong-password-of-the-url');
  });

  it('does what it can with DATABASE_URL alone, and with TOKENS_KEYS', async () => {
    const run = (environment: NodeJS.ProcessEnv) =>
      runWithout(['--json'], { DATABASE_URL: server.url, ...environment });
    await rm(join(folder, 'idp-tokens.config.mjs'), { force: true });
    const alone = await run({});
    expect(alone.exitCode).toBe(0);
    expect(namesOf(findingsIn(alone), 'warning')).toContain('configuration');
    expect(findingsIn(alone).map(({ check }) => check)).not.toContain('keys');
    const withKeys = await run({ TOKENS_KEYS: `${key.id}:${key.secret}` });
    expect(findingsIn(withKeys).find(({ check }) => check === 'keys')?.level).toBe('ok');
    const withOthers = await run({ TOKENS_KEYS: `other:${newKey()}` });
    expect(withOthers.exitCode).toBe(1);
    expect(namesOf(findingsIn(withOthers), 'fault')).toEqual(['keys', 'keys', 'sample', 'sample']);
  });

  it('says by --help how it is called', async () => {
    const { stdout, exitCode } = await runWithout(['--help']);
    expect(exitCode).toBe(0);
    expect(stdout).toContain('$ idp-tokens doctor');
  });
});
