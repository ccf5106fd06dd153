import autocannon from 'autocannon';

import { startScript } from '../../examples/support/child-process.js';
import { seedModule, startModule } from '../rivals/module.js';
import type { BenchServer } from '../support/database.js';
import { type Spread, spreadOf } from '../support/statistics.js';

const USERS = 100_000;
const CONNECTIONS = 64;
const ROUNDS = 5;
const TURN_SECONDS = 1;

/** The three forms of a route, by their paths. */
const FORMS = ['bare', 'noop', 'guarded'] as const;

/** The requests per second of one route in its three forms. */
export interface RouteResult {
  readonly route: string;
  readonly barePerSecond: Spread;
  /** Behind a guard and a parameter decorator that do nothing. The difference to the bare route is Nest's own cost. */
  readonly noopPerSecond: Spread;
  /** Behind `IdpTokenGuard`. */
  readonly guardedPerSecond: Spread;
  /** With `IdpTokenGuard` ÷ bare. */
  readonly ratio: Spread;
  /**
   * With `IdpTokenGuard` ÷ behind a guard and a parameter decorator that do nothing. The route with `IdpTokenGuard` has
   * no parameter decorator, which favours it a little.
   */
  readonly ratioToNoop: Spread;
}

/** The results of all routes under the same load. */
export interface HttpResult {
  readonly connections: number;
  readonly routes: readonly RouteResult[];
}

export async function measureHttp(server: BenchServer): Promise<HttpResult> {
  const url = await server.createDatabase('http');
  const module = await startModule(url);
  await seedModule(module, url, USERS, Math.floor(Date.now() / 1000) + 7 * 24 * 3600);
  await module.app.close();
  const script = await startScript<{ url: string; jwt: string }>(new URL('./http-server.process', import.meta.url), [
    url,
    String(USERS),
  ]);
  const request = async (path: string) => {
    const { requests, duration, non2xx, errors } = await autocannon({
      url: `${script.ready.url}/${path}`,
      headers: { authorization: `Bearer ${script.ready.jwt}` },
      connections: CONNECTIONS,
      duration: TURN_SECONDS,
    });
    if (non2xx + errors > 0) throw new Error(`${path} failed ${non2xx + errors} times.`);
    return requests.total / duration;
  };
  const measureRoute = async (route: string, prefix: string): Promise<RouteResult> => {
    const rounds = [];
    for (let round = 0; round <= ROUNDS; round++) {
      const perSecond = { bare: NaN, noop: NaN, guarded: NaN };
      const first = round % FORMS.length;
      for (const form of [...FORMS.slice(first), ...FORMS.slice(0, first)]) {
        perSecond[form] = await request(prefix + form);
      }
      if (round > 0) rounds.push(perSecond); // the first round warms up
    }
    return {
      route,
      barePerSecond: spreadOf(rounds.map(({ bare }) => bare)),
      noopPerSecond: spreadOf(rounds.map(({ noop }) => noop)),
      guardedPerSecond: spreadOf(rounds.map(({ guarded }) => guarded)),
      ratio: spreadOf(rounds.map(({ bare, guarded }) => guarded / bare)),
      ratioToNoop: spreadOf(rounds.map(({ noop, guarded }) => guarded / noop)),
    };
  };
  const routes = [
    await measureRoute('behind a guard that verifies a JWT', 'login/'),
    await measureRoute('behind nothing', ''),
  ];
  await script.stop();
  return { connections: CONNECTIONS, routes };
}
