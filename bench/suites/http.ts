import autocannon from 'autocannon';

import { startScript } from '../../examples/support/child-process.js';
import { seedModule, startModule } from '../rivals/module.js';
import type { BenchServer } from '../support/database.js';
import { type Spread, spreadOf } from '../support/statistics.js';

const USERS = 100_000;
const CONNECTIONS = 64;
const ROUNDS = 5;
const TURN_SECONDS = 1;

/** The requests per second of one route, with and without `IdpTokenGuard`. */
export interface RouteResult {
  readonly route: string;
  readonly barePerSecond: Spread;
  readonly guardedPerSecond: Spread;
  readonly ratio: Spread;
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
      const first = round % 2 === 0 ? 'bare' : 'guarded';
      const one = await request(prefix + first);
      const two = await request(prefix + (first === 'bare' ? 'guarded' : 'bare'));
      const [bare, guarded] = first === 'bare' ? [one, two] : [two, one];
      if (round > 0) rounds.push({ bare, guarded }); // the first round warms up
    }
    return {
      route,
      barePerSecond: spreadOf(rounds.map(({ bare }) => bare)),
      guardedPerSecond: spreadOf(rounds.map(({ guarded }) => guarded)),
      ratio: spreadOf(rounds.map(({ bare, guarded }) => guarded / bare)),
    };
  };
  const routes = [
    await measureRoute('behind a guard that verifies a JWT', 'login/'),
    await measureRoute('behind nothing', ''),
  ];
  await script.stop();
  return { connections: CONNECTIONS, routes };
}
