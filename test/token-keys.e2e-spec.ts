import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, jest } from '@jest/globals';
import {
  type DynamicModule,
  Global,
  type INestApplicationContext,
  type LoggerService,
  Module,
  type OnModuleInit,
} from '@nestjs/common';
import { Test } from '@nestjs/testing';
import { TypeOrmModule, type TypeOrmModuleOptions } from '@nestjs/typeorm';
import pg from 'pg';
import { DataSource } from 'typeorm';

import {
  type EncryptionKeyOptions,
  runTokenMigrations,
  TokenCipher,
  TokenKeyRotation,
  TokensConfigurationError,
  tokensEntities,
  TokensModule,
  type TokensModuleOptions,
  TokenStoreUnavailableError,
  TokensUsageError,
} from '../src/index.js';
import { TokenKeyRegistry } from '../src/key-rotation/token-key-registry.js';
import { TokensTestingModule } from '../src/testing/index.js';
import {
  createTestDatabase,
  openDataSource,
  poolerOptions,
  type TestDatabase,
  urlUnderTest,
} from './support/test-database.js';
import { closeUnbooted, newKey } from './support/tokens-app.js';
import { startTokensWorker, type TokensWorker } from './support/tokens-worker.js';
import { until } from './support/until.js';

const first = { id: 'first', secret: newKey() };
const second = { id: 'second', secret: newKey() };
const legacy = { id: 'legacy', legacyFernetSecret: 'a secret of the adopted system' };

const NOT_INTERVALS = [
  ...(['Date', 'hrtime', 'nextTick', 'performance', 'queueMicrotask'] as const),
  ...(['setImmediate', 'clearImmediate', 'setTimeout', 'clearTimeout'] as const),
];

let database: TestDatabase;
let warnings: string[];
let errors: string[];
let opened: { close(): Promise<void> }[];

beforeAll(async () => {
  database = await createTestDatabase();
});

beforeEach(async () => {
  warnings = [];
  errors = [];
  opened = [];
  await database.query('DELETE FROM token_keys');
});

afterEach(async () => {
  for (const each of opened) await each.close();
});

afterAll(async () => {
  await database.drop();
});

/** Records what the check of the keys logs. */
const logger: LoggerService = {
  log: () => undefined,
  error: (message: unknown, ...more: unknown[]) => {
    if (more.includes(TokenKeyRegistry.name)) errors.push(String(message));
  },
  warn: (message: unknown, context: unknown) => {
    if (context === TokenKeyRegistry.name) warnings.push(String(message));
  },
};

interface Boot {
  readonly keys: TokensModuleOptions['encryption']['keys'];
  readonly url?: string;
  readonly isDirect?: boolean;
  readonly postgres?: object;
  readonly imports?: DynamicModule[];
}

/** Boots an application, and records the warnings of its log. */
async function boot({ keys, url = database.url, isDirect, postgres, imports }: Boot): Promise<INestApplicationContext> {
  const reached = isDirect ? url : urlUnderTest(url);
  const typeOrm = { type: 'postgres', url: reached, entities: tokensEntities, retryAttempts: 0, ...postgres };
  const testing = await Test.createTestingModule({
    imports: [
      ...(imports ?? [TypeOrmModule.forRoot(typeOrm as TypeOrmModuleOptions)]),
      TokensModule.forRoot({ encryption: { keys }, identityProviders: {}, ...(isDirect ? {} : poolerOptions()) }),
    ],
  })
    .setLogger(logger)
    .compile();
  try {
    await testing.init();
  } catch (error) {
    opened.push({ close: () => closeUnbooted(testing) });
    throw error;
  }
  opened.push(testing);
  return testing;
}

async function refusalOf(keys: readonly EncryptionKeyOptions[]): Promise<Error> {
  return boot({ keys }).then(
    () => Promise.reject(new Error('The application booted.')),
    (error: unknown) => error as Error,
  );
}

function rows(): Promise<Record<string, unknown>[]> {
  return database.query('SELECT id, check_text, retired_at FROM token_keys ORDER BY created_at, id');
}

