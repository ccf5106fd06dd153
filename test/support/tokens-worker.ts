import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

import type { AccountLinks, TokenKeyRotation, TokenManager, TokensModuleOptions } from '../../src/index.js';
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

/** The classes of the package that a request may call. */
export interface WorkerServices {
  TokenManager: TokenManager;
  TokenKeyRotation: TokenKeyRotation;
  AccountLinks: AccountLinks;
}

/** A call of any method. */
export interface WorkerRequest {
  id: number;
  kind: 'request';
  service: keyof WorkerServices;
  method: string;
  args: unknown[];
}

/** The outcome of one call of `getIdpToken`. */
export interface Outcome {
  accessToken?: string;
  version?: string;
  /** Name of the error class. */
  error?: string;
}

interface WorkerAnswer {
  id: number;
  outcomes?: Outcome[];
  value?: unknown;
  error?: string;
}

/** A process that runs the built package. */
export interface TokensWorker {
  readonly child: ChildProcess;
  /** Calls `getIdpToken` for every user at once, `callers` times each. */
  get(users: string[], options?: WorkerDemand & { callers?: number }): Promise<Outcome[]>;
  /**
   * Calls a method. The arguments and the result travel as JSON; of a usable token the access token and the version.
   * Rejects with the name and the message of an error.
   */
  request<Service extends keyof WorkerServices>(
    service: Service,
    method: keyof WorkerServices[Service] & string,
    ...args: unknown[]
  ): Promise<unknown>;
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
  const pending = new Map<number, (answer: WorkerAnswer) => void>();
  child.on('message', (answer: WorkerAnswer) => {
    pending.get(answer.id)?.(answer);
    pending.delete(answer.id);
  });
  child.once('exit', () => {
    for (const [id, settle] of pending) settle({ id, error: 'The worker process has ended.' });
    pending.clear();
  });
  const send = (message: object): Promise<WorkerAnswer> => {
    const id = ++calls;
    return new Promise((resolve, reject) => {
      pending.set(id, (answer) => {
        if (answer.error === undefined) resolve(answer);
        else reject(new Error(answer.error));
      });
      child.send({ id, ...message });
    });
  };
  const call = async (demand: Omit<WorkerCall, 'id'>): Promise<Outcome[]> => (await send(demand)).outcomes ?? [];
  return {
    child,
    get: (users, options) => call({ kind: 'get', users, ...options }),
    async request(service, method, ...args) {
      return (await send({ kind: 'request', service, method, args })).value;
    },
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
