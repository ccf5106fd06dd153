import { execFile as execFileWithCallback } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import { TokenKeyRotation } from 'nestjs-idp-tokens';
import pg from 'pg';

import { type RunningScript, startScript } from '../../examples/support/child-process.js';
import { type ModuleApp, moduleReads, seedModule, startModule } from '../rivals/module.js';
import { type BenchServer, query, vacuum } from '../support/database.js';
import { race } from '../support/race.js';
import { BackAndForth, BOTH_KEYS, type Resealed, TOKENS_KEYS_OF_BOTH } from '../support/reseal.js';
import { type Spread, spreadOf } from '../support/statistics.js';
import { randomUsers, userId } from '../support/users.js';

const execFile = promisify(execFileWithCallback);

const CALLERS = 32;

/** The sizes of a run. */
export interface RotationSizes {
  readonly users: number;
  readonly rounds: number;
  /** How long a reseal alone is measured, in milliseconds. */
  readonly aloneMs: number;
  /** How many rows `status` counts. */
  readonly statusRows: number;
}

const SIZES: RotationSizes = { users: 100_000, rounds: 3, aloneMs: 5000, statusRows: 1_000_000 };

/** A reseal beside readers of fresh tokens. */
interface Beside {
  readonly name: string;
  readonly rowsPerSecond: Spread;
  readonly readsPerSecond: Spread;
  /** Reads per second ÷ reads per second of the same process without a reseal in the same round. */
  readonly readersShare: Spread;
}

/** What a rotation costs: the reseal alone and beside readers, the count of the texts, the registry. */
export interface RotationResult {
  readonly callers: number;
  readonly aloneRowsPerSecond: Spread;
  readonly beside: readonly Beside[];
  /** How long `TokenKeyRotation.status()` takes, and the command `idp-tokens status` with its start. */
  readonly status: { readonly rows: number; readonly seconds: Spread; readonly commandSeconds: Spread };
  /** The statements of one read, and how many of them use the table of the keys. */
  readonly read: { readonly statements: number; readonly ofRegistry: number };
}

/** Measures a rotation of `auth_tokens`. Each user has two texts. */
export async function measureRotation(server: BenchServer, sizes = SIZES): Promise<RotationResult> {
  const url = await server.createDatabase('rotation');
  const module = await startModule(url, BOTH_KEYS);
  await seedModule(module, url, sizes.users, Math.floor(Date.now() / 1000) + 7 * 24 * 3600);
  const read = await statementsOfRead(module, sizes.users);

  const readerArguments = [url, sizes.users, CALLERS, 1, JSON.stringify(BOTH_KEYS)].map(String);
  const reader = await startScript(new URL('./neighbour-reader.process', import.meta.url), readerArguments);
  const resealer = await startScript(new URL('./rotation-reseal.process', import.meta.url), [url]);
  const inSame = await BackAndForth.start(url);
  const { call } = moduleReads(module);
  const readHere = async (): Promise<number> => {
    const settings = { callers: CALLERS, rounds: 1, warmUpMs: 3000, turnMs: 5000, nextUser: randomUsers(sizes.users) };
    const [standing] = await race([{ name: 'readers', call }], settings);
    return standing?.perSecond.median ?? NaN;
  };
  const readThere = async (): Promise<number> =>
    ((await answerTo(reader, 'measure')) as { perSecond: number }).perSecond;

  const alone: number[] = [];
  for (let round = 0; round < sizes.rounds; round++) {
    alone.push(rate((await whileResealing(resealer, Infinity, () => delay(sizes.aloneMs))).resealed));
  }
  const beside = [
    await measureBeside('no limit, another process', sizes.rounds, readThere, (work) =>
      whileResealing(resealer, Infinity, work),
    ),
    await measureBeside('default pace, another process', sizes.rounds, readThere, (work) =>
      whileResealing(resealer, undefined, work),
    ),
    await measureBeside('default pace, the same process', sizes.rounds, readHere, async (work) => {
      const stopping = new AbortController();
      const running = inSame.run(stopping.signal, undefined);
      const result = await work().finally(() => {
        stopping.abort();
      });
      return { result, resealed: await running };
    }),
  ];
  await Promise.all([reader.stop(), resealer.stop(), inSame.close(), module.app.close()]);
  return {
    callers: CALLERS,
    aloneRowsPerSecond: spreadOf(alone),
    beside,
    status: await measureStatus(server, sizes),
    read,
  };
}

type WhileResealing = <Result>(work: () => Promise<Result>) => Promise<{ result: Result; resealed: Resealed }>;

