import { once } from 'node:events';
import { type AddressInfo, createServer, type Server } from 'node:net';

import { afterAll, beforeAll, describe, expect, it, jest } from '@jest/globals';
import { Test } from '@nestjs/testing';
import { TypeOrmModule } from '@nestjs/typeorm';
import pg from 'pg';

import { defineTokensConfig, TokenManager, tokensEntities, TokensModule } from '../src/index.js';
import {
  configText,
  everySecret,
  fillTables,
  IDENTITY_PROVIDERS,
  openApplication,
  SECRETS,
} from './support/command-line-fixture.js';
import { type CommandLineHost, createCommandLineHost } from './support/command-line.js';
import { createTestDatabase, type TestDatabase } from './support/test-database.js';
import { newKey } from './support/tokens-app.js';
import { until } from './support/until.js';

/** Every test starts processes. */
jest.setTimeout(300_000);

const key = { id: '2026-11', secret: newKey() };
const otherKey = { id: 'other', secret: newKey() };
const TOKENS_KEYS = `${key.id}:${key.secret}`;

const COMMANDS = [
  'migrate',
  'status',
  'show',
  'revoke',
  'forget',
  'reactivate',
  'keys generate',
  'keys status',
  'keys reseal',
  'keys retire',
  'doctor',
];

let database: TestDatabase;
let empty: TestDatabase;
let host: CommandLineHost;
/** A host without a configuration file. */
let bare: CommandLineHost;

beforeAll(async () => {
  database = await createTestDatabase();
  empty = await createTestDatabase({ empty: true });
  host = await createCommandLineHost({ 'idp-tokens.config.mjs': configText(database.url, [key]) });
  bare = await createCommandLineHost();
  const app = await openApplication(database, [key]);
  await fillTables(database, app);
  await app.close();
});

afterAll(async () => {
  await host.remove();
  await bare.remove();
  await empty.drop();
  await database.drop();
});

/** Returns the URL of the database with one part changed. */
function urlWith(change: (url: URL) => void): string {
  const url = new URL(database.url);
  change(url);
  return url.href;
}

describe('The command line', () => {
  it('ends with exit code 2 for wrong arguments, and prints nothing on standard output', async () => {
    const outcome = await host.run(['statuss']);
    expect(outcome).toMatchObject({
      exitCode: 2,
      stdout: '',
      stderr: expect.stringContaining("unknown command 'statuss'"),
    });
  });
});

