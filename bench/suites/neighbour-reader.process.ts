/** A process that reads fresh tokens. On every message it warms up, measures, and sends its reads per second. */
import { moduleReads, startModule } from '../rivals/module.js';
import { race } from '../support/race.js';
import { randomUsers } from '../support/users.js';

const [url = '', users = '', callers = '', seed = '', options = '{}'] = process.argv.slice(2);
const contestant = moduleReads(await startModule(url, JSON.parse(options) as Parameters<typeof startModule>[1]));
const nextUser = randomUsers(Number(users), Number(seed));
const settings = { callers: Number(callers), rounds: 1, warmUpMs: 3000, turnMs: 5000, nextUser };

async function measure(): Promise<void> {
  const [standing] = await race([contestant], settings);
  process.send?.({ perSecond: standing?.perSecond.median });
}

process.on('message', () => void measure());
process.on('disconnect', () => process.exit(0));
process.send?.({});
