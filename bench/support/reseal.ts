import { TokenKeyRotation, type TokensModuleOptions } from 'nestjs-idp-tokens';

import { BENCH_OPTIONS, type ModuleApp, startModule } from '../rivals/module.js';

/** The key to which a rotation goes. It is in the source because the tokens of the bench are no secrets. */
const NEXT = { id: 'next', secret: Buffer.alloc(32, 'nestjs-idp-tokens next').toString('base64') };

const KEYS = [...(BENCH_OPTIONS.encryption.keys as readonly (typeof NEXT)[]), NEXT];

/** The options of every process of the suite. All have both keys, as processes in the middle of a rotation have. */
export const BOTH_KEYS: Pick<TokensModuleOptions, 'encryption'> = { encryption: { keys: KEYS } };

/** The same keys, as the command line takes them from its environment. */
export const TOKENS_KEYS_OF_BOTH = KEYS.map(({ id, secret }) => `${id}:${secret}`).join(',');

/** How many rows got new texts, in how many seconds. */
export interface Resealed {
  readonly rows: number;
  readonly seconds: number;
}

/** Reseals all tables from one key to the other and back, without a pause, so that there is always a row to do. */
export class BackAndForth {
  private constructor(private readonly modules: readonly ModuleApp[]) {}

  static async start(url: string): Promise<BackAndForth> {
    const orders = [KEYS, KEYS.toReversed()];
    // One after the other, because the first one applies the migrations.
    const modules: ModuleApp[] = [];
    for (const keys of orders) modules.push(await startModule(url, { encryption: { keys } }));
    return new BackAndForth(modules);
  }

  /** @param maxRowsPerSecond undefined for the default of the module */
  async run(signal: AbortSignal, maxRowsPerSecond: number | undefined): Promise<Resealed> {
    const rotations = this.modules.map(({ app }) => app.get(TokenKeyRotation));
    const startedAt = performance.now();
    let rows = 0;
    for (let walk = 0; !signal.aborted; walk++) {
      const rotation = rotations[walk % rotations.length];
      if (!rotation) throw new Error('There is no rotation.');
      const { resealed, unreadable } = await rotation.reseal({ signal, maxRowsPerSecond });
      if (unreadable.length > 0) throw new Error(`${unreadable.length} texts do not open.`);
      rows += resealed;
    }
    return { rows, seconds: (performance.now() - startedAt) / 1000 };
  }

  async close(): Promise<void> {
    await Promise.all(this.modules.map(({ app }) => app.close()));
  }
}
