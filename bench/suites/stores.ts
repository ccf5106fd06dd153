import pg from 'pg';

import { bareWrites, seedPlainTokens } from '../rivals/bare-pg.js';
import { moduleWrites, seedModule, startModule } from '../rivals/module.js';
import type { BenchServer } from '../support/database.js';
import { race, type Standing } from '../support/race.js';
import { randomUsers } from '../support/users.js';

const USERS = 10_000;

/**
 * Measures stores of a pair for random users who have a pair already. For both rivals PostgreSQL flushes each `COMMIT`
 * to the disk.
 */
export async function measureStores(server: BenchServer): Promise<Standing[]> {
  const expiresAt = Math.floor(Date.now() / 1000) + 7 * 24 * 3600;
  const url = await server.createDatabase('stores');
  const module = await startModule(url);
  await seedModule(module, url, USERS, expiresAt);
  await seedPlainTokens(url, USERS, expiresAt);
  const pool = new pg.Pool({ connectionString: url, max: 10 });
  const settings = { callers: 32, rounds: 9, turnMs: 400, nextUser: randomUsers(USERS) };
  const standings = await race([bareWrites(pool, expiresAt), moduleWrites(module, expiresAt)], settings);
  await Promise.all([pool.end(), module.app.close()]);
  return standings;
}
