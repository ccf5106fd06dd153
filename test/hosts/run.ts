import { execFile, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { createInterface } from 'node:readline';
import { parseArgs, promisify } from 'node:util';

import { Client } from 'pg';

import { startPostgres } from '../../examples/support/postgres.js';
import { programsOf } from '../support/document-programs.js';
import { packProject } from '../support/packed-package.js';

/**
 * Installs the packed package into the applications of this folder, as their developers would: `npm install`, the
 * compiler, one start with requests over HTTP, and the unit test in the runner of the application. Every application
 * has the sources of `program`, the program of README.md, and `library`, a dependency that requires the package.
 *
 *     npm run test:hosts [-- name…] [--with typeorm@0.3.20]…
 *
 * `--with` puts another version of a dependency into the applications. With DATABASE_URL they use that server.
 */
interface HostManifest {
  readonly type?: string;
  readonly dependencies: Record<string, string>;
  readonly devDependencies: Record<string, string>;
  /** The oldest Node.js on which the test runner of the host works. */
  readonly testsNeedNode?: string;
}

/** What the summary line names, in its order, if the host has it. */
const NAMED = [
  '@nestjs/core',
  '@nestjs/platform-express',
  '@nestjs/platform-fastify',
  'typeorm',
  'typescript',
  'ts-jest',
  'vitest',
];
/** The compiler options under which a host compiles, so that it checks our declarations and writes its own. */
const STRICT = { strict: true, declaration: true, skipLibCheck: undefined };

const run = promisify(execFile);
const folder = import.meta.dirname;
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { with: { type: 'string', multiple: true, default: [] } },
});

const known = (await readdir(folder, { withFileTypes: true }))
  .filter((entry) => entry.isDirectory() && !['program', 'library'].includes(entry.name))
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
  const began = performance.now();
  const done: string[] = [];
  let step = '';
  const take = async (next: string, work: () => Promise<unknown>) => {
    step = next;
    await work();
    done.push(next);
  };
  try {
    await cp(join(folder, name), host, { recursive: true });
    const manifest = await writeManifest(host);
    await copyProgram(host, manifest.type);
    await take('installs', () => npm(host, ['install', '--no-audit', '--no-fund', '--install-links']));
    await take('has strict and declaration without skipLibCheck', () => expectStrictOptions(host));
    await take('compiles its program and that of README.md', () => npm(host, ['run', 'build']));
    await take('serves a token, also to a library that requires the package', () => serve(host));
    const { testsNeedNode = '0' } = manifest;
    if (process.versions.node.localeCompare(testsNeedNode, 'en', { numeric: true }) >= 0) {
      await take('passes the unit test of its guarded controller', () => npm(host, ['test']));
    } else {
      done.push(`NOT RUN: its unit test, because its test runner needs Node.js ${testsNeedNode}`);
    }
    const seconds = ((performance.now() - began) / 1000).toFixed();
    console.log(`${name}: ${await traitsOf(host, manifest)}: ${done.join('; ')} (${seconds} s)`);
  } catch (error) {
    const { message, stdout = '', stderr = '' } = error as Error & { stdout?: string; stderr?: string };
    const [reason = ''] = message.split('\n', 1);
    console.error(`${name}: FAILED: "${step}": ${reason}\n${stdout}${stderr}`);
    process.exitCode = 1;
  } finally {
    await rm(host, { recursive: true, force: true });
  }
}

async function writeManifest(host: string): Promise<HostManifest> {
  const manifest = await readManifest(host);
  manifest.dependencies['nestjs-idp-tokens'] = `file:${packed.tarball}`;
  manifest.dependencies.library = `file:${join(folder, 'library')}`;
  for (const dependency of values.with) {
    const [, name = '', version = ''] = /^(.+)@(.+)$/.exec(dependency) ?? [];
    manifest.dependencies[name] = version;
  }
  await writeFile(join(host, 'package.json'), JSON.stringify(manifest));
  return manifest;
}

async function readManifest<T = HostManifest>(location: string): Promise<T> {
  return JSON.parse(await readFile(join(location, 'package.json'), 'utf8')) as T;
}

/** Copies what the hosts share, and in `src/readme` the program of README.md. */
async function copyProgram(host: string, type?: string): Promise<void> {
  await cp(join(folder, 'program'), join(host, 'src'), { recursive: true });
  await mkdir(join(host, 'src/readme'));
  for (const [path, source] of Object.entries(await programsOf('README.md'))) {
    await writeFile(join(host, 'src/readme', basename(path)), source);
  }
  if (type !== 'module') await removeExtensions(join(host, 'src'));
}

/** CommonJS applications import without extensions, and Jest finds `./x.js` nowhere. */
async function removeExtensions(sources: string): Promise<void> {
  for (const file of await readdir(sources, { recursive: true })) {
    if (!file.endsWith('.ts')) continue;
    const source = await readFile(join(sources, file), 'utf8');
    await writeFile(join(sources, file), source.replace(/(from '\.\/.*)\.js';/g, "$1';"));
  }
}

async function expectStrictOptions(host: string): Promise<void> {
  const { stdout } = await run('npx', ['tsc', '--showConfig'], { cwd: host });
  const { compilerOptions } = JSON.parse(stdout) as { compilerOptions: Record<string, unknown> };
  for (const [option, value] of Object.entries(STRICT)) {
    if (compilerOptions[option] === value) continue;
    throw new Error(`tsconfig.json has ${option}: ${String(compilerOptions[option])}, and not ${String(value)}.`);
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
  for (const path of ['repositories', 'accounts']) {
    await expectAnswer(fetch(`${url}/${path}`, { headers }), 200, body);
    await expectAnswer(fetch(`${url}/${path}`, { headers: { 'x-user': 'grace' } }), 403, 'ERR_TOKENS_NOT_FOUND');
  }
  for (const [user, asked] of [
    ['ada', 'the token of ada'],
    ['grace', 'ERR_TOKENS_NOT_FOUND'],
  ]) {
    await expectAnswer(fetch(`${url}/library/${user}`), 200, JSON.stringify({ asked, different: [] }));
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

async function traitsOf(host: string, manifest: HostManifest): Promise<string> {
  const names = NAMED.filter((name) => name in { ...manifest.dependencies, ...manifest.devDependencies });
  const versions = names.map(async (name) => {
    const { version } = await readManifest<{ version: string }>(join(host, 'node_modules', name));
    return `${name} ${version}`;
  });
  const format = manifest.type === 'module' ? 'ES modules' : 'CommonJS';
  return [format, `Node.js ${process.versions.node}`, ...(await Promise.all(versions))].join(', ');
}
