import { randomBytes } from 'node:crypto';

import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';

import { AccountLinks, runTokenMigrations, TokenManager } from '../src/index.js';
import { examine, findingOf } from './support/doctor.js';
import { createTestDatabase, openDataSource, type TestDatabase } from './support/test-database.js';
import { createTokensApp, newKey, TEST_KEY } from './support/tokens-app.js';
import { until } from './support/until.js';

const TABLES = [
  'auth_tokens',
  'offline_tokens',
  'token_revocations',
  'disconnected_accounts',
  'token_keys',
  'link_attempts',
];

let database: TestDatabase;
const ends: (() => Promise<unknown>)[] = [];

beforeEach(async () => {
  database = await createTestDatabase();
});

afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
  await database.drop();
});

/** Makes a setting the default of the database. New connections have it. */
async function setDefault(setting: string): Promise<void> {
  await database.query(`ALTER DATABASE ${database.name} SET ${setting}`);
}

/** Makes a role that may only log in, and returns the URL of the database for it. */
async function createRole(): Promise<{ role: string; url: string }> {
  const role = `doctor_${randomBytes(6).toString('hex')}`;
  await database.query(`CREATE ROLE ${role} LOGIN PASSWORD 'secret'`);
  ends.push(() => database.query(`DROP OWNED BY ${role}; DROP ROLE ${role}`));
  const url = new URL(database.url);
  url.username = role;
  url.password = 'secret';
  return { role, url: url.href };
}

/** Stores a pair of each user, as an application with these keys does. */
async function store(users: string[], keys = [TEST_KEY], registersKeys = true): Promise<void> {
  const acme = { clientId: 'client', clientSecret: 'secret', tokenEndpoint: 'http://127.0.0.1:9/token' };
  const options = { encryption: { keys }, identityProviders: { acme } };
  const { app } = await createTokensApp({ databaseUrl: database.url, options });
  try {
    for (const user of users) {
      await app.get(TokenManager).storeIdpTokens(user, 'acme', { accessToken: `access of ${user}`, refreshToken: 'r' });
      await app.get(TokenManager).storeOfflineToken(user, `offline of ${user}`);
    }
    if (!registersKeys) await database.query('DELETE FROM token_keys');
  } finally {
    await app.close();
  }
}

describe('the doctor, about the server', () => {
  it('names its version, the database and the role, and measures the round trip', async () => {
    const [finding] = await examine(database, 'server');
    expect(finding).toMatchObject({ check: 'server', level: 'ok' });
    const role = new URL(database.url).username;
    expect(finding?.message).toMatch(
      new RegExp(
        `^PostgreSQL \\d+\\.\\d+, database "${database.name}", role "${role}", \\d+\\.\\d ms for a round trip\\.$`,
      ),
    );
    expect(finding?.message).not.toContain(new URL(database.url).password);
  });

  it('agrees with a clock in step', async () => {
    expect(findingOf(await examine(database, 'clock'), 'clock')).toMatchObject({ level: 'ok' });
  });

  it('warns of a statement_timeout that is off, as long as the deadline of the module, or very short', async () => {
    const level = async () => findingOf(await examine(database, 'statement timeout'), 'statement timeout').level;
    await setDefault(`statement_timeout = '8s'`);
    expect(await level()).toBe('ok');
    await setDefault(`statement_timeout = '10s'`);
    expect(await level()).toBe('warning');
    await setDefault('statement_timeout = 0');
    expect(await level()).toBe('warning');
    await setDefault(`statement_timeout = '8s'`);
    await setDefault(`lock_timeout = '50ms'`);
    const { message } = findingOf(await examine(database, 'statement timeout'), 'statement timeout', 'warning');
    expect(message).toContain('lock_timeout 50 ms');
    expect(message).toContain('lock_timeout can end statements');
  });

  it('warns of a data source without connectTimeoutMS, and refuses query_timeout', async () => {
    const findings = (dataSource: object) => examine({ ...database, dataSource }, 'connection timeout');
    expect(await findings({ connectTimeoutMS: 5000 })).toMatchObject([{ level: 'ok' }]);
    expect(await findings({})).toMatchObject([{ level: 'warning' }]);
    expect(await findings({ connectTimeoutMS: 5000, extra: { connectionTimeoutMillis: 20_000 } })).toMatchObject([
      { level: 'warning', message: expect.stringContaining('20000 ms') },
    ]);
    expect(await findings({ connectTimeoutMS: 5000, extra: { query_timeout: 1000 } })).toMatchObject([
      { level: 'fault', remedy: expect.stringContaining('statement_timeout') },
    ]);
  });

  it('warns of a pool of one connection, and refuses one that the server cannot fill', async () => {
    const level = async (poolSize: number) =>
      findingOf(await examine({ ...database, dataSource: { poolSize } }, 'pool'), 'pool').level;
    expect(await level(10)).toBe('ok');
    expect(await level(1)).toBe('warning');
    expect(await level(5000)).toBe('fault');
    const { message } = findingOf(await examine(database, 'pool'), 'pool');
    expect(message).toContain('A lease holds no connection, so the pool carries statements and open transactions');
    const { role, url } = await createRole();
    await database.query(`ALTER ROLE ${role} CONNECTION LIMIT 3`);
    const findings = await examine({ url, dataSource: { poolSize: 4 } }, 'pool');
    expect(findingOf(findings, 'pool', 'fault').message).toContain('the server allows 3');
  });

  it('keeps prepared statements on direct connections, and leaves none open in the pool', async () => {
    const findings = await examine({ ...database, dataSource: { poolSize: 3 } }, 'prepared statements', 'server');
    expect(findingOf(findings, 'prepared statements')).toMatchObject({
      level: 'ok',
      message: '3 connections kept their prepared statements.',
    });
    expect(findingOf(findings, 'server').level).toBe('ok');
  });
});

