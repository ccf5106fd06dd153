import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';

import { examine, findingOf } from '../support/doctor.js';
import { type PgBouncer, startPgBouncer } from '../support/pgbouncer.js';
import { createTestDatabase, type TestDatabase } from '../support/test-database.js';

let database: TestDatabase;
let pgBouncer: PgBouncer;
let url: string;

beforeAll(async () => {
  database = await createTestDatabase();
  pgBouncer = await startPgBouncer(database.url, { poolSize: 2 });
  url = pgBouncer.urlOf(database.url);
});

afterAll(async () => {
  await pgBouncer.stop();
  await database.drop();
});

describe('the doctor behind a PgBouncer that loses prepared statements', () => {
  const prepared = async (patient: Omit<Parameters<typeof examine>[0], 'url'>) =>
    findingOf(await examine({ url, ...patient }, 'prepared statements'), 'prepared statements');

  it('refuses preparedStatements: true, in every run, and names the option', async () => {
    for (let run = 0; run < 3; run++) {
      expect(await prepared({})).toMatchObject({
        level: 'fault',
        remedy: expect.stringContaining('preparedStatements: false'),
      });
    }
  });

  it('accepts preparedStatements: false', async () => {
    expect(await prepared({ tokens: { preparedStatements: false } })).toMatchObject({
      level: 'ok',
      message: expect.stringContaining('as it must be'),
    });
  });

  it('only warns if it does not know the option', async () => {
    expect((await prepared({ knows: { keys: false, options: false } })).level).toBe('warning');
  });

  it('says that one connection proves nothing', async () => {
    expect((await prepared({ dataSource: { poolSize: 1 } })).level).toBe('warning');
  });

  it('has no other fault there', async () => {
    const findings = await examine({ url, tokens: { preparedStatements: false } });
    const faults = findings.filter(({ level, check }) => level === 'fault' && check !== 'durability');
    expect(faults).toEqual([]); // the server of the suites has fsync off
  });
});
