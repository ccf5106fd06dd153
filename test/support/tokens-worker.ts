import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

import type { TokensModuleOptions } from '../../src/index.js';
import { poolerOptions, urlUnderTest } from './test-database.js';

/** The settings of a worker. They must be JSON. */
export interface WorkerSettings {
  databaseUrl: string;
  poolSize?: number;
  options: TokensModuleOptions;
  /** The provider of all calls. Default: `hostile`. */
  idp?: string;
}

/** The demand of a call. */
export interface WorkerDemand {
  rejectedVersion?: string;
  minValiditySeconds?: number;
}

export interface WorkerCall extends WorkerDemand {
  id: number;
  kind: 'get' | 'close';
  users: string[];
  /** Number of concurrent callers for each user. */
  callers?: number;
}

/** The outcome of one call of `getIdpToken`. */
export interface Outcome {
  accessToken?: string;
  version?: string;
  /** Name of the error class. */
  error?: string;
}

/** A process that runs the built package. */
export interface TokensWorker {
  readonly child: ChildProcess;
  /** Calls `getIdpToken` for every user at once, `callers` times each. */
  get(users: string[], options?: WorkerDemand & { callers?: number }): Promise<Outcome[]>;
  /** Calls `app.close()` and ends the process. */
  close(): Promise<void>;
  kill(signal: NodeJS.Signals): void;
}

/**
 * A configuration without path mapping, so that the worker imports `dist/`. With path mapping it would import the
 * sources, and tsx compiles them without decorator metadata.
 */
const WITHOUT_PATH_MAPPING = fileURLToPath(new URL('../../tsconfig.examples.json', import.meta.url));

export async function startTokensWorker(given: WorkerSettings): Promise<TokensWorker> {
  const settings = {
    ...given,
    databaseUrl: urlUnderTest(given.databaseUrl),
    options: { ...poolerOptions(), ...given.options },
  };
  const child = fork(
    fileURLToPath(new URL('./tokens-worker.process.ts', import.meta.url)),
    [JSON.stringify(settings)],
    {
      execArgv: ['--import', 'tsx'],
      env: { ...process.env, TSX_TSCONFIG_PATH: WITHOUT_PATH_MAPPING, NODE_OPTIONS: '' },
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    },
  );
  await Promise.race([
    once(child, 'message'),
    once(child, 'exit').then(() =>
      Promise.reject(new Error('The worker did not start. Make sure that dist/ is built.')),
    ),
  ]);
  let calls = 0;
  const call = (request: Omit<WorkerCall, 'id'>): Promise<Outcome[]> => {
    const id = ++calls;
    return new Promise((resolve, reject) => {
      const onExit = () => {
        reject(new Error('The worker process has ended.'));
      };
      const onMessage = (message: { id: number; outcomes: Outcome[] }) => {
        if (message.id !== id) return;
        child.off('message', onMessage);
        child.off('exit', onExit);
        resolve(message.outcomes);
      };
      child.on('message', onMessage);
      child.once('exit', onExit);
      child.send({ id, ...request });
    });
  };
  return {
    child,
    get: (users, options) => call({ kind: 'get', users, ...options }),
    async close() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const exit = once(child, 'exit');
      await call({ kind: 'close', users: [] });
      child.disconnect();
      await exit;
    },
    kill(signal) {
      child.kill(signal);
    },
  };
}
