import { TokenKeyRotation } from '../../key-rotation/token-key-rotation.js';
import type { CliCommand } from '../cli-command.js';
import { wrap } from '../text-layout.js';

/**
 * Retires a key that no stored text names. It knows only its own key ring: a process that still has the key in first place
 * is not ready any more, and does not boot again.
 */
export const keysRetireCommand: CliCommand = {
  name: 'keys retire',
  summary:
    'Retire a key, if no stored text names it. It takes some 20 s. Make sure before that every process has another key first.',
  arguments: { '<id>': 'the key id' },
  examples: ['idp-tokens keys retire 2025-11', 'idp-tokens keys retire 2025-11 --json'],
  needs: 'keys',
  run: async (context, { arguments: [id = ''] }) => {
    const { get } = await context.open();
    const pauseSeconds = Math.ceil((2 * context.settings.connectionTimeoutMs + 1000) / 1000);
    context.output.note(
      `Make sure that every process has another key first: one that has "${id}" first does not boot again.`,
    );
    context.output.note(`Counting the texts that name "${id}", now and again after ${pauseSeconds} s …`);
    await get(TokenKeyRotation).retire(id);
    const text = `The key "${id}" is retired. Remove it from encryption.keys of every process.`;
    return { ok: true, result: { id }, text: (columns) => wrap(text, columns) };
  },
};
