import { once } from 'node:events';
import { createServer } from 'node:net';

/**
 * A port of the loopback interface that nobody listens on.
 *
 * @param wanted the port to look at; 0 lets the system choose one
 * @throws the error of `listen`, with its `code`, when the wanted port cannot be listened on
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
