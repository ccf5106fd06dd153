import { type INestApplicationContext, type LoggerService, type Type } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { DataSource, type DataSourceOptions } from 'typeorm';

import { TokenKeyRegistry } from '../key-rotation/token-key-registry.js';
import { TOKENS_DATA_SOURCE } from '../postgres/database.options.js';
import { translateDriverError } from '../postgres/driver-error.js';
import { TokenRevoker } from '../token-manager/token-revoker.js';
import { TokensModule } from '../tokens.module.js';
import { TOKENS_SETTINGS, type TokensSettings } from '../tokens.options.js';
import { within } from '../within.js';
import { CliError } from './cli.errors.js';
import type { Configuration } from './configuration.js';
import { ExitCode } from './exit-code.js';
import type { Output } from './output.js';
import type { Signals } from './signals.js';

/** How long a server may take to accept a connection, in milliseconds. */
const CONNECT_DEADLINE_MS = 15_000;

/** The module on an open database. */
export interface OpenTokens {
  readonly dataSource: DataSource;
  /** Returns a provider of `TokensModule`. */
  readonly get: <T>(provider: Type<T>) => T;
}

/**
 * What a command works with: its configuration, its output, and the module. The module is that of the application
 * without its background work: it registers no key, sends no revocation and has no timer.
 */
export class CliContext {
  #dataSource: DataSource | undefined;
  #app: INestApplicationContext | undefined;

  constructor(
    private readonly given: Configuration | undefined,
    readonly output: Output,
    private readonly signals: Signals,
  ) {}

  /** Aborts at the first SIGINT or SIGTERM. */
  get signal(): AbortSignal {
    return this.signals.signal;
  }

  /** @throws TypeError in a command that needs nothing */
  get configuration(): Configuration {
    if (!this.given) throw new TypeError('The command has said that it needs no configuration.');
    return this.given;
  }

  get settings(): TokensSettings {
    return this.configuration.settings;
  }

  /**
   * Connects to the database. Ends at the first signal.
   *
   * @throws {@link TokenStoreUnavailableError} when no database answers, or when the server refuses the login
   * @throws {@link CliError} when the server neither accepts nor refuses the connection in time, and at a signal
   */
  async connect(): Promise<DataSource> {
    return (this.#dataSource ??= await this.signals.interrupting(connected(this.configuration.dataSource)));
  }

  /** Connects to the database, and makes the providers of the module. It needs no tables. Ends at the first signal. */
  async open(): Promise<OpenTokens> {
    const dataSource = await this.connect();
    const app = (this.#app ??= await this.signals.interrupting(this.#moduleOn(dataSource)));
    return { dataSource, get: (provider) => app.get(provider, { strict: false }) };
  }

  #moduleOn(dataSource: DataSource): Promise<INestApplicationContext> {
    return NestFactory.createApplicationContext(
      {
        module: TokensModule,
        // Nest takes the last provider of a token, and those of a dynamic module after those of its class.
        providers: [
          { provide: TOKENS_SETTINGS, useValue: this.settings },
          { provide: TOKENS_DATA_SOURCE, useValue: dataSource },
          { provide: TokenKeyRegistry, useValue: {} },
          { provide: TokenRevoker, useValue: { wakeAfterCommit: () => undefined } },
        ],
      },
      { logger: new WarningsOf(this.output), abortOnError: false },
    );
  }

  /** Ends the connections. Never rejects. */
  async close(): Promise<void> {
    await this.#app?.close().catch(() => undefined);
    if (this.#dataSource?.isInitialized) await this.#dataSource.destroy().catch(() => undefined);
  }
}

async function connected(options: DataSourceOptions): Promise<DataSource> {
  const dataSource = new DataSource(options);
  const connecting = dataSource.initialize().catch((error: unknown) => {
    throw translateDriverError(error, 'connect to the database');
  });
  const inTime = await within(connecting, CONNECT_DEADLINE_MS, () => undefined);
  if (inTime) return inTime;
  throw new CliError(
    `The server did not accept a connection within ${CONNECT_DEADLINE_MS / 1000} s.`,
    ExitCode.noDatabase,
    'Check the host and the port, and that this machine reaches them.',
  );
}

/** Writes warnings and errors of the module to standard error. */
class WarningsOf implements LoggerService {
  constructor(private readonly output: Output) {}

  log(): void {
    return;
  }

  warn(message: unknown): void {
    this.#note('warning', message);
  }

  error(message: unknown): void {
    this.#note('error', message);
  }

  fatal(message: unknown): void {
    this.#note('error', message);
  }

  #note(level: string, message: unknown): void {
    if (typeof message === 'string') this.output.note(`${level}: ${message}`);
  }
}