describe('The configuration', () => {
  const withConfig = async (text: string, name = 'tried.config.mjs', words = ['status']) => {
    const file = await bare.write(name, text);
    return bare.json([...words, '--config', file, '--debug']);
  };

  it('is the file of the folder, and needs no option', async () => {
    const { exitCode, answer } = await host.json(['status']);
    expect(exitCode).toBe(0);
    expect(answer).toMatchObject({ command: 'status', ok: true });
  });

  it.each([
    ['throws', `throw new Error('${SECRETS.password}');`, /threw Error/],
    ['is no JavaScript', `const x = '${SECRETS.password}' oops;`, /threw SyntaxError/],
    ['imports what is missing', "import 'not-there-at-all';", /Cannot find package 'not-there-at-all'/],
    ['exports nothing', 'export {};', /has no default export/],
    ['exports undefined', 'export default undefined;', /has no default export/],
    ['exports a text', `export default '${SECRETS.password}';`, /is no object/],
    ['has no tokens', "export default { dataSource: { type: 'postgres' } };", /has no "tokens"/],
    ['has no data source', 'export default { tokens: {} };', /has no "dataSource"/],
    ['has another database', "export default { dataSource: { type: 'mysql' }, tokens: {} };", /not of type "postgres"/],
    [
      'has a function that rejects',
      `export default { dataSource: async () => { throw new TypeError('${SECRETS.password}'); }, tokens: {} };`,
      /has a function "dataSource" that threw TypeError/,
    ],
    [
      'has wrong options',
      `export default { dataSource: { type: 'postgres' }, tokens: { encryption: { keys: [{ id: 'a', secret: '${SECRETS.password}' }] }, identityProviders: {} } };`,
      /keys\[0\]\.secret must be 32 bytes/,
    ],
  ])('that %s ends the command with exit code 2, and names the file', async (_, text, message) => {
    const { exitCode, answer, stderr } = await withConfig(text);
    expect(answer.error?.message).toMatch(message);
    expect(answer.error?.message).toContain(`${bare.folder}/tried`);
    expect(answer.error?.remedy).toMatch(/\w/);
    expect(exitCode).toBe(2);
    expect(stderr).toMatch(/^ {4}at /m); // --debug
    expect(`${JSON.stringify(answer)}${stderr}`).not.toContain(SECRETS.password);
  });

  it('may be of functions, of CommonJS, and of what a compiler made of a default export', async () => {
    const config = `{ dataSource: async () => ({ type: 'postgres', url: '${database.url}' }), tokens: () => (${JSON.stringify({ encryption: { keys: [key] }, identityProviders: {} })}) }`;
    const files = {
      'a.config.mjs': `export default ${config};`,
      'b.config.cjs': `module.exports = ${config};`,
      'c.config.cjs': `Object.defineProperty(exports, '__esModule', { value: true }); exports.default = ${config};`,
    };
    for (const [name, text] of Object.entries(files)) {
      await expect(withConfig(text, name)).resolves.toMatchObject({ exitCode: 0 });
    }
  });

  it('may be in TypeScript where Node.js strips types, and says what is needed elsewhere', async () => {
    const folder = await createCommandLineHost({
      'idp-tokens.config.ts': configText(database.url, [key]).replace(
        'export default',
        'const n: number = 1; void n;\nexport default',
      ),
    });
    const { exitCode, answer } = await folder.json(['status']);
    await folder.remove();
    if (Reflect.get(process.features, 'typescript')) expect(exitCode).toBe(0);
    else {
      expect(answer.error).toMatchObject({
        message: expect.stringContaining('does not read TypeScript'),
        remedy: expect.stringContaining('22.18'),
      });
      expect(exitCode).toBe(2);
    }
  });

  it('that does not exist ends the command with exit code 2', async () => {
    const { exitCode, answer } = await bare.json(['status', '--config', 'nowhere.mjs']);
    expect({ exitCode, message: answer.error?.message }).toEqual({
      exitCode: 2,
      message: `The configuration file ${bare.folder}/nowhere.mjs does not exist.`,
    });
  });

  it('may print, and standard output has the JSON alone', async () => {
    const text = `console.log('hello from the host'); process.stdout.write('and again');\n${configText(database.url, [key])}`;
    const { exitCode, stderr } = await withConfig(text);
    expect(exitCode).toBe(0);
    expect(stderr).toContain('hello from the host\nand again');
  });

  it('may keep handles open, and the command ends', async () => {
    const { exitCode } = await withConfig(`setInterval(() => {}, 1000);\n${configText(database.url, [key])}`);
    expect(exitCode).toBe(0);
  });

  it('changes nothing by the options of its data source', async () => {
    const options = JSON.stringify({
      type: 'postgres',
      url: empty.url,
      synchronize: true,
      dropSchema: true,
      migrationsRun: true,
      entities: ['./**/*.entity.ts'],
    });
    const text = `import { tokensMigrations } from 'nestjs-idp-tokens';
      export default { dataSource: { ...${options}, migrations: tokensMigrations, logging: true }, tokens: ${JSON.stringify({ encryption: { keys: [key] }, identityProviders: {} })} };`;
    const { exitCode, answer } = await withConfig(text);
    expect({ exitCode, message: answer.error?.message }).toEqual({
      exitCode: 2,
      message: expect.stringContaining('42P01'),
    });
    expect(answer.error?.remedy).toContain('idp-tokens migrate');
    await expect(empty.query("SELECT FROM pg_class WHERE relname IN ('auth_tokens', 'migrations')")).resolves.toEqual(
      [],
    );
  });

  it.each([
    ['no name', {}, /has no name\./],
    ['another name', { name: 'others' }, /has the name "others"\./],
  ])('with a data source that has %s is refused if the module names one', async (_, name, message) => {
    const textOf = (dataSource: object) =>
      `export default ${JSON.stringify({ dataSource: { type: 'postgres', url: database.url, ...dataSource }, tokens: { dataSource: 'tokens', encryption: { keys: [key] }, identityProviders: {} } })};`;
    const { exitCode, answer } = await withConfig(textOf(name));
    expect(answer.error?.message).toMatch(message);
    expect(answer.error?.message).toContain('TokensModule uses the data source "tokens"');
    expect(answer.error?.remedy).toContain('with name: "tokens"');
    expect(exitCode).toBe(2);
    await expect(withConfig(textOf({ name: 'tokens' }), 'named.config.mjs')).resolves.toMatchObject({ exitCode: 0 });
  });

  it('may take long to load, and the first Ctrl-C ends the command', async () => {
    await bare.write(
      'slow.config.mjs',
      "console.error('loading'); await new Promise((resolve) => setTimeout(resolve, 250_000));",
    );
    for (const words of [['status'], ['keys', 'reseal']]) {
      const running = bare.start([...words, '--config', 'slow.config.mjs']);
      await until(() => running.stderr().includes('loading'), 60_000);
      running.child.kill('SIGINT');
      const { exitCode, stderr } = await running.outcome;
      expect(stderr).toContain('The command was interrupted.');
      expect(exitCode).toBe(1);
    }
  });

  it('is needed, or the variables are', async () => {
    const none = await bare.json(['status']);
    expect(none.answer.error).toMatchObject({
      message: 'The command does not know the database.',
      remedy: expect.stringContaining('DATABASE_URL'),
    });
    const noKeys = await bare.json(['keys', 'reseal'], { DATABASE_URL: database.url });
    expect(noKeys.answer.error).toMatchObject({ remedy: expect.stringContaining('TOKENS_KEYS') });
    const noProviders = await bare.json(['revoke', 'ada', 'acme', '--yes'], {
      DATABASE_URL: database.url,
      TOKENS_KEYS,
    });
    expect(noProviders.answer.error).toMatchObject({ remedy: expect.stringContaining('idp-tokens.config.js') });
    expect([none, noKeys, noProviders].map(({ exitCode }) => exitCode)).toEqual([2, 2, 2]);
  });

  it('may be DATABASE_URL or the PG* variables, and TOKENS_KEYS', async () => {
    const { hostname, port, username, password, pathname } = new URL(database.url);
    const pg = {
      PGHOST: hostname,
      PGPORT: port,
      PGUSER: username,
      PGPASSWORD: password,
      PGDATABASE: pathname.slice(1),
    };
    const environments: Record<string, string>[] = [
      { DATABASE_URL: database.url, TOKENS_KEYS },
      { ...pg, TOKENS_KEYS },
    ];
    for (const environment of environments) {
      const { exitCode, answer } = await bare.json(['keys', 'status'], environment);
      expect(answer.result).toMatchObject({
        faults: [],
        keys: [{ id: '2026-11', isSealing: true, isRegistered: true }],
      });
      expect(exitCode).toBe(0);
    }
  });

  it.each([
    [
      'a wrong TOKENS_KEYS',
      'keys status',
      { TOKENS_KEYS: `a:${SECRETS.password}` },
      2,
      /keys\[0\]\.secret must be 32 bytes/,
    ],
    [
      'no form of TOKENS_KEYS',
      'keys status',
      { TOKENS_KEYS: SECRETS.password },
      2,
      /^Entry 1 of TOKENS_KEYS is no key/,
    ],
    ['no URL', 'status', { DATABASE_URL: `${SECRETS.password}@nowhere` }, 2, /is no URL/],
    [
      'another database system',
      'status',
      { DATABASE_URL: `mysql://root:${SECRETS.password}@127.0.0.1/x` },
      2,
      /is no URL/,
    ],
  ])('ends the command with exit code 2 for %s', async (_, words, environment, code, message) => {
    const { exitCode, answer } = await bare.json([...words.split(' '), '--debug'], {
      DATABASE_URL: database.url,
      ...environment,
    });
    expect(answer.error?.message).toMatch(message);
    expect(exitCode).toBe(code);
  });

  it('that names a database without a server ends the command with exit code 3', async () => {
    const DATABASE_URL = urlWith((url) => {
      url.port = '1';
      url.password = SECRETS.password;
    });
    for (const words of [['status'], ['migrate']]) {
      const { exitCode, answer } = await bare.json([...words, '--debug'], { DATABASE_URL });
      expect({ exitCode, message: answer.error?.message }).toEqual({
        exitCode: 3,
        message: expect.stringContaining('ECONNREFUSED'),
      });
    }
  });

  describe('that names a server which accepts the connection and is silent', () => {
    let silent: Server;
    let accepted = 0;
    const urlOfSilent = () => urlWith((url) => (url.port = String((silent.address() as AddressInfo).port)));

    beforeAll(async () => {
      silent = createServer((socket) => {
        accepted++;
        socket.on('error', () => undefined).resume(); // its end is read, and nothing is answered
      }).listen(0, '127.0.0.1');
      await once(silent, 'listening');
    });

    afterAll(() => {
      silent.close();
    });

    it('ends the command with exit code 3 after 15 s, also without connectTimeoutMS', async () => {
      const { exitCode, answer } = await bare.json(['status'], { DATABASE_URL: urlOfSilent() });
      expect(answer.error).toMatchObject({
        message: 'The server did not accept a connection within 15 s.',
        remedy: expect.stringContaining('the host and the port'),
      });
      expect(exitCode).toBe(3);
    });

    it.each([
      ['status', 'SIGINT'],
      ['keys reseal', 'SIGINT'],
      ['keys reseal', 'SIGTERM'],
    ] as const)('lets %s end at the first %s', async (words, signal) => {
      const before = accepted;
      const running = bare.start(words.split(' '), { DATABASE_URL: urlOfSilent(), TOKENS_KEYS });
      await until(() => accepted > before, 60_000);
      running.child.kill(signal);
      const { exitCode, stderr } = await running.outcome;
      expect(stderr).toContain('The command was interrupted.');
      expect(exitCode).toBe(1);
    });
  });

  it('with a wrong password, or with a database that does not exist, ends the command with exit code 2', async () => {
    await database.query(`CREATE ROLE cli_${database.name} LOGIN PASSWORD 'another'`);
    const wrongPassword = urlWith((url) => {
      url.username = `cli_${database.name}`;
      url.password = SECRETS.password;
    });
    const wrongDatabase = urlWith((url) => (url.pathname = '/not_there'));
    const refused = await bare.json(['status', '--debug'], { DATABASE_URL: wrongPassword });
    const missing = await bare.json(['status', '--debug'], { DATABASE_URL: wrongDatabase });
    await database.query(`DROP ROLE cli_${database.name}`);
    expect(refused.answer.error?.message).toContain('SQLSTATE 28P01');
    expect(missing.answer.error?.message).toContain('SQLSTATE 3D000');
    expect([refused.exitCode, missing.exitCode]).toEqual([2, 2]);
  });

  it('is the configuration of the application too', async () => {
    const config = defineTokensConfig({
      dataSource: { type: 'postgres', url: database.url, entities: tokensEntities },
      tokens: { encryption: { keys: [key] }, identityProviders: IDENTITY_PROVIDERS },
    });
    const testing = await Test.createTestingModule({
      imports: [TypeOrmModule.forRoot(config.dataSource), TokensModule.forRoot(config.tokens)],
    }).compile();
    await testing.init();
    await expect(testing.get(TokenManager).getIdpToken('ada', 'acme')).resolves.toMatchObject({
      accessToken: SECRETS.accessToken,
    });
    await testing.close();
  });
});