describe('the doctor, about the tables', () => {
  it('finds them as the migrations make them', async () => {
    expect((await examine(database, 'migrations')).map(({ check, level }) => `${check} ${level}`)).toEqual([
      'migrations ok',
      'drift ok',
    ]);
  });

  it('finds them missing in an empty database, and has no other finding about that', async () => {
    const empty = await createTestDatabase({ empty: true });
    ends.push(() => empty.drop());
    const findings = await examine(empty, 'migrations', 'privileges');
    expect(findingOf(findings, 'migrations', 'fault').message).toMatch(/CreateTokenTables\d+, AddRefreshState\d+/);
    const { message, remedy } = findingOf(findings, 'drift', 'fault');
    for (const table of TABLES) expect(message).toContain(`"${table}" is missing`);
    expect(remedy).toContain('idp-tokens migrate');
    expect(findingOf(findings, 'privileges', 'warning').message).toMatch(/^Only 0 of 6 tables exist/);
    const others = await examine(empty, 'keys', 'sample', 'hot updates');
    expect(others.map(({ check, level }) => `${check} ${level}`)).toEqual([
      'keys warning',
      'sample warning',
      'hot updates warning',
      'bloat warning',
    ]);
  });

  it('finds them under a schema and a prefix', async () => {
    await database.query('CREATE SCHEMA other');
    const dataSource = { schema: 'other', entityPrefix: 'app_' };
    const opened = await openDataSource(database.url, dataSource);
    await runTokenMigrations(opened);
    await opened.destroy();
    expect(findingOf(await examine({ ...database, dataSource }, 'migrations'), 'drift').level).toBe('ok');
    await database.query('DROP INDEX other.idx_auth_tokens_keycloak_user_identity_provider_account');
    const findings = await examine({ ...database, dataSource }, 'migrations', 'privileges', 'hot updates');
    expect(findingOf(findings, 'drift', 'fault').message).toContain('"other"."app_auth_tokens"');
    expect(findingOf(findings, 'hot updates').message).toContain('"other"."app_auth_tokens"');
  });

  it.each([
    [
      'DROP INDEX idx_auth_tokens_keycloak_user_identity_provider_account',
      /index idx_auth_tokens_keycloak_user_identity_provider_account .* missing/,
    ],
    [
      `CREATE UNIQUE INDEX one ON auth_tokens (identity_provider, keycloak_user_id) INCLUDE (scopes);
       INSERT INTO auth_tokens (keycloak_user_id, identity_provider, account, access_token, refresh_token,
         access_token_expires_at, refresh_token_expires_at) VALUES ('named', 'acme', 'work', '', '', 0, 0)`,
      /unique index one of .*"auth_tokens" refuses a second account of a user at a provider/,
    ],
    ['DROP INDEX idx_auth_tokens_keycloak_user_id', /index idx_auth_tokens_keycloak_user_id .* missing/],
    ['ALTER TABLE auth_tokens DROP COLUMN rejections', /column .*"auth_tokens"\.rejections is missing/],
    ['ALTER TABLE auth_tokens DROP COLUMN access_token', /column .*"auth_tokens"\.access_token is missing/],
    ['ALTER TABLE token_revocations ALTER attempts TYPE text', /attempts has the type text, not smallint/],
    ['ALTER TABLE auth_tokens ALTER issued_at DROP DEFAULT', /issued_at has no default/],
    ['ALTER TABLE auth_tokens ALTER lease_id SET NOT NULL', /lease_id is NOT NULL, and the module stores NULL/],
    ['ALTER TABLE auth_tokens ADD tenant text NOT NULL', /tenant, which is not of the module, is NOT NULL/],
    ['ALTER TABLE token_keys DROP CONSTRAINT token_keys_pkey', /constraint token_keys_pkey .* missing/],
    [
      'DROP INDEX idx_auth_tokens_keycloak_user_id; CREATE INDEX idx_auth_tokens_keycloak_user_id ON auth_tokens (id)',
      /ndex "idx_auth_tokens_keycloak_user_id": found/,
    ],
    [
      `UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'idx_auth_tokens_keycloak_user_id'::regclass`,
      /index idx_auth_tokens_keycloak_user_id .* not valid/,
    ],
    ['DROP TABLE disconnected_accounts', /table .*"disconnected_accounts" is missing/],
    ['DROP TABLE link_attempts', /table .*"link_attempts" is missing/],
    ['ALTER TABLE auth_tokens DROP COLUMN account CASCADE', /column .*"auth_tokens"\.account is missing/],
  ])('%s is a fault', async (sql, message) => {
    await database.query(sql);
    const findings = await examine(database, 'migrations');
    expect(findingOf(findings, 'drift', 'fault').message).toMatch(message);
    expect(findingOf(findings, 'migrations').level).toBe('ok');
  });

  it.each([
    ['ALTER TABLE auth_tokens ALTER keycloak_user_id DROP NOT NULL', /keycloak_user_id is not NOT NULL/],
    ['ALTER TABLE auth_tokens RESET (fillfactor)', /fillfactor of .*"auth_tokens" is above 80/],
    ['ALTER TABLE offline_tokens SET (fillfactor = 90)', /fillfactor of .*"offline_tokens" is above 80/],
    ['ALTER TABLE auth_tokens DROP CONSTRAINT auth_tokens_status_check', /auth_tokens_status_check .* missing/],
    [
      'CREATE UNIQUE INDEX one ON auth_tokens (keycloak_user_id, identity_provider)',
      /unique index one of .*"auth_tokens" refuses a second account of a user at a provider/,
    ],
    [
      `CREATE UNIQUE INDEX "One" ON auth_tokens (keycloak_user_id text_pattern_ops, identity_provider DESC)`,
      /unique index One of .*"auth_tokens" refuses a second account of a user at a provider/,
    ],
  ])('%s is a warning', async (sql, message) => {
    await database.query(sql);
    expect(findingOf(await examine(database, 'migrations'), 'drift', 'warning').message).toMatch(message);
  });

  it.each([
    'ALTER TABLE auth_tokens ADD tenant text',
    `ALTER TABLE auth_tokens ADD tenant text NOT NULL DEFAULT 'none'`,
    'CREATE INDEX of_host ON auth_tokens (identity_provider)',
    'CREATE INDEX of_host ON auth_tokens (keycloak_user_id, identity_provider)',
    'CREATE UNIQUE INDEX of_host ON auth_tokens (identity_provider, keycloak_user_id, account)',
    'CREATE UNIQUE INDEX of_host ON auth_tokens (keycloak_user_id, identity_provider, lower(account))',
    'ALTER TABLE auth_tokens SET (fillfactor = 60)',
    'ALTER TABLE auth_tokens ALTER access_token TYPE text',
  ])('%s is the right of the host', async (sql) => {
    await database.query(sql);
    expect(findingOf(await examine(database, 'migrations'), 'drift').level).toBe('ok');
  });

  it('only warns of migrations that are not recorded while the tables are right, as synchronize makes them', async () => {
    await database.query('DELETE FROM migrations');
    const findings = await examine(database, 'migrations');
    expect(findingOf(findings, 'migrations', 'warning').remedy).toContain('idp-tokens migrate');
    expect(findingOf(findings, 'drift').level).toBe('ok');
  });

  it('finds each missing right, and none for a role with exactly the needed ones', async () => {
    const { role, url } = await createRole();
    const privileges = async () => findingOf(await examine({ url }, 'privileges'), 'privileges');
    expect((await privileges()).message).toContain('SELECT, INSERT, UPDATE, DELETE ON "auth_tokens"');
    const others = TABLES.filter((table) => table !== 'token_keys').join(', ');
    await database.query(`GRANT SELECT, INSERT, UPDATE, DELETE ON ${others} TO ${role}`);
    await database.query(`GRANT SELECT, INSERT, UPDATE ON token_keys TO ${role}`);
    expect((await privileges()).level).toBe('ok');
    await database.query(`REVOKE DELETE ON token_revocations FROM ${role}`);
    expect(await privileges()).toMatchObject({
      level: 'fault',
      message: 'The role lacks DELETE ON "token_revocations".',
      remedy: 'Run as the owner of the tables: GRANT DELETE ON "token_revocations" TO …;',
    });
  });

  it('finds a schema that the role may not use, and a sequence of an adopted table', async () => {
    const { role, url } = await createRole();
    await database.query(`GRANT ALL ON ALL TABLES IN SCHEMA public TO ${role}`);
    await database.query('ALTER TABLE auth_tokens ALTER id DROP IDENTITY; CREATE SEQUENCE ids OWNED BY auth_tokens.id');
    await database.query(`ALTER TABLE auth_tokens ALTER id SET DEFAULT nextval('ids')`);
    const privileges = async () => findingOf(await examine({ url }, 'privileges'), 'privileges', 'fault').message;
    expect(await privileges()).toBe('The role lacks USAGE on SEQUENCE public.ids.');
    await database.query('REVOKE USAGE ON SCHEMA public FROM PUBLIC');
    expect(await privileges()).toBe('The role lacks USAGE on SCHEMA public.');
  });

  it('warns of row security that applies to the role', async () => {
    const { role, url } = await createRole();
    await database.query(`GRANT ALL ON ALL TABLES IN SCHEMA public TO ${role}`);
    await database.query('ALTER TABLE auth_tokens ENABLE ROW LEVEL SECURITY');
    expect(findingOf(await examine({ url }, 'privileges'), 'privileges', 'warning').message).toContain('"auth_tokens"');
    expect(findingOf(await examine(database, 'privileges'), 'privileges').level).toBe('ok');
  });

  it('refuses transactions that are read-only by default', async () => {
    expect(findingOf(await examine(database, 'privileges'), 'writable').level).toBe('ok');
    await setDefault('default_transaction_read_only = on');
    expect(findingOf(await examine(database, 'privileges'), 'writable', 'fault').remedy).toContain(
      'default_transaction_read_only',
    );
  });

  it('warns of an index on a column that a refresh changes', async () => {
    expect(findingOf(await examine(database, 'hot updates'), 'hot updates').level).toBe('ok');
    await database.query('CREATE INDEX of_host ON auth_tokens (status, identity_provider)');
    const { message } = findingOf(await examine(database, 'hot updates'), 'hot updates', 'warning');
    expect(message).toContain('of_host (status)');
    expect(message).not.toContain('identity_provider');
  });

  it('warns of updates that are not heap-only, and of dead rows that autovacuum leaves', async () => {
    await database.query(`ALTER TABLE auth_tokens SET (fillfactor = 100, autovacuum_vacuum_threshold = 1000000000)`);
    await database.query(
      `INSERT INTO auth_tokens (keycloak_user_id, identity_provider, access_token, refresh_token,
         access_token_expires_at, refresh_token_expires_at)
       SELECT n, 'acme', '', '', 0, 0 FROM generate_series(1, 3000) AS n`,
    );
    await database.query(`UPDATE auth_tokens SET last_error_code = 'x'`);
    const findings = async () => examine(database, 'hot updates');
    await until(async () => (await findings()).some(({ check, level }) => check === 'bloat' && level === 'warning'));
    const found = await findings();
    expect(findingOf(found, 'hot updates', 'warning').message).toMatch(/^Only \d+ % of 3,000 updates of "auth_tokens"/);
    expect(findingOf(found, 'bloat', 'warning').message).toMatch(/^50 % of the rows .* never vacuumed/);
    await database.query('VACUUM auth_tokens');
    await until(async () => (await findings()).every(({ check, level }) => check !== 'bloat' || level === 'ok'));
    await database.query('ALTER TABLE auth_tokens SET (autovacuum_enabled = off)');
    expect(findingOf(await findings(), 'bloat', 'warning').message).toContain('Autovacuum is off');
  });
});

