/** A process that reseals from the message with a rate until the next message, and then sends how many rows it did. */
import { BackAndForth } from '../support/reseal.js';

const [url = ''] = process.argv.slice(2);
const reseal = await BackAndForth.start(url);
let stopping: AbortController | undefined;

async function run(signal: AbortSignal, maxRowsPerSecond: number | undefined): Promise<void> {
  process.send?.(await reseal.run(signal, maxRowsPerSecond));
}

process.on('message', ({ maxRowsPerSecond }: { maxRowsPerSecond: number | null | undefined }) => {
  if (stopping) {
    stopping.abort();
    stopping = undefined;
    return;
  }
  stopping = new AbortController();
  // JSON has no infinity.
  void run(stopping.signal, maxRowsPerSecond === null ? Infinity : maxRowsPerSecond);
});
process.on('disconnect', () => process.exit(0));
process.send?.({});
