import { type ChildProcess, spawn } from 'node:child_process';
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const PROJECT = resolve(dirname(fileURLToPath(import.meta.url)), '../..');
const MAIN = join(PROJECT, 'dist/cli/main.js');
const CHANGED = 'The settings of the terminal are other ones.';

/** What one call of the command line printed, and how it ended. */
export interface CommandLineOutcome {
  readonly exitCode: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** What is typed on a terminal; undefined for nothing. */
export type TypedAnswer = string | undefined | Promise<string | undefined>;

/** How a call on a terminal ended. */
export interface TerminalOutcome extends CommandLineOutcome {
  /** Whether the terminal has the settings that it had before the call, and shows its cursor. */
  readonly isInOrder: boolean;
}

/** A call of the command line that is under way. */
export interface RunningCommandLine {
  readonly child: ChildProcess;
  /** What it has printed on standard error so far. */
  stderr(): string;
  readonly outcome: Promise<CommandLineOutcome>;
}

/** The surroundings of calls of the built command line: a folder of a host that has the package, and an environment. */
export interface CommandLineHost {
  readonly folder: string;
  /** Everything that all calls have printed. */
  printed(): string;
  run(words: readonly string[], environment?: Record<string, string>): Promise<CommandLineOutcome>;
  /** Runs a command with `--json`, and returns what it printed. */
  json(
    words: readonly string[],
    environment?: Record<string, string>,
  ): Promise<CommandLineOutcome & { answer: Answer }>;
  start(words: readonly string[], environment?: Record<string, string>): RunningCommandLine;
  /**
   * Runs a command on a terminal of this width, by `script` of util-linux. Standard output and standard error are both
   * the terminal. When it shows the question of the command, `answer` is called, and what it returns is typed.
   */
  runOnTerminal(words: readonly string[], columns: number, answer?: () => TypedAnswer): Promise<TerminalOutcome>;
  write(name: string, text: string): Promise<string>;
  remove(): Promise<void>;
}

/** What `--json` prints. */
export interface Answer {
  readonly command: string;
  readonly ok: boolean;
  readonly result?: Record<string, unknown>;
  readonly error?: { readonly name: string; readonly message: string; readonly remedy?: string };
}

/** @param files the files of the host by their paths */
export async function createCommandLineHost(files: Record<string, string> = {}): Promise<CommandLineHost> {
  const folder = await mkdtemp(join(tmpdir(), 'idp-tokens-cli-'));
  await mkdir(join(folder, 'node_modules'));
  await symlink(PROJECT, join(folder, 'node_modules/nestjs-idp-tokens'), 'dir');
  const all: string[] = [];
  const write = async (name: string, text: string): Promise<string> => {
    const path = join(folder, name);
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, text);
    return path;
  };
  for (const [name, text] of Object.entries(files)) await write(name, text);

  const started = (
    file: string,
    args: readonly string[],
    environment: Record<string, string>,
    stdin: 'ignore' | 'pipe',
  ) => {
    const child = spawn(file, args, { cwd: folder, env: environmentOf(environment), stdio: [stdin, 'pipe', 'pipe'] });
    const printed = { stdout: '', stderr: '' };
    for (const name of ['stdout', 'stderr'] as const) {
      child[name]?.setEncoding('utf8').on('data', (text: string) => {
        printed[name] += text;
        all.push(text);
      });
    }
    const outcome = new Promise<CommandLineOutcome>((end, fail) => {
      child.on('error', fail);
      child.on('close', (exitCode) => {
        end({ exitCode, ...printed });
      });
    });
    return { child, printed, outcome };
  };
  const start = (words: readonly string[], environment: Record<string, string> = {}): RunningCommandLine => {
    const { child, printed, outcome } = started(process.execPath, [MAIN, ...words], environment, 'ignore');
    return { child, outcome, stderr: () => printed.stderr };
  };
  return {
    folder,
    printed: () => all.join(''),
    start,
    run: (words, environment) => start(words, environment).outcome,
    json: async (words, environment) => {
      const outcome = await start([...words, '--json'], environment).outcome;
      return { ...outcome, answer: JSON.parse(outcome.stdout) as Answer };
    },
    runOnTerminal: async (words, columns, answer) => {
      // The shell goes on after Ctrl-C, which the terminal sends to it too.
      const command = `trap : INT; stty rows 24 cols ${columns}; settings=$(stty -g)
        ${[process.execPath, MAIN, ...words].join(' ')}
        code=$?; test "$(stty -g)" = "$settings" || echo "${CHANGED}"; exit $code`;
      const { child, printed, outcome } = started('script', ['-qec', command, '/dev/null'], { TERM: 'xterm' }, 'pipe');
      let answering: Promise<void> | undefined;
      const type = async () => {
        const typed = await answer?.();
        if (typed !== undefined) child.stdin?.write(typed);
      };
      child.stdout?.on('data', () => {
        if (answering || !printed.stdout.includes('Go on?')) return;
        answering = type();
        // Without an answer the command would wait for ever.
        answering.catch(() => {
          child.kill();
        });
      });
      const ended = await outcome;
      await answering;
      const isCursorHidden = ended.stdout.lastIndexOf('\u001b[?25l') > ended.stdout.lastIndexOf('\u001b[?25h');
      return { ...ended, isInOrder: !ended.stdout.includes(CHANGED) && !isCursorHidden };
    },
    write,
    remove: () => rm(folder, { recursive: true }),
  };
}

/** The child has no database, no key and no option of this process. */
function environmentOf(given: Record<string, string>): Record<string, string | undefined> {
  const inherited = Object.entries(process.env).filter(
    ([name]) => !/^(PG|TOKENS_)|^(DATABASE_URL|COLUMNS|NODE_OPTIONS|CI|FORCE_COLOR)$/.test(name),
  );
  return { ...Object.fromEntries(inherited), ...given };
}
