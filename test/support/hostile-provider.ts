import { startScript } from '../../examples/support/child-process.js';

/** How a provider treats refresh tokens. */
export interface HostileProviderSettings {
  /**
   * `single-use`: a redeemed refresh token that comes again ends the whole grant. `replay-same` and `replay-new`: inside
   * the replay window it gets the same pair again, or another one. `no-rotation`: refresh tokens do not change.
   */
  mode: 'single-use' | 'replay-same' | 'replay-new' | 'no-rotation';
  replayWindowMs?: number;
  /** Whether a refresh ends the access tokens issued before it. */
  oldAccessTokenDies?: boolean;
  accessTokenSeconds?: number;
}

/** What happens to one redemption. "After rotating": the refresh token is spent, but the answer does not arrive. */
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

/** One request to the token endpoint, as the provider saw it. */
export interface Redemption {
  grant: string;
  refreshToken: string;
  outcome: 'pending' | 'not-served' | 'redeemed' | 'replayed' | 'reuse-punished' | 'refused';
  fault: string;
}

/** A hostile provider in a process of its own. */
export interface HostileProvider {
  readonly url: string;
  /** A new grant's first pair. */
  newGrant(): Promise<{ accessToken: string; refreshToken: string }>;
  /** Says what happens to the next redemptions of a grant, one fault each; afterwards all goes well. */
  setFaults(refreshTokens: string[], ...faults: Fault[]): Promise<void>;
  redemptions(): Promise<Redemption[]>;
  isAlive(accessToken: string): Promise<boolean>;
  /** Access tokens that the introspection endpoint was asked for, in their order. */
  introspections(): Promise<string[]>;
  /** Says by which status the introspection endpoint answers from now on. */
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
