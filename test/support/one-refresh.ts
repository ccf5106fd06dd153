import { fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

import type { TokensModuleOptions } from '../../src/index.js';

/** What the process is told. It must be JSON. */
export interface OneRefreshSettings {
  readonly databaseUrl: string;
  readonly options: TokensModuleOptions;
  readonly user: string;
  /** The dispatcher of undici that the process sets for its fetch. */
  readonly dispatcher?: 'ProxyAgent' | 'EnvHttpProxyAgent';
  readonly proxyUrl?: string;
}

/** What became of the refresh. */
export interface RefreshOutcome {
  readonly accessToken?: string;
  readonly error?: string;
}

/** A configuration without path mapping, so that the process imports `dist/`. */
const WITHOUT_PATH_MAPPING = fileURLToPath(new URL('../../tsconfig.examples.json', import.meta.url));

/**
 * Refreshes one token in a process of its own, because Node.js reads CAs and proxies of the environment only at the
 * start. The process inherits no proxy from this one.
 */
export async function refreshOnce(
  settings: OneRefreshSettings,
  environment: Record<string, string> = {},
): Promise<RefreshOutcome> {
  const inherited = Object.entries(process.env).filter(([name]) => !/^(https?|no|all)_proxy$/i.test(name));
  const child = fork(fileURLToPath(new URL('./one-refresh.process.ts', import.meta.url)), [JSON.stringify(settings)], {
    execArgv: ['--import', 'tsx'],
    env: {
      ...Object.fromEntries(inherited),
      TSX_TSCONFIG_PATH: WITHOUT_PATH_MAPPING,
      NODE_OPTIONS: '',
      ...environment,
    },
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  });
  const exit = once(child, 'exit');
  const [outcome] = (await Promise.race([
    once(child, 'message'),
    exit.then(() => Promise.reject(new Error('The process did not start. Make sure that dist/ is built.'))),
  ])) as [RefreshOutcome];
  await exit;
  return outcome;
}
