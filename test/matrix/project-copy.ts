import { execFile } from 'node:child_process';
import { chmod, cp, mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join, resolve } from 'node:path';
import { promisify } from 'node:util';

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
export async function copyProject(packages: readonly string[], node?: string): Promise<ProjectCopy> {
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
      await run('npm', ['install', '--save-dev', '--no-audit', '--no-fund', ...packages], {
        cwd: folder,
        env: environment,
        maxBuffer: 2 ** 26,
      });
    }
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

/** Installs Node.js of a version from npm. Returns the directory of its program. */
async function installNode(version: string, folder: string): Promise<string> {
  const system = `${process.platform === 'win32' ? 'win' : process.platform}-${process.arch}`;
  const name = system === 'darwin-arm64' ? `node-bin-${system}` : `node-${system}`;
  const prefix = join(folder, 'build', 'node');
  await mkdir(prefix, { recursive: true });
  await run('npm', ['install', '--prefix', prefix, '--no-save', '--no-audit', '--no-fund', `${name}@${version}`], {
    cwd: prefix,
    env: environmentOf(undefined),
  });
  return join(prefix, 'node_modules', name, 'bin');
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
