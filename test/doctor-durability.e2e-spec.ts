import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';

import { type PostgresServer, startPostgres } from '../examples/support/postgres.js';
import { examine, findingOf } from './support/doctor.js';
import { queryDatabase } from './support/query-database.js';
import { until } from './support/until.js';

let server: PostgresServer;

beforeAll(async () => {
  server = await startPostgres();
});

afterAll(() => server.stop());

/** Changes a setting of the server, and waits until it has an effect. */
async function setOnServer(name: string, value: string): Promise<void> {
  await queryDatabase(server.url, `ALTER SYSTEM SET ${name} = '${value}'`);
  await queryDatabase(server.url, 'SELECT pg_reload_conf()');
  await until(async () => (await queryDatabase(server.url, `SHOW ${name}`))[0]?.[name] === value);
}

describe('the doctor, about a server of its own', () => {
  it('accepts the defaults of PostgreSQL', async () => {
    const findings = await examine({ url: server.url }, 'durability');
    expect(findings.map(({ check, level }) => `${check} ${level}`)).toEqual(['durability ok', 'replication ok']);
  });

  it('refuses synchronous_commit = off of the database', async () => {
    const name = new URL(server.url).pathname.slice(1);
    await queryDatabase(server.url, `ALTER DATABASE "${name}" SET synchronous_commit = off`);
    const findings = await examine({ url: server.url }, 'durability');
    expect(findingOf(findings, 'durability', 'fault').message).toContain('synchronous_commit is off');
    await queryDatabase(server.url, `ALTER DATABASE "${name}" RESET synchronous_commit`);
  });

  it.each(['fsync', 'full_page_writes'])('refuses %s = off', async (setting) => {
    await setOnServer(setting, 'off');
    const findings = await examine({ url: server.url }, 'durability');
    expect(findingOf(findings, 'durability', 'fault').message).toMatch(new RegExp(`^${setting} is off`));
    await setOnServer(setting, 'on');
  });

  it('refuses a synchronous standby that does not exist', async () => {
    await setOnServer('synchronous_standby_names', 'absent');
    const findings = await examine({ url: server.url }, 'durability');
    expect(findingOf(findings, 'replication', 'fault').message).toContain('none is connected');
    await setOnServer('synchronous_standby_names', '');
  });
});
