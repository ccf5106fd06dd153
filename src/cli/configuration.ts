import { randomBytes } from 'node:crypto';
import { resolve } from 'node:path';

import type { DataSourceOptions } from 'typeorm';

import { tokensEntities } from '../storage/tokens-entities.js';
import { TokensConfigurationError } from '../tokens.errors.js';
import { loadTokensSettings, type TokensSettings } from '../tokens.options.js';
import type { Need } from './cli-command.js';
import { CliError } from './cli.errors.js';
import { findConfigFile, type LoadedConfig, loadConfigFile } from './config-file.js';
import { ExitCode } from './exit-code.js';
import { keysOfEnvironment } from './keys-of-environment.js';

/** The options of a data source of PostgreSQL. */
export type PostgresOptions = Extract<DataSourceOptions, { type: 'postgres' }>;

/** What the command line works with. It prints without a secret as long as the data source is not printed. */
export interface Configuration {
  /** The configuration file, or the environment variables, for messages. */
  readonly origin: string;
  readonly dataSource: PostgresOptions;
  readonly settings: TokensSettings;
  /** Whether the key ring is that of the operator. If not, it has one random key that seals nothing. */
  readonly hasKeys: boolean;
  /** Whether the options of the providers are known. */
  readonly hasProviders: boolean;
}

/** Where the command line finds its configuration. */
export interface ConfigurationPlace {
  /** The argument of `--config`. */
  readonly file: string | undefined;
  readonly folder: string;
  readonly environment: NodeJS.ProcessEnv;
}

const PG_VARIABLES = ['PGHOST', 'PGHOSTADDR', 'PGDATABASE', 'PGUSER', 'PGPORT', 'PGSERVICE'];
/** What Nest needs for its module, and the transactions of the application, have no meaning here. */
const OF_THE_APPLICATION = new Set(['dataSource', 'isGlobal', 'hostQueryRunner']);
/** What Nest calls the data source without a name. */
const DEFAULT_NAME = 'default';
const NEEDS: readonly Need[] = ['nothing', 'database', 'keys', 'providers'];

/**
 * Reads the configuration file, or the environment if there is no file.
 *
 * @throws {@link CliError} with exit code 2 that says what is missing or wrong, without the value of an option
 */
export async function loadConfiguration(place: ConfigurationPlace, need: Need): Promise<Configuration> {
  const file = place.file === undefined ? findConfigFile(place.folder) : resolve(place.folder, place.file);
  const configuration = file === undefined ? await fromEnvironment(place.environment, need) : await fromFile(file);
  if (!configuration.hasKeys && NEEDS.indexOf(need) >= NEEDS.indexOf('keys')) {
    throw wrong(
      'The command needs the encryption keys.',
      'Set TOKENS_KEYS to id:base64,id:base64, the sealing key first, or write an idp-tokens.config.js.',
    );
  }
  return configuration;
}

async function fromFile(file: string): Promise<Configuration> {
  const config = await loadConfigFile(file);
  return {
    origin: file,
    dataSource: dataSourceOf(config, file),
    settings: await settingsOf(config.tokens, file),
    hasKeys: true,
    hasProviders: true,
  };
}

async function fromEnvironment(environment: NodeJS.ProcessEnv, need: Need): Promise<Configuration> {
  if (need === 'providers') {
    throw wrong(
      'The command needs the options of the providers, and there is no configuration file here.',
      'Write an idp-tokens.config.js that exports defineTokensConfig({ dataSource, tokens }), or name one by --config FILE.',
    );
  }
  const { DATABASE_URL: url, TOKENS_KEYS: keys } = environment;
  if (!url && !PG_VARIABLES.some((name) => environment[name])) {
    throw wrong(
      'The command does not know the database.',
      'Write an idp-tokens.config.js, name one by --config FILE, or set DATABASE_URL or the PG* variables.',
    );
  }
  if (url) checkUrl(url);
  const origin = keys ? 'DATABASE_URL and TOKENS_KEYS' : 'DATABASE_URL';
  const tokens = {
    encryption: { keys: keys ? keysOfEnvironment(keys) : [placeholderKey()] },
    identityProviders: {},
    // A pooler of any kind may be in front of the server.
    preparedStatements: false,
  };
  return {
    origin: url ? origin : origin.replace('DATABASE_URL', 'the PG* variables'),
    dataSource: onlyForTokens({ type: 'postgres', ...(url ? { url } : {}) }),
    settings: await settingsOf(tokens, keys ? 'TOKENS_KEYS' : 'the command line'),
    hasKeys: Boolean(keys),
    hasProviders: false,
  };
}

