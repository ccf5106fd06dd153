import type { QueryResultRow } from 'pg';
import type { DataSource, QueryRunner } from 'typeorm';

import { KeyRingCheck } from '../../key-rotation/key-ring-check.js';
import { TextSealer } from '../../key-rotation/text-sealer.js';
import { TokenKeyRotation } from '../../key-rotation/token-key-rotation.js';
import { OfflineTokenVault } from '../../keycloak/offline-token-vault.js';
import { DatabaseSettings } from '../../postgres/database.options.js';
import { QueryRunnerScope } from '../../postgres/query-runner-scope.js';
import { StatementExecutor } from '../../postgres/statement-executor.js';
import { defineStatement } from '../../postgres/statement.js';
import { tablePathOf } from '../../postgres/table-path.js';
import { TokenCipher } from '../../sealing/token-cipher.js';
import { SealedTextsTable } from '../../storage/sealed-texts/sealed-texts.table.js';
import { TokenKeysTable } from '../../storage/token-keys/token-keys.table.js';
import { tokensEntities } from '../../storage/tokens-entities.js';
import type { TokensSettings } from '../../tokens.options.js';

/** How long the doctor waits for an answer of PostgreSQL at most, in milliseconds. */
const PATIENCE_MS = 10_000;

/** What the operator has given to the doctor. */
export interface KnownConfiguration {
  /** Whether the key ring is that of the application. If not, it has a key that has sealed nothing. */
  readonly keys: boolean;
  /** Whether the options of the module and of the data source are those of the application. */
  readonly options: boolean;
}

/** The table of one entity. */
export interface TokensTable {
  /** Its name without the schema and the prefix of the data source. */
  readonly name: string;
  /** Its name with the prefix. */
  readonly tableName: string;
  /** Quoted path. */
  readonly path: string;
}

/**
 * What the checks look at. It changes nothing in the database, prepares no statement unless a check does so itself, and
 * starts no work of the module.
 */
export class DoctorContext {
  /** Runs the statements of the module, unnamed, because a pooler that loses named statements must not stop a check. */
  readonly executor: StatementExecutor;
  readonly texts: SealedTextsTable;
  /** The checks seal nothing by it. */
  readonly sealer: TextSealer;
  /** The checks register nothing by it. */
  readonly ringCheck: KeyRingCheck;
  readonly rotation: TokenKeyRotation;

  /** @param dataSource need not be initialised for the checks that need no database */
  constructor(
    readonly dataSource: DataSource,
    readonly settings: TokensSettings,
    readonly knows: KnownConfiguration = { keys: true, options: true },
  ) {
    const database = new DatabaseSettings(Math.min(settings.connectionTimeoutMs, PATIENCE_MS), false);
    this.executor = new StatementExecutor(dataSource, new QueryRunnerScope(dataSource, database), database);
    const { keyring } = settings;
    const cipher = new TokenCipher(keyring);
    const keys = new TokenKeysTable(dataSource, this.executor);
    this.texts = new SealedTextsTable(dataSource, this.executor);
    this.sealer = new TextSealer(keyring, cipher, new OfflineTokenVault(cipher));
    this.ringCheck = new KeyRingCheck(keys, keyring);
    this.rotation = new TokenKeyRotation(keyring, this.ringCheck, keys, this.texts, this.sealer, database);
  }

  /**
   * Runs one statement that reads, and returns its rows.
   *
   * @param action what it does, for the error message, such as "read the settings"
   * @param text SQL with parameters as `$name`
   * @throws {@link TokenStoreUnavailableError} when PostgreSQL does not execute it
   */
  rows(action: string, text: string, params: Readonly<Record<string, unknown>> = {}): Promise<QueryResultRow[]> {
    const statement = defineStatement<Record<string, unknown>, QueryResultRow>({
      label: 'doctor',
      action,
      isRepeatable: true,
      text,
      read: (row) => row,
    });
    return this.executor.executeDetached(statement, params);
  }

  /** Runs one statement that reads, and returns its only row. */
  async row(action: string, text: string, params?: Readonly<Record<string, unknown>>): Promise<QueryResultRow> {
    return (await this.rows(action, text, params))[0] ?? {};
  }

  /** Lends a query runner of the primary to the work, and releases it. */
  async withRunner<T>(work: (queryRunner: QueryRunner) => Promise<T>): Promise<T> {
    const queryRunner = this.dataSource.createQueryRunner('master');
    try {
      return await work(queryRunner);
    } finally {
      await queryRunner.release();
    }
  }

  /**
   * The tables of the module.
   *
   * @throws {@link TokensConfigurationError} when the data source does not know the entities
   */
  get tables(): TokensTable[] {
    const prefix = this.dataSource.options.entityPrefix ?? '';
    return tokensEntities.map((entity) => {
      const path = tablePathOf(this.dataSource, entity);
      const { tableName } = this.dataSource.getMetadata(entity);
      return { name: tableName.slice(prefix.length), tableName, path };
    });
  }
}