describe('status', () => {
  it('counts every state by provider and cause', async () => {
    const { answer, exitCode } = await host.json(['status']);
    const counted = (answer.result?.pairs as { idp: string; state: string; cause: string | null; rows: number }[]).map(
      ({ idp, state, cause, rows }) => [idp, state, cause, rows],
    );
    expect(counted).toEqual([
      ['acme', 'active', null, 1],
      ['acme', 'backing_off', 'http_503', 1],
      ['acme', 'expired_lease', null, 1],
      ['acme', 'leased', null, 1],
      ['acme', 'quarantined', 'invalid_grant', 1],
      ['acme', 'reauthentication', 'ACCESS_TOKEN_DEAD', 1],
      ['acme', 'reauthentication', 'invalid_grant', 1],
      ['acme', 'stale', null, 1],
      ['initech', 'active', null, 1],
      ['initech', 'reauthentication', 'no_refresh_token', 1],
      ['initech', 'reauthentication', 'refresh_token_expired', 1],
    ]);
    expect(answer.result).toMatchObject({
      offlineTokens: [{ idp: '', state: 'active', rows: 1 }],
      outbox: [{ idp: 'acme', cause: null, rows: 1, mostAttempts: 0 }],
      oldestFailure: { at: '2026-11-20T12:00:00.000Z', user: 'grace', idp: 'acme', cause: 'invalid_grant' },
      keys: { isRingKnown: true, faults: [], keys: [{ id: '2026-11', isSealing: true }] },
    });
    expect(exitCode).toBe(0);
  });

  it('agrees with what the module does with each row', async () => {
    const app = await openApplication(database, [key]);
    const states: Record<string, string> = {};
    for (const user of ['ada', 'grace', 'heidi', 'ivan', 'judy']) {
      const idp = ['ivan', 'judy'].includes(user) ? 'initech' : 'acme';
      const call = app.get(TokenManager).getIdpToken(user, idp);
      states[user] = await call.then(
        () => 'active',
        (error: unknown) => String(Reflect.get(Object(error) as object, 'reason')),
      );
    }
    await app.close();
    expect(states).toEqual({
      ada: 'active',
      grace: 'refresh_rejected',
      heidi: 'refresh_rejected',
      ivan: 'no_refresh_token',
      judy: 'refresh_token_expired',
    });
  });

  it('takes the leeway and the assumed lifetime of a provider', async () => {
    const policy = { policy: { leewaySeconds: 0 } };
    const acme = { ...IDENTITY_PROVIDERS.acme, assumedLifetimeSeconds: 60 };
    const states = async (user: string, provider: object) => {
      const options = { identityProviders: { ...IDENTITY_PROVIDERS, acme: provider } };
      await host.write('leeway.config.mjs', configText(database.url, [key], options));
      const { answer } = await host.json(['show', user, 'acme', '--config', 'leeway.config.mjs']);
      return (answer.result?.connections as { state: string }[])[0]?.state;
    };
    await database.query(`INSERT INTO auth_tokens (keycloak_user_id, identity_provider, access_token, refresh_token, access_token_expires_at, refresh_token_expires_at, issued_at)
      VALUES ('kim', 'acme', 'x', 'x', date_part('epoch', now())::bigint + 300, 0, now() - interval '10 hours'), ('leo', 'acme', 'x', 'x', 0, 0, now() - interval '1 hour')`);
    expect([await states('kim', acme), await states('kim', { ...acme, ...policy })]).toEqual(['stale', 'active']);
    expect([await states('leo', acme), await states('leo', IDENTITY_PROVIDERS.acme)]).toEqual(['stale', 'active']);
    await database.query("DELETE FROM auth_tokens WHERE keycloak_user_id IN ('kim', 'leo')");
  });

  it('works with a key ring that does not fit, says so, and ends with exit code 1 as keys status does', async () => {
    const { exitCode, stdout } = await bare.run(['status'], {
      DATABASE_URL: database.url,
      TOKENS_KEYS: `${otherKey.id}:${otherKey.secret}`,
    });
    expect(stdout).toContain('Something is wrong with the keys:\n- Key "2026-11" has sealed tokens');
    expect(stdout.replace(/\s+/g, ' ')).toContain('No process boots with this key ring.');
    expect(stdout.replace(/\s+/g, ' ')).toMatch(/- \d+ stored texts name the key "2026-11", which is not in/);
    expect(exitCode).toBe(1);
    await expect(database.query('SELECT id FROM token_keys')).resolves.toEqual([{ id: '2026-11' }]);
  });

  it('works without keys', async () => {
    const { exitCode, stdout } = await bare.run(['status'], { DATABASE_URL: database.url });
    expect(stdout).toContain('TOKENS_KEYS is not set');
    expect(stdout).not.toContain('placeholder');
    expect(exitCode).toBe(0);
  });

  it.each([40, 80])('has no line that is longer than %i columns', async (columns) => {
    for (const words of [['status'], ['show', 'carol'], ['keys', 'status'], ['show', 'nobody'], ['revoke', 'x', 'y']]) {
      const { stdout, stderr } = await host.run(words, { COLUMNS: String(columns) });
      const tooLong = `${stdout}${stderr}`.split('\n').filter((line) => line.length > columns);
      expect(tooLong).toEqual([]);
    }
  });
});

