import { completePolicy, type IdentityProvider, type RefreshAnswer, type RefreshPolicy } from '../../src/index.js';

/** What a refresh token is answered with: an answer, or what computes one. */
export type RefreshScript = RefreshAnswer | ((refreshToken: string) => RefreshAnswer | Promise<RefreshAnswer>);

/** An identity provider that answers each refresh token as a test says and remembers what it was sent. */
export class ScriptedProvider implements IdentityProvider {
  readonly policy: RefreshPolicy;
  /** The refresh tokens that were sent, in their order. */
  readonly redeemed: string[] = [];
  readonly #scripts = new Map<string, RefreshScript>();

  constructor(policy: Partial<RefreshPolicy> = {}) {
    this.policy = completePolicy(policy);
  }

  /** Says how a refresh token is answered; one without a script is terminally unknown. */
  onRefresh(refreshToken: string, script: RefreshScript): void {
    this.#scripts.set(refreshToken, script);
  }

  async refresh(refreshToken: string): Promise<RefreshAnswer> {
    this.redeemed.push(refreshToken);
    const script = this.#scripts.get(refreshToken) ?? { kind: 'terminal', code: 'invalid_grant' };
    return typeof script === 'function' ? script(refreshToken) : script;
  }
}
