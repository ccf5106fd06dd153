import { Injectable, Logger, type OnApplicationBootstrap } from '@nestjs/common';

import { sqlStateOf } from '../postgres/driver-error.js';
import { sealCheckText } from '../sealing/check-text.js';
import { Keyring } from '../sealing/keyring.js';
import type { RegisteredKey } from '../storage/token-keys/token-keys.statements.js';
import { TokenKeysTable } from '../storage/token-keys/token-keys.table.js';
import { TokensConfigurationError } from '../tokens.errors.js';
import { registryFaults } from './registry-faults.js';

const NO_TABLE = '42P01';
const READ_ONLY = '25006';

/**
 * Holds the key ring against the keys that have sealed in this database, when the application boots. A wrong or missing
 * key then stops the boot, and no user meets it. Reads and stores of tokens do not use the registry.
 */
@Injectable()
export class TokenKeyRegistry implements OnApplicationBootstrap {
  readonly #logger = new Logger(TokenKeyRegistry.name);
  #checked: Promise<void> | undefined;

  constructor(
    private readonly table: TokenKeysTable,
    private readonly keyring: Keyring,
  ) {}

  /**
   * Checks the key ring, and registers the key that seals if it is new. It runs after `onModuleInit` of the host, where
   * hosts apply the migrations. It is left out, with a warning, if the data source is not initialised, or if there is
   * no table of the keys.
   *
   * @throws {@link TokensConfigurationError} that names every key that is missing, retired or another one
   * @throws {@link TokenStoreUnavailableError} when PostgreSQL does not execute a statement
   */
  onApplicationBootstrap(): Promise<void> {
    return this.whenChecked();
  }

  /**
   * Settles when the check of the boot has ended. Nest calls all hooks of the boot at once, so what must not begin
   * before the check waits for it.
   *
   * @throws {@link TokensConfigurationError} | {@link TokenStoreUnavailableError} as the boot does
   */
  whenChecked(): Promise<void> {
    return (this.#checked ??= this.#checkAtBoot());
  }

  /**
   * Returns what makes the key ring unfit for the registered keys as they are now, a sentence for each fault. It
   * registers nothing. Without the table it returns none.
   *
   * @throws {@link TokenStoreUnavailableError} when PostgreSQL does not execute the statement
   */
  async presentFaults(): Promise<string[]> {
    return registryFaults(this.keyring, (await this.#read()) ?? []);
  }

  async #checkAtBoot(): Promise<void> {
    if (!this.table.isOpen) {
      this.#logger.warn(
        'The module did not check encryption.keys against the keys that have sealed tokens, because the data source is ' +
          'not initialised. Initialise it before the application boots.',
      );
      return;
    }
    const registered = await this.#read();
    if (!registered) {
      this.#logger.warn(
        'The module did not check encryption.keys against the keys that have sealed tokens, because the table ' +
          'token_keys is missing. Run the migrations with runTokenMigrations(dataSource) or migration:run before the ' +
          'application boots.',
      );
      return;
    }
    this.#check(registered);
    const { sealingKey } = this.keyring;
    if (registered.some(({ id }) => id === sealingKey.id)) return;
    if (!(await this.#register())) return;
    // Another process may have registered the same id with another secret at the same time. One of the two stops.
    this.#check(await this.table.list());
  }

  /** Returns undefined if there is no table. */
  async #read(): Promise<RegisteredKey[] | undefined> {
    try {
      return await this.table.list();
    } catch (error) {
      if (sqlStateOf(error) !== NO_TABLE) throw error;
      return undefined;
    }
  }

  /** Returns false on a server that is read-only, where the key seals nothing. */
  async #register(): Promise<boolean> {
    const { sealingKey } = this.keyring;
    try {
      await this.table.register({ keyId: sealingKey.id, checkText: sealCheckText(sealingKey) });
      return true;
    } catch (error) {
      if (sqlStateOf(error) !== READ_ONLY) throw error;
      this.#logger.warn(
        `The module did not register the key "${sealingKey.id}", because the server is read-only. A process that writes ` +
          'to the primary registers it.',
      );
      return false;
    }
  }

  #check(registered: readonly RegisteredKey[]): void {
    const faults = registryFaults(this.keyring, registered);
    if (faults.length === 0) return;
    throw new TokensConfigurationError(
      `encryption.keys does not fit the tokens of this database:\n${faults.map((fault) => `- ${fault}`).join('\n')}`,
    );
  }
}