describe('the doctor, about the keys', () => {
  const other = { id: 'other', secret: newKey() };

  it('finds a key ring that fits, and registers nothing', async () => {
    const findings = await examine(database, 'keys', 'sample');
    expect(findingOf(findings, 'keys')).toMatchObject({ level: 'ok' });
    expect(findingOf(findings, 'keys').message).toContain('the first boot registers it');
    await store(['first', 'second']);
    const [row] = await database.query('SELECT count(*) AS count FROM token_keys');
    const stored = await examine(
      { ...database, tokens: { encryption: { keys: [TEST_KEY, other] } } },
      'keys',
      'sample',
    );
    expect(stored).toMatchObject([
      { level: 'ok', message: 'Key "test" seals. The key ring has the keys of all 6 stored texts.' },
      {
        level: 'ok',
        message:
          'The rows of a sample open: 2 of auth_tokens, 2 of offline_tokens, 0 of token_revocations, 0 of link_attempts.',
      },
    ]);
    await examine({ ...database, tokens: { encryption: { keys: [other, TEST_KEY] } } }, 'keys');
    expect(await database.query('SELECT count(*) AS count FROM token_keys')).toEqual([row]);
  });

  it('refuses a registered key that is missing, with its texts', async () => {
    await store(['first']);
    const found = await examine({ ...database, tokens: { encryption: { keys: [other] } } }, 'keys', 'sample');
    const messages = found.map(({ check, level, message }) => `${check} ${level}: ${message}`);
    expect(messages).toEqual([
      expect.stringMatching(/^keys fault: Key "test" has sealed tokens .* does not have it/),
      expect.stringMatching(/^keys fault: 3 stored texts name the key "test", which is not in encryption\.keys/),
      expect.stringMatching(
        /^sample fault: 1 of 1 sampled rows of auth_tokens do not open: row 1 of user "first", provider "acme"\.$/,
      ),
      expect.stringMatching(/^sample fault: 1 of 1 sampled rows of offline_tokens do not open: user "first"\.$/),
    ]);
  });

  it('refuses a key with another secret than the registered one', async () => {
    await store(['first']);
    const keys = [{ ...TEST_KEY, secret: newKey() }];
    const findings = await examine({ ...database, tokens: { encryption: { keys } } }, 'keys', 'sample');
    expect(findingOf(findings, 'keys', 'fault').message).toContain('another secret');
    expect(findings.filter(({ check, level }) => check === 'sample' && level === 'fault')).toHaveLength(2);
    expect(JSON.stringify(findings)).not.toContain(TEST_KEY.secret);
  });

  it('refuses a text of a key that is not registered and not in the ring', async () => {
    await store(['first'], [other], false);
    const findings = await examine(database, 'keys');
    expect(findings).toMatchObject([
      {
        level: 'fault',
        message: '3 stored texts name the key "other", which is not in encryption.keys, so they do not open.',
      },
    ]);
  });

  it('refuses a retired key in first place, and warns of a process that still seals by a retired one', async () => {
    await store(['first']);
    await database.query(`UPDATE token_keys SET retired_at = now() WHERE id = 'test'`);
    const inFirstPlace = await examine(database, 'keys');
    expect(findingOf(inFirstPlace, 'keys', 'fault').message).toContain('Key "test" is retired');
    const behind = await examine({ ...database, tokens: { encryption: { keys: [other, TEST_KEY] } } }, 'keys');
    expect(behind).toMatchObject([
      {
        level: 'warning',
        message: expect.stringMatching(/^3 stored texts name the key "test", which is retired since .* still seals/),
      },
    ]);
  });

  it('names texts that are sealed by no key: a fault without the legacy secret, and a warning with it', async () => {
    await store(['first']);
    await database.query(`UPDATE auth_tokens SET access_token = 'gAAAAAB-text'`);
    const found = await examine(database, 'keys', 'sample');
    expect(findingOf(found, 'keys', 'fault').message).toContain('1 stored text names no key');
    const keys = [TEST_KEY, { id: 'legacy', legacyFernetSecret: 'the secret of the adopted system' }];
    const withLegacy = await examine({ ...database, tokens: { encryption: { keys } } }, 'keys', 'sample');
    expect(findingOf(withLegacy, 'keys').level).toBe('warning');
    expect(findingOf(withLegacy, 'sample').level).toBe('fault');
  });

  it('finds the one altered text among others, names its row, and does not print it', async () => {
    await store(['first', 'second', 'third']);
    await database.query(
      `UPDATE auth_tokens SET refresh_token = overlay(refresh_token PLACING 'AAAA' FROM 20) WHERE keycloak_user_id = 'second'`,
    );
    const [row] = await database.query(`SELECT * FROM auth_tokens WHERE keycloak_user_id = 'second'`);
    const findings = await examine(database, 'keys', 'sample');
    expect(findingOf(findings, 'keys').level).toBe('ok');
    expect(findingOf(findings, 'sample').message).toBe(
      `1 of 3 sampled rows of auth_tokens do not open: row ${String(row?.id)} of user "second", provider "acme".`,
    );
    expect(JSON.stringify(findings)).not.toContain(String(row?.refresh_token).slice(0, 30));
  });

  it('opens the texts of a named account and of an open attempt in their own places alone', async () => {
    const acme = {
      clientId: 'client',
      clientSecret: 'secret',
      tokenEndpoint: 'http://127.0.0.1:9/token',
      authorizationEndpoint: 'http://127.0.0.1:9/authorize',
      redirectUri: 'https://host.example/callback',
    };
    const { app } = await createTokensApp({ databaseUrl: database.url, options: { identityProviders: { acme } } });
    ends.push(() => app.close());
    await app.get(TokenManager).storeIdpTokens('ada', 'acme', { accessToken: 'a' }, { account: 'work' });
    await app.get(AccountLinks).begin('ada', 'acme', { account: 'work' });
    await expect(examine(database, 'keys', 'sample')).resolves.toMatchObject([
      { level: 'ok', message: expect.stringContaining('all 2 stored texts') },
      { level: 'ok', message: expect.stringMatching(/: 1 of auth_tokens, .*, 1 of link_attempts\.$/) },
    ]);
    await database.query("UPDATE auth_tokens SET account = 'home'");
    await database.query("UPDATE link_attempts SET keycloak_user_id = 'bob'");
    await expect(examine(database, 'sample')).resolves.toMatchObject([
      {
        level: 'fault',
        message: expect.stringMatching(
          /^1 of 1 sampled rows of auth_tokens do not open: row 1 of user "ada", provider "acme", account "home"\.$/,
        ),
      },
      {
        level: 'fault',
        message: expect.stringMatching(
          /^1 of 1 sampled rows of link_attempts .*: row \S{43} of user "bob", provider "acme", account "work"\.$/,
        ),
      },
    ]);
    await database.query("UPDATE link_attempts SET expires_at = now() - interval '1 second'");
    await database.query('DELETE FROM auth_tokens');
    expect(findingOf(await examine(database, 'sample'), 'sample').level).toBe('ok');
  });

  it('looks at 100 rows of a large table at most, those written last among them', async () => {
    await store(['first']);
    await database.query(
      `INSERT INTO auth_tokens (keycloak_user_id, identity_provider, access_token, refresh_token,
         access_token_expires_at, refresh_token_expires_at, updated_at)
       SELECT 'user-' || n, 'acme', 'v1.test.AAAA', '', 0, 0, now() - n * interval '1 s' FROM generate_series(1, 20000) AS n`,
    );
    await database.query('ANALYZE auth_tokens');
    const { message } = findingOf(await examine(database, 'sample'), 'sample');
    const [, closed, sampled] = /^(\d+) of (\d+) sampled rows of auth_tokens/.exec(message) ?? [];
    expect(Number(sampled)).toBeGreaterThan(60);
    expect(Number(sampled)).toBeLessThanOrEqual(100);
    // The row of "first" was written last, and it opens.
    expect(Number(closed)).toBe(Number(sampled) - 1);
    expect(message).toMatch(/; and \d+ more\.$/);
  });

  it('does not judge keys that it does not know', async () => {
    await store(['first']);
    const findings = await examine({ ...database, knows: { keys: false, options: false } });
    expect(findings.map(({ check }) => check)).not.toContain('keys');
    expect(findings.map(({ check }) => check)).not.toContain('sample');
    expect(findingOf(findings, 'configuration', 'warning').message).toContain(
      'the keys, the sample of texts, the pool',
    );
  });
});