describe('show', () => {
  it('shows what is stored of a user, and nothing sealed', async () => {
    const { answer, exitCode } = await host.json(['show', 'carol']);
    expect(answer.result).toMatchObject({
      user: 'carol',
      connections: [
        {
          idp: 'acme',
          state: 'backing_off',
          keyIds: ['2026-11'],
          version: expect.stringMatching(/^\d+$/),
          clientId: 'acme-client',
          hasRefreshToken: true,
          failureKind: 'transient',
          failureCount: 3,
          lastErrorCode: 'http_503',
          retryAt: expect.stringMatching(/^\d{4}-\d\d-\d\dT.*Z$/),
        },
      ],
      offlineToken: null,
    });
    expect(exitCode).toBe(0);
  });

  it('shows the offline token, disconnected accounts and waiting revocations', async () => {
    const ada = await host.json(['show', 'ada']);
    expect(ada.answer.result).toMatchObject({
      offlineToken: { keyIds: ['2026-11'], state: 'active' },
      connections: [{ idp: 'acme' }, { idp: 'initech' }],
    });
    const one = await host.json(['show', 'ada', 'initech']);
    expect(one.answer.result).toMatchObject({ offlineToken: null, connections: [{ idp: 'initech' }] });
    const mallory = await host.run(['show', 'mallory']);
    expect(mallory.stdout).toMatch(/the user disconnected the account at/);
    expect(mallory.stdout).toMatch(/1 deleted pair waits to be revoked since/);
  });

  it('ends with exit code 2 for a user of whom nothing is stored, and for what is no user id', async () => {
    const nobody = await host.json(['show', 'nobody']);
    expect(nobody).toMatchObject({
      exitCode: 2,
      answer: { error: { message: 'Nothing is stored of user "nobody".' } },
    });
    const long = await host.json(['show', 'x'.repeat(300)]);
    expect(long.exitCode).toBe(2);
  });
});