describe('A boot', () => {
  it('registers the key that seals, once', async () => {
    await boot({ keys: [first] });
    const registered = await rows();
    expect(registered).toEqual([
      { id: 'first', check_text: expect.stringMatching(/^v1\.first\.[\w-]+$/) as unknown, retired_at: null },
    ]);
    await boot({ keys: [first] });
    await expect(rows()).resolves.toEqual(registered);
    expect(warnings).toEqual([]);
  });

  it('does not register a key that only opens before it seals, nor a legacy key', async () => {
    await boot({ keys: [first, second, legacy] });
    expect((await rows()).map(({ id }) => id)).toEqual(['first']);
    await boot({ keys: [second, first, legacy] });
    expect((await rows()).map(({ id }) => id)).toEqual(['first', 'second']);
  });

  it('stops with every fault of the keys in one error, which names what to do and no secret', async () => {
    const third = { id: 'third', secret: newKey() };
    for (const keys of [[first], [second, first], [third, first, second]]) await boot({ keys });
    await database.query("UPDATE token_keys SET retired_at = '2026-01-02T03:04:05Z' WHERE id = 'second'");
    const before = await rows();

    const other = { ...first, secret: newKey() };
    const error = await refusalOf([second, other]);
    expect(error).toBeInstanceOf(TokensConfigurationError);
    expect(error.message.split('\n')).toEqual([
      'encryption.keys does not fit the tokens of this database:',
      expect.stringMatching(/^- key "first" of encryption\.keys .* has another secret or another algorithm/),
      expect.stringMatching(/^- key "second" is retired since 2026-01-02T03:04:05\.000Z, .* Put another key first/),
      expect.stringMatching(/^- key "third" has sealed tokens in this database, .* Add it again, after the first key/),
    ]);
    for (const { secret } of [first, second, third, other]) expect(error.message).not.toContain(secret);
    await expect(rows()).resolves.toEqual(before);
  });

  it('stops when the first key has another secret than the registered one, and changes nothing', async () => {
    await boot({ keys: [first] });
    const before = await rows();
    await expect(refusalOf([{ ...first, secret: newKey() }])).resolves.toThrow(/key "first" .* has another secret/);
    await expect(refusalOf([{ ...first, algorithm: 'aes-256-gcm' }])).resolves.toThrow(/another algorithm/);
    await expect(rows()).resolves.toEqual(before);
  });

  it('that stops leaves the pairs that wait for their revocation to processes with the right keys', async () => {
    await boot({ keys: [first] });
    // Only the interval of the outbox is a fake one.
    jest.useFakeTimers({ doNotFake: [...NOT_INTERVALS] });
    try {
      await expect(boot({ keys: [second] })).rejects.toThrow(TokensConfigurationError);
      expect(jest.getTimerCount()).toBe(0);
      await boot({ keys: [first] });
      expect(jest.getTimerCount()).toBe(1);
    } finally {
      for (const each of opened.splice(0)) await each.close();
      jest.useRealTimers();
    }
  });

  it('lets the operator give a lost key up, as the error says', async () => {
    await boot({ keys: [first] });
    const [, statement = ''] = /: (UPDATE .*) lets the application/.exec((await refusalOf([second])).message) ?? [];
    await database.query(statement);
    await boot({ keys: [second] });
    expect((await rows()).map(({ id, retired_at }) => [id, retired_at !== null])).toEqual([
      ['first', true],
      ['second', false],
    ]);
  });

  it('writes nothing on a server that is read-only, and needs nothing written if the key is known', async () => {
    const readOnly = { url: database.url, extra: { options: '-c default_transaction_read_only=on' } };
    await boot({ keys: [first], postgres: readOnly });
    expect(warnings).toEqual([expect.stringMatching(/^The module did not register the key "first", .* read-only/)]);
    await expect(rows()).resolves.toEqual([]);
    await boot({ keys: [first] });
    await boot({ keys: [first], postgres: readOnly });
    expect(warnings).toHaveLength(1);
  });

  it('stops when PostgreSQL refuses, and says what is missing', async () => {
    await database.query('ALTER TABLE token_keys RENAME COLUMN check_text TO another');
    const error = await refusalOf([first]);
    await database.query('ALTER TABLE token_keys RENAME COLUMN another TO check_text');
    expect(error).toBeInstanceOf(TokenStoreUnavailableError);
    expect(error.message).toMatch(/^PostgreSQL refused to read the registered encryption keys .* run the migrations/);
  });
});

