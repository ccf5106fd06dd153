import { completePolicy, type IdentityProvider, type RefreshAnswer, type RefreshPolicy } from '../../src/index.js';

/** The answer to a refresh token, or a function that returns the answer. */
export type RefreshScript = RefreshAnswer | ((refreshToken: string) => RefreshAnswer | Promise<RefreshAnswer>);

/** An identity provider that answers each refresh token as a test says. It records the refresh tokens. */
export class ScriptedProvider implements IdentityProvider {
  readonly policy: RefreshPolicy;
  /** The refresh tokens that the provider received, in their order. */
  readonly redeemed: string[] = [];
  readonly #scripts = new Map<string, RefreshScript>();

  constructor(policy: Partial<RefreshPolicy> = {}) {
    this.policy = completePolicy(policy);
  }

  /** Sets the answer to a refresh token. A refresh token without a script gets `invalid_grant`. */
  onRefresh(refreshToken: string, script: RefreshScript): void {
    this.#scripts.set(refreshToken, script);
  }

  async refresh(refreshToken: string): Promise<RefreshAnswer> {
    this.redeemed.push(refreshToken);
    const script = this.#scripts.get(refreshToken) ?? { kind: 'terminal', code: 'invalid_grant' };
    return typeof script === 'function' ? script(refreshToken) : script;
  }
}