describe('revoke and forget', () => {
  it('ask for --yes where there is no terminal, and change nothing', async () => {
    for (const words of [
      ['revoke', 'bob', 'acme'],
      ['forget', 'bob'],
    ]) {
      const { exitCode, answer } = await host.json(words);
      expect({ exitCode, remedy: answer.error?.remedy }).toEqual({ exitCode: 2, remedy: 'Give --yes.' });
    }
    await expect(database.query("SELECT FROM auth_tokens WHERE keycloak_user_id = 'bob'")).resolves.toHaveLength(1);
  });

  it('refuse a provider that the options do not name, and what is no user id, before they ask', async () => {
    const provider = await host.json(['revoke', 'bob', 'hooli']);
    const user = await host.json(['revoke', 'x'.repeat(300), 'acme']);
    const forgotten = await host.json(['forget', 'x'.repeat(300)]);
    expect(provider).toMatchObject({ exitCode: 2, answer: { error: { name: 'UnsupportedProviderError' } } });
    for (const refused of [user, forgotten]) {
      expect(refused).toMatchObject({ exitCode: 2, answer: { error: { name: 'InvalidTokenInputError' } } });
    }
  });

  it('revoke deletes a pair and notes it, as the module does', async () => {
    const { exitCode, answer } = await host.json(['revoke', 'bob', 'acme', '--yes']);
    expect({ exitCode, result: answer.result }).toEqual({
      exitCode: 0,
      result: { user: 'bob', idp: 'acme', account: '', isDeleted: true, isNotedForRevocation: true },
    });
    await expect(
      database.query("SELECT attempts FROM token_revocations WHERE keycloak_user_id = 'bob'"),
    ).resolves.toEqual([{ attempts: 0 }]);
    await expect(host.json(['revoke', 'bob', 'acme', '--yes'])).resolves.toMatchObject({
      exitCode: 0,
      answer: { result: { isDeleted: false } },
    });
    await expect(host.json(['revoke', 'bob', 'hooli', '--yes'])).resolves.toMatchObject({
      exitCode: 2,
      answer: { error: { name: 'UnsupportedProviderError' } },
    });
  });

  it('forget deletes everything of a user, also at a provider that the options do not name', async () => {
    await database.query(
      `INSERT INTO auth_tokens (keycloak_user_id, identity_provider, access_token, refresh_token, access_token_expires_at, refresh_token_expires_at) VALUES ('ada', 'hooli', 'x', 'x', 0, 0)`,
    );
    await database.query(
      "INSERT INTO disconnected_accounts (keycloak_user_id, identity_provider) VALUES ('ada', 'piedpiper')",
    );
    const { exitCode, answer } = await host.json(['forget', 'ada', '--yes']);
    expect({ exitCode, result: answer.result }).toEqual({
      exitCode: 0,
      result: {
        user: 'ada',
        deleted: ['acme', 'hooli', 'initech'].map((idp) => ({ idp, account: '' })),
        notedForRevocation: [{ idp: 'acme', account: '' }],
        hasDeletedOfflineToken: true,
      },
    });
    for (const [table, column] of [
      ['auth_tokens', 'keycloak_user_id'],
      ['offline_tokens', 'user_id'],
      ['disconnected_accounts', 'keycloak_user_id'],
    ]) {
      await expect(database.query(`SELECT FROM ${String(table)} WHERE ${String(column)} = 'ada'`)).resolves.toEqual([]);
    }
    const again = await host.run(['forget', 'ada', '--yes']);
    expect(again).toMatchObject({ exitCode: 0, stdout: 'No tokens of user "ada" were stored.\n' });
  });
});