describe('A boot without the table', () => {
  it('warns once, and works', async () => {
    const empty = await createTestDatabase({ empty: true });
    await boot({ keys: [first], url: empty.url });
    expect(warnings).toEqual([expect.stringMatching(/the table token_keys is missing\. Run the migrations/)]);
    for (const each of opened.splice(0)) await each.close();
    await empty.drop();
  });

  it('registers the key if the host applies the migrations when its module is initialised', async () => {
    const empty = await createTestDatabase({ empty: true });
    @Module({})
    class HostModule implements OnModuleInit {
      constructor(private readonly dataSource: DataSource) {}

      async onModuleInit(): Promise<void> {
        await runTokenMigrations(this.dataSource);
      }
    }
    const postgres = { type: 'postgres', url: urlUnderTest(empty.url), entities: tokensEntities } as const;
    await boot({ keys: [first], imports: [TypeOrmModule.forRoot(postgres), { module: HostModule }] });
    await expect(empty.query('SELECT id FROM token_keys')).resolves.toEqual([{ id: 'first' }]);
    expect(warnings).toEqual([]);
    for (const each of opened.splice(0)) await each.close();
    await empty.drop();
  });

  it('warns once if the data source is initialised later', async () => {
    const late = new DataSource({ type: 'postgres', url: urlUnderTest(database.url), entities: tokensEntities });
    @Global()
    @Module({ providers: [{ provide: DataSource, useValue: late }], exports: [DataSource] })
    class DataSourceModule {}
    await boot({ keys: [first], imports: [{ module: DataSourceModule }] });
    expect(warnings).toEqual([expect.stringMatching(/because the data source is not initialised/)]);
    await expect(rows()).resolves.toEqual([]);
  });
});

describe('A check that was not possible at the boot', () => {
  /** Boots with fake intervals, so that a test decides when the next try is. */
  async function bootWithFakeIntervals(options: Boot): Promise<void> {
    jest.useFakeTimers({ doNotFake: [...NOT_INTERVALS] });
    await boot(options);
  }

  afterEach(async () => {
    for (const each of opened.splice(0)) await each.close();
    jest.useRealTimers();
  });

  async function migrate({ url }: TestDatabase): Promise<void> {
    const dataSource = await openDataSource(url);
    await runTokenMigrations(dataSource);
    await dataSource.destroy();
  }

  async function registeredIn(database: TestDatabase): Promise<unknown[]> {
    return (await database.query('SELECT id FROM token_keys')).map(({ id }) => id);
  }

  it('registers the key that seals after the migrations, and stops then', async () => {
    const empty = await createTestDatabase({ empty: true });
    await bootWithFakeIntervals({ keys: [first], url: empty.url });
    const before = jest.getTimerCount();
    jest.advanceTimersByTime(10_000); // a try without the table
    await migrate(empty);
    await until(async () => {
      jest.advanceTimersByTime(10_000);
      return (await registeredIn(empty)).length > 0;
    }, 10_000);
    await expect(registeredIn(empty)).resolves.toEqual(['first']);
    await until(() => jest.getTimerCount() === before - 1, 10_000);
    expect(warnings).toHaveLength(1);
    expect(errors).toEqual([]);
    for (const each of opened.splice(0)) await each.close();
    await empty.drop();
  });

  it('logs a key ring that does not fit as an error, once', async () => {
    const empty = await createTestDatabase({ empty: true });
    await bootWithFakeIntervals({ keys: [second], url: empty.url });
    await migrate(empty);
    await boot({ keys: [first], url: empty.url });
    await until(() => {
      jest.advanceTimersByTime(10_000);
      return errors.length > 0;
    }, 10_000);
    jest.advanceTimersByTime(60_000);
    expect(errors).toEqual([expect.stringMatching(/does not fit .*\n- key "first" has sealed tokens/)]);
    await expect(registeredIn(empty)).resolves.toEqual(['first']);
    for (const each of opened.splice(0)) await each.close();
    await empty.drop();
  });

  it('registers the key when a standby has become the primary', async () => {
    await database.query(`ALTER DATABASE ${database.name} SET default_transaction_read_only = on`);
    await bootWithFakeIntervals({ keys: [first], isDirect: true }); // a pooler has connections with the old setting
    expect(warnings).toEqual([expect.stringMatching(/because the server is read-only/)]);
    await database.query(
      `BEGIN READ WRITE; ALTER DATABASE ${database.name} RESET default_transaction_read_only; COMMIT`,
    );
    await database.query(
      'SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()',
    );
    await until(async () => {
      jest.advanceTimersByTime(10_000);
      return (await rows()).length > 0;
    }, 10_000);
    expect((await rows()).map(({ id }) => id)).toEqual(['first']);
  });

  it('ends with the application', async () => {
    const empty = await createTestDatabase({ empty: true });
    jest.useFakeTimers({ doNotFake: [...NOT_INTERVALS] });
    const app = await boot({ keys: [first], url: empty.url });
    expect(jest.getTimerCount()).toBeGreaterThan(0);
    await app.close();
    expect(jest.getTimerCount()).toBe(0);
    await empty.drop();
  });
});