/** Measures readers without and with a reseal in turns. Every second round begins with the reseal. */
async function measureBeside(
  name: string,
  rounds: number,
  readsPerSecond: () => Promise<number>,
  beside: WhileResealing,
): Promise<Beside> {
  const measured: { alone: number; reads: number; rows: number }[] = [];
  for (let round = 0; round < rounds; round++) {
    const isAloneFirst = round % 2 === 0;
    const before = isAloneFirst ? await readsPerSecond() : NaN;
    const { result: reads, resealed } = await beside(readsPerSecond);
    const alone = isAloneFirst ? before : await readsPerSecond();
    measured.push({ alone, reads, rows: rate(resealed) });
  }
  return {
    name,
    rowsPerSecond: spreadOf(measured.map(({ rows }) => rows)),
    readsPerSecond: spreadOf(measured.map(({ reads }) => reads)),
    readersShare: spreadOf(measured.map(({ reads, alone }) => reads / alone)),
  };
}

/** Does some work while another process reseals. */
async function whileResealing<Result>(
  resealer: RunningScript<unknown>,
  maxRowsPerSecond: number | undefined,
  work: () => Promise<Result>,
): Promise<{ result: Result; resealed: Resealed }> {
  resealer.child.send({ maxRowsPerSecond });
  const result = await work();
  return { result, resealed: (await answerTo(resealer, {})) as Resealed };
}

async function measureStatus(
  server: BenchServer,
  { rounds, statusRows }: RotationSizes,
): Promise<RotationResult['status']> {
  const url = await server.createDatabase('rotation_status');
  const module = await startModule(url, BOTH_KEYS);
  await seedModule(module, url, 1, 0);
  // The count looks at the beginning of each text only, so all rows may have the texts of the first one.
  await query(
    url,
    `INSERT INTO auth_tokens (keycloak_user_id, identity_provider, access_token, refresh_token,
         access_token_expires_at, refresh_token_expires_at)
       SELECT first.keycloak_user_id || number, first.identity_provider, first.access_token, first.refresh_token, 0, 0
         FROM auth_tokens AS first, generate_series(2, $1::int) AS number`,
    [statusRows],
  );
  await vacuum(module.dataSource, 'auth_tokens');
  const rotation = module.app.get(TokenKeyRotation);
  const seconds: number[] = [];
  const commandSeconds: number[] = [];
  for (let round = 0; round < rounds; round++) {
    const startedAt = performance.now();
    const { keys } = await rotation.status();
    seconds.push((performance.now() - startedAt) / 1000);
    const texts = keys[0]?.texts.auth_tokens;
    if (texts !== 2 * statusRows) throw new Error(`status() counted ${String(texts)} texts.`);
    commandSeconds.push(await secondsOfCommand(url, statusRows));
  }
  await module.app.close();
  return { rows: statusRows, seconds: spreadOf(seconds), commandSeconds: spreadOf(commandSeconds) };
}

/** Runs `idp-tokens status` as an operator does. Returns its seconds. */
async function secondsOfCommand(url: string, rows: number): Promise<number> {
  const program = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
  const startedAt = performance.now();
  const { stdout } = await execFile(process.execPath, [program, 'status', '--json'], {
    env: { ...process.env, DATABASE_URL: url, TOKENS_KEYS: TOKENS_KEYS_OF_BOTH },
  });
  const seconds = (performance.now() - startedAt) / 1000;
  const { result } = JSON.parse(stdout) as { result: { pairs: { rows: number }[] } };
  const counted = result.pairs.reduce((sum, each) => sum + each.rows, 0);
  if (counted !== rows) throw new Error(`idp-tokens status counted ${counted} rows.`);
  return seconds;
}

/** Counts the statements that reads send, one read after the other. */
async function statementsOfRead({ tokens }: ModuleApp, users: number): Promise<RotationResult['read']> {
  const READS = 100;
  const texts: string[] = [];
  // eslint-disable-next-line @typescript-eslint/unbound-method -- it is called on the client of each statement
  const { query: send } = pg.Client.prototype;
  pg.Client.prototype.query = function (this: pg.Client, ...args: unknown[]): never {
    const [statement] = args as [string | { text: string }];
    texts.push(typeof statement === 'string' ? statement : statement.text);
    return Reflect.apply(send, this, args) as never;
  };
  try {
    for (let n = 0; n < READS; n++) await tokens.getIdpToken(userId(n % users), 'github');
  } finally {
    pg.Client.prototype.query = send;
  }
  return {
    statements: texts.length / READS,
    ofRegistry: texts.filter((text) => text.includes('token_keys')).length / READS,
  };
}

/** Sends a message, and returns the next one of the process. */
async function answerTo({ child }: RunningScript<unknown>, message: object | string): Promise<unknown> {
  const gone = new AbortController();
  const abort = () => {
    gone.abort();
  };
  child.once('exit', abort);
  const answer = once(child, 'message', { signal: gone.signal });
  child.send(message);
  const [received] = (await answer) as [unknown];
  child.off('exit', abort);
  return received;
}

function rate({ rows, seconds }: Resealed): number {
  return rows / seconds;
}
