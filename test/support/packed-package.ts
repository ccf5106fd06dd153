import { execFile } from 'node:child_process';
import { cp, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const run = promisify(execFile);
const PROJECT = resolve(dirname(fileURLToPath(import.meta.url)), '../..');
const BUILD_INPUTS = ['src', 'package.json', 'nest-cli.json', 'tsconfig.json', 'tsconfig.build.json'];
const DOCUMENTS = ['README.md', 'LICENSE', 'CHANGELOG.md', 'SECURITY.md', 'CONTRIBUTING.md', 'docs'];

interface Manifest {
  readonly version: string;
  readonly dependencies: Record<string, string>;
  readonly peerDependencies: Record<string, string>;
}

/** The package as it would be published. */
export interface PackedPackage {
  readonly tarball: string;
  /** Paths inside of the package. */
  readonly files: string[];
  remove(): Promise<void>;
}

/**
 * Builds and packs a copy of the project: a build in place would delete the `dist` that others may be reading.
 *
 * @param extraFiles files to put beside the sources, by their path: what must not be published
 */
export async function packProject(extraFiles: Record<string, string>): Promise<PackedPackage> {
  const folder = await mkdtemp(join(tmpdir(), 'idp-tokens-pack-'));
  for (const name of BUILD_INPUTS) await cp(join(PROJECT, name), join(folder, name), { recursive: true });
  for (const name of DOCUMENTS) {
    await cp(join(PROJECT, name), join(folder, name), { recursive: true }).catch(ignoreMissing);
  }
  await writeFiles(folder, extraFiles);
  await link(join(PROJECT, 'node_modules'), join(folder, 'node_modules'));
  await run('npm', ['pack', '--silent'], { cwd: folder }); // its prepack script builds
  const { version } = await manifest();
  const tarball = join(folder, `nestjs-idp-tokens-${version}.tgz`);
  const { stdout } = await run('tar', ['-tzf', tarball]);
  return {
    tarball,
    files: stdout
      .trim()
      .split('\n')
      .map((path) => path.replace(/^package\//, '')),
    remove: () => rm(folder, { recursive: true }),
  };
}

/** What a program wrote and how it ended. */
export interface Outcome {
  readonly exitCode: number;
  readonly output: string;
}

/** A project that depends on the package. */
export interface Consumer {
  readonly folder: string;
  /** Runs a program in the folder of the project. */
  run(file: string, args: string[], environment?: Record<string, string>): Promise<Outcome>;
  remove(): Promise<void>;
}

/**
 * Makes a project with the package installed. The tarball is unpacked and its declared dependencies are linked from
 * here, because `npm install` would download them: the suites run without a network. An import that package.json does
 * not declare still fails, since nothing else is in reach.
 *
 * @param files the project's files by their path
 * @param development what the project has installed for itself
 */
export async function createConsumer(
  { tarball }: PackedPackage,
  files: Record<string, string>,
  development: string[] = [],
): Promise<Consumer> {
  const folder = await mkdtemp(join(tmpdir(), 'idp-tokens-consumer-'));
  await writeFiles(folder, files);
  const modules = join(folder, 'node_modules');
  const installed = join(modules, 'nestjs-idp-tokens');
  await mkdir(installed, { recursive: true });
  await run('tar', ['-xzf', tarball, '--strip-components=1', '-C', installed]);
  const { dependencies, peerDependencies } = await manifest();
  for (const name of new Set([...Object.keys({ ...dependencies, ...peerDependencies }), ...development])) {
    await link(join(PROJECT, 'node_modules', name), join(modules, name));
  }
  return {
    folder,
    run: (file, args, environment) => outcomeOf(folder, file, args, environment),
    remove: () => rm(folder, { recursive: true }),
  };
}

async function outcomeOf(
  cwd: string,
  file: string,
  args: string[],
  environment: Record<string, string> = {},
): Promise<Outcome> {
  // The options of this process are for Jest, not for programs that stand for themselves.
  const env = { ...process.env, NODE_OPTIONS: '', ...environment };
  try {
    const { stdout, stderr } = await run(file, args, { cwd, env });
    return { exitCode: 0, output: stdout + stderr };
  } catch (error) {
    const { code, stdout, stderr } = error as { code?: unknown; stdout?: string; stderr?: string };
    if (typeof code !== 'number') throw error;
    return { exitCode: code, output: `${stdout ?? ''}${stderr ?? ''}` };
  }
}

async function manifest(): Promise<Manifest> {
  return JSON.parse(await readFile(join(PROJECT, 'package.json'), 'utf8')) as Manifest;
}

async function writeFiles(folder: string, files: Record<string, string>): Promise<void> {
  for (const [path, text] of Object.entries(files)) {
    await mkdir(dirname(join(folder, path)), { recursive: true });
    await writeFile(join(folder, path), text);
  }
}

async function link(target: string, path: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  await symlink(target, path, 'dir');
}

function ignoreMissing(error: NodeJS.ErrnoException): void {
  if (error.code !== 'ENOENT') throw error;
}
