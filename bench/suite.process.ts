/**
 * Runs one suite and sends its result. Each suite runs in a process of its own, so that no suite inherits the heap of
 * another.
 */
import { SUITES, type SuiteName } from './suites.js';
import { startServer } from './support/database.js';

const name = process.argv[2] as SuiteName;
const server = await startServer();
try {
  process.send?.({ result: await SUITES[name](server) });
} finally {
  await server.stop();
}
if (process.connected) process.disconnect();
