import { execFile, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { cp, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { parseArgs, promisify } from 'node:util';

import { Client } from 'pg';

import { startPostgres } from '../../examples/support/postgres.js';
import { packProject } from '../support/packed-package.js';

/**
 * Installs the packed package into the applications of this folder, as their developers would: `npm install`, the
 * compiler, the unit test in the runner of the application, and one start with requests over HTTP.
 *
 *     npm run test:hosts [-- name…] [--with typeorm@0.3.20]…
 *
 * `--with` puts another version of a dependency into the applications. With DATABASE_URL they use that server.
 */
interface HostManifest {
  readonly type?: string;
  readonly dependencies: Record<string, string>;
  /** The oldest Node.js on which the test runner of the host works. */
  readonly testsNeedNode?: string;
}

const run = promisify(execFile);
const folder = import.meta.dirname;
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { with: { type: 'string', multiple: true, default: [] } },
});

const known = (await readdir(folder, { withFileTypes: true }))
  .filter((entry) => entry.isDirectory() && entry.name !== 'program')
  .map(({ name }) => name);
const unknown = positionals.filter((name) => !known.includes(name));
if (unknown.length > 0) throw new Error(`There is no host ${unknown.join(', ')}. The hosts are ${known.join(', ')}.`);

const postgres = process.env.DATABASE_URL ? undefined : await startPostgres();
const server = process.env.DATABASE_URL ?? postgres?.url ?? '';
const packed = await packProject({});
try {
  for (const name of positionals.length > 0 ? positionals : known) await tryHost(name);
} finally {
  await packed.remove();
  await postgres?.stop();
}

async function tryHost(name: string): Promise<void> {
  const host = await mkdtemp(join(tmpdir(), `${name}-`));
  try {
    await cp(join(folder, name), host, { recursive: true });
    const { type, testsNeedNode = '0' } = await writeManifest(host);
    const isTestable = process.versions.node.localeCompare(testsNeedNode, 'en', { numeric: true }) >= 0;
    await copyProgram(host, type);
    await npm(host, ['install', '--no-audit', '--no-fund']);
    await npm(host, ['run', 'build']);
    await serve(host);
    const versions = await versionsOf(host);
    if (isTestable) await npm(host, ['test']);
    else console.log(`${name}: NOT RUN: its unit test, because its test runner needs Node.js ${testsNeedNode}`);
    console.log(
      `${name}: ${versions}: installs, compiles, ${isTestable ? 'passes its unit test, ' : ''}serves a token`,
    );
  } catch (error) {
    const { stdout = '', stderr = '' } = error as { stdout?: string; stderr?: string };
    console.error(`${name}: ${String(error)}\n${stdout}${stderr}`);
    process.exitCode = 1;
  } finally {
    await rm(host, { recursive: true, force: true });
  }
}

async function writeManifest(host: string): Promise<HostManifest> {
  const path = join(host, 'package.json');
  const manifest = JSON.parse(await readFile(path, 'utf8')) as HostManifest;
  manifest.dependencies['nestjs-idp-tokens'] = `file:${packed.tarball}`;
  for (const dependency of values.with) {
    const [, name = '', version = ''] = /^(.+)@(.+)$/.exec(dependency) ?? [];
    manifest.dependencies[name] = version;
  }
  await writeFile(path, JSON.stringify(manifest));
  return manifest;
}

/** Copies what the hosts share. CommonJS applications import without extensions, and Jest finds `./x.js` nowhere. */
async function copyProgram(host: string, type?: string): Promise<void> {
  await cp(join(folder, 'program'), join(host, 'src'), { recursive: true });
  if (type === 'module') return;
  for (const file of await readdir(join(host, 'src'))) {
    const path = join(host, 'src', file);
    const source = await readFile(path, 'utf8');
    await writeFile(path, source.replace(/(from '\.\/.*)\.js';/g, "$1';"));
  }
}

async function npm(host: string, args: string[]): Promise<void> {
  await run('npm', args, { cwd: host, maxBuffer: 2 ** 26 });
}

/** Starts the application on a new database, and asks it for a token over HTTP. */
async function serve(host: string): Promise<void> {
  const database = await createDatabase();
  const env = { ...process.env, DATABASE_URL: database.url, TOKENS_KEY: randomBytes(32).toString('base64') };
  const application = spawn(process.execPath, ['dist/main.js'], { cwd: host, env, stdio: ['ignore', 'pipe', 'pipe'] });
  const complaints: string[] = [];
  application.stderr.on('data', (text: Buffer) => complaints.push(text.toString()));
  try {
    const exit = once(application, 'close') as Promise<[number]>;
    const line = once(createInterface(application.stdout), 'line') as Promise<[string]>;
    const [url] = await Promise.race([line, exit.then(() => Promise.reject(new Error('The application ended.')))]);
    await requestTokens(url);
    application.kill('SIGTERM');
    await exit;
    if (complaints.length > 0) throw new Error('The application complains.');
  } catch (error) {
    application.kill('SIGKILL');
    throw Object.assign(error as Error, { stderr: complaints.join('') });
  } finally {
    await database.drop();
  }
}

async function requestTokens(url: string): Promise<void> {
  const headers = { 'x-user': 'ada', 'content-type': 'application/json' };
  const body = JSON.stringify({ accessToken: 'the token of ada' });
  await expectAnswer(fetch(`${url}/accounts`, { method: 'PUT', headers, body }), 200, '');
  for (const path of ['guarded', 'asked']) {
    await expectAnswer(fetch(`${url}/accounts/${path}`, { headers }), 200, body);
    await expectAnswer(fetch(`${url}/accounts/${path}`, { headers: { 'x-user': 'grace' } }), 403, 'TOKENS_NOT_FOUND');
  }
}

async function expectAnswer(answer: Promise<Response>, status: number, part: string): Promise<void> {
  const response = await answer;
  const text = await response.text();
  if (response.status === status && text.includes(part)) return;
  throw new Error(`${response.url} answers ${response.status} ${text}, and not ${status} with ${part}.`);
}

async function createDatabase(): Promise<{ url: string; drop(): Promise<void> }> {
  const name = `host_${randomBytes(6).toString('hex')}`;
  const command = async (sql: string) => {
    const client = new Client({ connectionString: server });
    await client.connect();
    await client.query(sql);
    await client.end();
  };
  await command(`CREATE DATABASE ${name}`);
  const url = new URL(server);
  url.pathname = name;
  return { url: url.href, drop: () => command(`DROP DATABASE ${name} WITH (FORCE)`) };
}

async function versionsOf(host: string): Promise<string> {
  const versions = ['@nestjs/core', 'typeorm', 'typescript'].map(async (name) => {
    const manifest = await readFile(join(host, 'node_modules', name, 'package.json'), 'utf8');
    return `${name} ${(JSON.parse(manifest) as { version: string }).version}`;
  });
  return [`Node.js ${process.versions.node}`, ...(await Promise.all(versions))].join(', ');
}