describe('Two processes that register a key at once', () => {
  /** Starts a process with each key. Both have seen an empty table before one of them may write to it. */
  async function race(keys: readonly EncryptionKeyOptions[]): Promise<(TokensWorker | Error)[]> {
    const holder = new pg.Client({ connectionString: database.url });
    await holder.connect();
    await holder.query('BEGIN; LOCK TABLE token_keys IN SHARE MODE');
    const starting = keys.map((key) =>
      startTokensWorker({
        databaseUrl: database.url,
        options: { encryption: { keys: [key] }, identityProviders: {} },
      }).catch((error: unknown) => error as Error),
    );
    await until(async () => {
      const waiting = await database.query(
        `SELECT FROM pg_locks WHERE relation = 'token_keys'::regclass AND NOT granted
           AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`,
      );
      return waiting.length === keys.length;
    }, 30_000);
    await holder.end();
    const started = await Promise.all(starting);
    for (const each of started) if (!(each instanceof Error)) opened.push(each);
    return started;
  }

  it('both boot with the same secret', async () => {
    const started = await race([first, first]);
    expect(started.filter((each) => each instanceof Error)).toEqual([]);
    expect((await rows()).map(({ id }) => id)).toEqual(['first']);
  }, 60_000);

  it('do not both boot with two secrets, and the registered one is that of the process that booted', async () => {
    const keys = [first, { ...first, secret: newKey() }];
    const started = await race(keys);
    const booted = keys.filter((_, position) => !(started[position] instanceof Error));
    expect(booted).toHaveLength(1);
    for (const key of booted) await boot({ keys: [key] });
    for (const key of keys)
      if (!booted.includes(key)) await expect(refusalOf([key])).resolves.toThrow(/another secret/);
  }, 60_000);
});

describe('A function in encryption.keys', () => {
  it.each<[string, () => EncryptionKeyOptions[] | Promise<EncryptionKeyOptions[]>]>([
    ['a function', () => [first, legacy]],
    ['an async function', () => Promise.resolve([first, legacy])],
  ])('is called once, when the application boots: %s', async (_, load) => {
    let calls = 0;
    const keys = () => {
      calls++;
      return load();
    };
    const app = await boot({ keys });
    const place = { table: 'auth_tokens', column: 'access_token', keycloakUserId: 'ada', idp: 'acme' };
    expect(app.get(TokenCipher).seal('a token', place)).toMatch(/^v1\.first\./);
    expect(calls).toBe(1);
    expect((await rows()).map(({ id }) => id)).toEqual(['first']);
  });

  it('has the rules of a list, and the error names every fault of the options', async () => {
    const keys = () => Promise.resolve([{ id: 'a b', secret: 'short' }]);
    await expect(boot({ keys })).rejects.toThrow(/keys\[0\]\.id must be 1 to 64[^]*keys\[0\]\.secret must be 32 bytes/);
    await expect(boot({ keys: () => [] })).rejects.toThrow(/encryption\.keys must hold at least one key/);
    await expect(boot({ keys: (() => undefined) as never })).rejects.toThrow(TokensConfigurationError);
  });

  it('that fails stops the boot with one error, which has no text of the failure', async () => {
    const failure = Object.assign(new Error('the secret answer of a vault'), { code: 'ECONNREFUSED' });
    const booting = TokensModule.forRootAsync({
      useFactory: () => ({
        encryption: { keys: () => Promise.reject(failure) },
        identityProviders: { github: { clientId: '', clientSecret: 's' } },
      }),
    });
    const postgres = { type: 'postgres', url: database.url, entities: tokensEntities, retryAttempts: 0 } as const;
    const error = await Test.createTestingModule({ imports: [TypeOrmModule.forRoot(postgres), booting] })
      .compile()
      .then(
        () => undefined,
        (refusal: unknown) => refusal as Error,
      );
    expect(error).toBeInstanceOf(TokensConfigurationError);
    expect(error?.cause).toBeUndefined();
    expect(error?.message.split('\n')).toEqual([
      'The options of TokensModule are wrong:',
      '- encryption.keys could not get the keys, because it threw Error (ECONNREFUSED)',
      expect.stringMatching(/^- identityProviders\.github\.clientId /),
    ]);
  });
});

describe('TokensTestingModule', () => {
  it('boots without the registry, and refuses to rotate keys', async () => {
    const testing = await Test.createTestingModule({ imports: [TokensTestingModule.forRoot()] })
      .setLogger(logger)
      .compile();
    opened.push(testing);
    await testing.init();
    expect(warnings).toEqual([]);
    const rotation = testing.get(TokenKeyRotation);
    for (const call of [rotation.status(), rotation.reseal(), rotation.retire('a')]) {
      await expect(call).rejects.toThrow(TokensUsageError);
    }
  });
});
