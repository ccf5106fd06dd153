import { once } from 'node:events';

import { startScript } from '../../examples/support/child-process.js';

/** A provider whose token endpoint answers after a fixed time. */
export interface SlowProvider {
  readonly tokenEndpoint: string;
  /** Returns how many refresh tokens the provider has redeemed. */
  redemptions(): Promise<number>;
  stop(): Promise<void>;
}

export async function startSlowProvider(answerAfterMs: number): Promise<SlowProvider> {
  const script = await startScript<{ url: string }>(new URL('./provider.process', import.meta.url), [
    String(answerAfterMs),
  ]);
  return {
    tokenEndpoint: script.ready.url,
    async redemptions() {
      const answer = once(script.child, 'message');
      script.child.send('count');
      const [{ redemptions }] = (await answer) as [{ redemptions: number }];
      return redemptions;
    },
    stop: () => script.stop(),
  };
}
