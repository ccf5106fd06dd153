import { once } from 'node:events';
import { createServer } from 'node:net';

/**
 * Returns a port of the loopback interface on which no process listens.
 *
 * @param wanted the port to check; 0 lets the system choose one
 * @throws the error of `listen`, with its `code`, when no process can listen on the wanted port
 */
export async function freePort(wanted = 0): Promise<number> {
  const probe = createServer().listen(wanted, '127.0.0.1');
  await once(probe, 'listening');
  const address = probe.address();
  probe.close();
  await once(probe, 'close');
  if (address && typeof address === 'object') return address.port;
  throw new Error('No free port on the loopback interface.');
}