describe('reactivate', () => {
  it('counts with --dry-run what it then makes active', async () => {
    const dry = await host.json(['reactivate', 'acme', '--dry-run']);
    expect(dry.answer.result).toMatchObject({
      grants: 2,
      byCause: [
        { cause: 'ACCESS_TOKEN_DEAD', rows: 1 },
        { cause: 'invalid_grant', rows: 1 },
      ],
    });
    const later = await host.json(['reactivate', 'acme', '--dry-run', '--since', '2026-11-21T00:00:00Z']);
    expect(later.answer.result).toMatchObject({ grants: 1, byCause: [{ cause: 'ACCESS_TOKEN_DEAD' }] });
    const ended = "SELECT keycloak_user_id AS user FROM auth_tokens WHERE status <> 'active'";
    await expect(database.query(ended)).resolves.toHaveLength(2);
    const narrow = ['reactivate', 'acme', '--since', '2026-11-19T01:00:00+01:00', '--error', 'invalid_grant'];
    const unasked = await host.json(narrow);
    expect(unasked).toMatchObject({ exitCode: 2, answer: { error: { remedy: 'Give --yes.' } } });
    expect(unasked.answer.error?.message).toContain('This makes 1 grant at "acme" active again.');
    await expect(database.query(ended)).resolves.toHaveLength(2);
    const done = await host.json([...narrow, '--yes']);
    expect(done).toMatchObject({ exitCode: 0, answer: { result: { isDryRun: false, grants: 1 } } });
    await expect(database.query(ended)).resolves.toEqual([{ user: 'heidi' }]);
    await expect(host.json(['reactivate', 'hooli', '--dry-run'])).resolves.toMatchObject({ exitCode: 2 });
  });
});

