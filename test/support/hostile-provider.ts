import { startScript } from '../../examples/support/child-process.js';

/** How a provider treats refresh tokens. */
export interface HostileProviderSettings {
  /**
   * `single-use`: a second request with a redeemed refresh token ends the grant. `replay-same`: inside the replay
   * window it gets the same pair again. `replay-new`: inside the window it gets another pair. `no-rotation`: the
   * refresh token stays the same.
   */
  mode: 'single-use' | 'replay-same' | 'replay-new' | 'no-rotation';
  replayWindowMs?: number;
  /** Whether a refresh ends the access tokens issued before it. */
  oldAccessTokenDies?: boolean;
  accessTokenSeconds?: number;
}

/** What happens to one request. "After rotating" means that the provider first redeems the refresh token. */
export interface Fault {
  kind:
    | 'none'
    | 'delay'
    | 'stall'
    | 'delay-after-rotating'
    | 'hang-after-rotating'
    | 'error-after-rotating'
    | 'error-before'
    | 'reset-before'
    | 'reset-after-rotating'
    | 'rate-limit'
    | 'unavailable'
    | 'malformed'
    | 'oversized'
    | 'slow-drip'
    | 'omit-refresh-token';
  ms?: number;
  seconds?: number;
}

/** One request to the token endpoint, and what the provider did. */
export interface Redemption {
  grant: string;
  refreshToken: string;
  outcome: 'pending' | 'not-served' | 'redeemed' | 'replayed' | 'reuse-punished' | 'refused';
  fault: string;
}

/** A hostile provider in a process of its own. */
export interface HostileProvider {
  readonly url: string;
  /** Makes a grant and returns its first pair. */
  newGrant(): Promise<{ accessToken: string; refreshToken: string }>;
  /** Sets the faults of the next requests of each grant, one for each request. Later requests have no fault. */
  setFaults(refreshTokens: string[], ...faults: Fault[]): Promise<void>;
  redemptions(): Promise<Redemption[]>;
  isAlive(accessToken: string): Promise<boolean>;
  /** Returns the access tokens of all introspections, in their order. */
  introspections(): Promise<string[]>;
  /** Sets the status of the next introspections. */
  answerIntrospections(status: number): Promise<void>;
  stop(): Promise<void>;
}

export async function startHostileProvider(settings: HostileProviderSettings): Promise<HostileProvider> {
  const script = await startScript<{ url: string }>(new URL('./hostile-provider.process', import.meta.url), [
    JSON.stringify(settings),
  ]);
  const { url } = script.ready;
  return {
    url,
    async newGrant() {
      const answer = await fetch(`${url}/grants`, { method: 'POST' });
      const pair = (await answer.json()) as { access_token: string; refresh_token: string };
      return { accessToken: pair.access_token, refreshToken: pair.refresh_token };
    },
    async setFaults(refreshTokens, ...faults) {
      const body = JSON.stringify(Object.fromEntries(refreshTokens.map((token) => [token, faults])));
      await fetch(`${url}/faults`, { method: 'PUT', body });
    },
    async redemptions() {
      return (await (await fetch(`${url}/redemptions`)).json()) as Redemption[];
    },
    async isAlive(accessToken) {
      return (await fetch(`${url}/userinfo`, { headers: { authorization: `Bearer ${accessToken}` } })).ok;
    },
    async introspections() {
      return (await (await fetch(`${url}/introspections`)).json()) as string[];
    },
    async answerIntrospections(status) {
      await fetch(`${url}/introspection`, { method: 'PUT', body: String(status) });
    },
    stop: () => script.stop(),
  };
}
