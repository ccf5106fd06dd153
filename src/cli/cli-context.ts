import { type INestApplicationContext, type LoggerService, type Type } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { DataSource } from 'typeorm';

import { TokenKeyRegistry } from '../key-rotation/token-key-registry.js';
import { TOKENS_DATA_SOURCE } from '../postgres/database.options.js';
import { translateDriverError } from '../postgres/driver-error.js';
import { TokenRevoker } from '../token-manager/token-revoker.js';
import { TokensModule } from '../tokens.module.js';
import { TOKENS_SETTINGS, type TokensSettings } from '../tokens.options.js';
import type { Configuration } from './configuration.js';
import type { Output } from './output.js';

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
    /** Aborts at the first SIGINT or SIGTERM. */
    readonly signal: AbortSignal,
  ) {}

  /** @throws TypeError in a command that needs nothing */
  get configuration(): Configuration {
    if (!this.given) throw new TypeError('The command has said that it needs no configuration.');
    return this.given;
  }

  get settings(): TokensSettings {
    return this.configuration.settings;
  }

  /**
   * Connects to the database.
   *
   * @throws {@link TokenStoreUnavailableError} when no database answers, or when the server refuses the login
   */
  async connect(): Promise<DataSource> {
    if (this.#dataSource) return this.#dataSource;
    const dataSource = new DataSource(this.configuration.dataSource);
    try {
      await dataSource.initialize();
    } catch (error) {
      throw translateDriverError(error, 'connect to the database');
    }
    this.#dataSource = dataSource;
    return dataSource;
  }

  /** Connects to the database, and makes the providers of the module. It needs no tables. */
  async open(): Promise<OpenTokens> {
    const dataSource = await this.connect();
    this.#app ??= await NestFactory.createApplicationContext(
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
    const app = this.#app;
    return { dataSource, get: (provider) => app.get(provider, { strict: false }) };
  }

  /** Ends the connections. Never rejects. */
  async close(): Promise<void> {
    await this.#app?.close().catch(() => undefined);
    if (this.#dataSource?.isInitialized) await this.#dataSource.destroy().catch(() => undefined);
  }
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
