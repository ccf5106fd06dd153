import { Injectable } from '@nestjs/common';

import { sqlStateOf } from '../postgres/driver-error.js';
import { sealCheckText } from '../sealing/check-text.js';
import { Keyring } from '../sealing/keyring.js';
import type { RegisteredKey } from '../storage/token-keys/token-keys.statements.js';
import { TokenKeysTable } from '../storage/token-keys/token-keys.table.js';
import { TokensConfigurationError } from '../tokens.errors.js';
import { registryFaults } from './registry-faults.js';

const NO_TABLE = '42P01';
const READ_ONLY = '25006';
const NOT_CHECKED = 'The module did not check encryption.keys against the keys that have sealed tokens';

/** Holds the key ring against the keys that have sealed in this database, and registers the key that seals. */
@Injectable()
export class KeyRingCheck {
  constructor(
    private readonly table: TokenKeysTable,
    private readonly keyring: Keyring,
  ) {}

  /**
   * Checks the key ring, and registers the key that seals if it is new. Returns undefined when both are done, and
   * otherwise why they are not possible yet, with what to do.
   *
   * @throws {@link TokensConfigurationError} that names every key that is missing, retired or another one
   * @throws {@link TokenStoreUnavailableError} when PostgreSQL does not execute a statement
   */
  async run(): Promise<string | undefined> {
    if (!this.table.isOpen) {
      return `${NOT_CHECKED}, because the data source is not initialised. Initialise it before the application boots.`;
    }
    const registered = await this.#read();
    if (!registered) {
      return (
        `${NOT_CHECKED}, because the table token_keys is missing. Run the migrations with ` +
        'runTokenMigrations(dataSource) or migration:run before the application boots.'
      );
    }
    this.#assertFit(registered);
    const { sealingKey } = this.keyring;
    if (registered.some(({ id }) => id === sealingKey.id)) return undefined;
    if (!(await this.#register())) {
      return (
        `The module did not register the key "${sealingKey.id}", because the server is read-only. A process that writes ` +
        'to the primary registers it.'
      );
    }
    // Another process may have registered the same id with another secret at the same time. One of the two stops.
    this.#assertFit(await this.table.list());
    return undefined;
  }

  /**
   * Returns what makes the key ring unfit for the registered keys as they are now, a sentence for each fault. It
   * registers nothing. Without the table it returns none.
   *
   * @throws {@link TokenStoreUnavailableError} when PostgreSQL does not execute the statement
   */
  async presentFaults(): Promise<string[]> {
    return registryFaults(this.keyring, (await this.#read()) ?? [], this.table.path);
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
      return false;
    }
  }

  #assertFit(registered: readonly RegisteredKey[]): void {
    const faults = registryFaults(this.keyring, registered, this.table.path);
    if (faults.length === 0) return;
    throw new TokensConfigurationError(
      `encryption.keys does not fit the tokens of this database:\n${faults.map((fault) => `- ${fault}`).join('\n')}`,
    );
  }
}