function dataSourceOf({ dataSource, tokens }: LoadedConfig, file: string): PostgresOptions {
  // A data source has its options as a property. The options themselves have none of this name.
  const given = Object(Reflect.get(dataSource, 'options') ?? dataSource) as object;
  checkName(given, tokens, file);
  const type: unknown = Reflect.get(given, 'type');
  if (type !== 'postgres') {
    throw wrong(
      `The data source of ${file} is not of type "postgres", so it cannot have the tokens.`,
      'Name the data source there that TokensModule uses.',
    );
  }
  return onlyForTokens(given as PostgresOptions);
}

/**
 * The operator would look at one database, and the application would use another one. Without a name in the options of
 * the module there is nothing to compare, because `forRootAsync` gets the name beside them.
 */
function checkName(dataSource: object, tokens: object, file: string): void {
  const wanted: unknown = Reflect.get(tokens, 'dataSource');
  if (typeof wanted !== 'string') return;
  const name: unknown = Reflect.get(dataSource, 'name') ?? DEFAULT_NAME;
  if (name === wanted) return;
  const found = name === DEFAULT_NAME ? 'has no name' : `has the name "${String(name)}"`;
  throw wrong(
    `TokensModule uses the data source "${wanted}", and the data source of ${file} ${found}.`,
    `Export the options of the data source "${wanted}" there, with name: "${wanted}" in them.`,
  );
}

/**
 * Returns options that open the database and change nothing: no entity of the host, no synchronisation, no migration, no
 * subscriber and no log.
 */
function onlyForTokens(options: PostgresOptions): PostgresOptions {
  const { replication } = options;
  return {
    ...options,
    // The module asks the primary only.
    ...(replication ? { replication: { ...replication, slaves: [] } } : {}),
    entities: [...tokensEntities],
    migrations: [],
    subscribers: [],
    synchronize: false,
    dropSchema: false,
    migrationsRun: false,
    cache: false,
    // A logger of the host would get the values of statements.
    logger: undefined,
    logging: false,
    maxQueryExecutionTime: undefined,
    installExtensions: false,
    applicationName: 'idp-tokens',
  };
}

async function settingsOf(tokens: object, origin: string): Promise<TokensSettings> {
  const options = Object.fromEntries(Object.entries(tokens).filter(([name]) => !OF_THE_APPLICATION.has(name)));
  try {
    return await loadTokensSettings(options);
  } catch (error) {
    if (!(error instanceof TokensConfigurationError)) throw error;
    throw wrong(`${origin}: ${error.message}`, `Correct ${origin}.`);
  }
}

/** TypeORM reads an invalid URL in some way, and the driver then fails with another cause. */
function checkUrl(url: string): void {
  const parsed = URL.canParse(url) ? new URL(url) : undefined;
  if (parsed && /^postgres(ql)?:$/.test(parsed.protocol)) return;
  throw wrong(
    'DATABASE_URL is no URL of a PostgreSQL database.',
    'Give it the form postgres://user:password@host:5432/database, with special characters percent-encoded.',
  );
}

function placeholderKey(): { id: string; secret: string } {
  return { id: `placeholder-${randomBytes(8).toString('hex')}`, secret: randomBytes(32).toString('base64') };
}

function wrong(message: string, remedy: string): CliError {
  return new CliError(message, ExitCode.wrongUse, remedy);
}