describe('migrate', () => {
  const migrations = ['CreateTokenTables1763942400000', 'AddRefreshState1763942400001'];
  const shape = `SELECT table_name, column_name, data_type, column_default FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1, 2`;
  const indexes = `SELECT indexname FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1`;

  it('prints SQL that makes the tables, and changes nothing', async () => {
    const environment = { DATABASE_URL: empty.url };
    const { exitCode, stdout } = await bare.run(['migrate', '--dry-run'], environment);
    expect(exitCode).toBe(0);
    await expect(
      empty.query("SELECT FROM pg_class WHERE relname IN ('auth_tokens', 'migrations', 'migrations_id_seq')"),
    ).resolves.toEqual([]);
    await empty.query(stdout);
    await expect(empty.query(shape)).resolves.toEqual(await database.query(shape));
    const nothing = await bare.run(['migrate', '--dry-run'], environment);
    expect(nothing).toMatchObject({ exitCode: 0, stdout: '-- Every migration is applied.\n' });
  });

  it('plans the adoption of existing tables without a lock or a rewrite', async () => {
    const adopted = await createTestDatabase({ empty: true });
    await adopted.query(`CREATE TABLE auth_tokens (id integer PRIMARY KEY GENERATED BY DEFAULT AS IDENTITY, keycloak_user_id varchar NOT NULL,
      identity_provider varchar NOT NULL, access_token varchar(2000) NOT NULL, refresh_token varchar NOT NULL, access_token_expires_at bigint NOT NULL,
      refresh_token_expires_at bigint NOT NULL)`);
    await adopted.query(`CREATE UNIQUE INDEX idx_auth_tokens_keycloak_user_identity_provider
      ON auth_tokens (keycloak_user_id, identity_provider)`);
    // A statement that rewrites or alters the table would wait for the end of this transaction.
    const reader = new pg.Client(adopted.url);
    await reader.connect();
    await reader.query('BEGIN; SELECT FROM auth_tokens');
    const { exitCode, stdout } = await bare.run(['migrate', '--dry-run'], { DATABASE_URL: adopted.url });
    await reader.query('COMMIT');
    await reader.end();
    expect(exitCode).toBe(0);
    await adopted.query(stdout);
    for (const each of [shape, indexes]) {
      await expect(adopted.query(each)).resolves.toEqual(await database.query(each));
    }
    await adopted.drop();
  });

  it('applies what is missing', async () => {
    const fresh = await createTestDatabase({ empty: true });
    const environment = { DATABASE_URL: fresh.url };
    const first = await bare.json(['migrate'], environment);
    const second = await bare.json(['migrate'], environment);
    expect(first.answer.result).toEqual({ isDryRun: false, migrations });
    expect(second.answer.result).toEqual({ isDryRun: false, migrations: [] });
    await expect(fresh.query('SELECT name FROM migrations ORDER BY id')).resolves.toEqual(
      migrations.map((name) => ({ name })),
    );
    await fresh.drop();
  });
});

describe('Every stream', () => {
  it('has no token, secret or key, also with --debug', async () => {
    for (const name of COMMANDS.filter((each) => each !== 'keys generate')) {
      const words = name.split(' ');
      const given =
        {
          show: ['carol'],
          revoke: ['carol', 'initech', '--yes'],
          forget: ['nobody', '--yes'],
          reactivate: ['acme', '--dry-run'],
        }[name] ?? [];
      const more = name === 'keys retire' ? ['2026-11'] : given;
      await host.run([...words, ...more, '--debug']);
      await host.run([...words, ...more, '--debug', '--json']);
    }
    const printed = host.printed() + bare.printed();
    expect(printed).toContain('at '); // stacks were printed
    const secrets = await everySecret(database, [key, otherKey]);
    expect(secrets.length).toBeGreaterThan(20);
    expect(secrets.filter((secret) => printed.includes(secret))).toEqual([]);
  });
});
