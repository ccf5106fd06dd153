import { execFile } from 'node:child_process';
import { cp, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const run = promisify(execFile);
const PROJECT = resolve(dirname(fileURLToPath(import.meta.url)), '../..');
const BUILD_INPUTS = [
  'src',
  'package.json',
  'nest-cli.json',
  'build-commonjs.js',
  'tsconfig.json',
  'tsconfig.build.json',
];
const DOCUMENTS = ['README.md', 'LICENSE', 'CHANGELOG.md', 'SECURITY.md', 'CONTRIBUTING.md', 'docs', 'examples'];

interface Manifest {
  readonly version: string;
  readonly dependencies: Record<string, string>;
  readonly peerDependencies: Record<string, string>;
  readonly peerDependenciesMeta: Record<string, { optional?: boolean }>;
}

/** The package in the form that npm publishes. */
export interface PackedPackage {
  readonly tarball: string;
  /** Paths inside of the package. */
  readonly files: string[];
  remove(): Promise<void>;
}

/**
 * Builds and packs a copy of the project. A build in place would delete `dist`, which other processes may read.
 *
 * @param extraFiles files beside the sources, by their path, that the package must not contain
 */
export async function packProject(extraFiles: Record<string, string>): Promise<PackedPackage> {
  const folder = await mkdtemp(join(tmpdir(), 'idp-tokens-pack-'));
  for (const name of BUILD_INPUTS) await cp(join(PROJECT, name), join(folder, name), { recursive: true });
  for (const name of DOCUMENTS) {
    await cp(join(PROJECT, name), join(folder, name), { recursive: true }).catch(ignoreMissing);
  }
  await writeFiles(folder, extraFiles);
  await link(join(PROJECT, 'node_modules'), join(folder, 'node_modules'));
  await run('npm', ['pack', '--silent'], { cwd: folder }); // the prepack script builds the package
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

/** The output and the exit code of a program. */
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
 * Makes a project that has the package installed. It unpacks the tarball and links the declared dependencies from this
 * project. It does not run `npm install`, because the suites have no network. An import that package.json does not
 * declare fails, because no other package is linked. An optional peer is linked only if the project depends on it.
 *
 * @param files the project's files by their path
 * @param development the packages that the project itself depends on
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
  const { dependencies, peerDependencies, peerDependenciesMeta } = await manifest();
  const peers = Object.keys(peerDependencies).filter((name) => peerDependenciesMeta[name]?.optional !== true);
  for (const name of new Set([...Object.keys(dependencies), ...peers, ...development])) {
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
  // NODE_OPTIONS of this process is for Jest, so the program must not inherit it.
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
