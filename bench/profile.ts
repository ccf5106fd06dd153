/**
 * Calls `getIdpToken` by 128 callers for ten seconds and does nothing else, for `node --cpu-prof`. See
 * docs/performance.md.
 */
import { moduleReads, seedModule, startModule } from './rivals/module.js';
import { startServer } from './support/database.js';
import { race } from './support/race.js';
import { randomUsers } from './support/users.js';

const USERS = 10_000;

const server = await startServer();
const url = await server.createDatabase('profile');
const module = await startModule(url);
await seedModule(module, url, USERS, Math.floor(Date.now() / 1000) + 7 * 24 * 3600);
const settings = { callers: 128, rounds: 9, turnMs: 1000, nextUser: randomUsers(USERS) };
const [standing] = await race([moduleReads(module)], settings);
console.log(`${standing?.perSecond.median.toFixed(0) ?? ''} reads/s`);
await module.app.close();
await server.stop();
