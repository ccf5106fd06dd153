import { setTimeout as delay } from 'node:timers/promises';

import { Injectable } from '@nestjs/common';

import { DatabaseSettings } from '../postgres/database.options.js';
import { sealCheckText } from '../sealing/check-text.js';
import { Keyring } from '../sealing/keyring.js';
import type { OpenWriter } from '../storage/sealed-texts/sealed-texts.statements.js';
import { SEALED_TABLES, type SealedTable, SealedTextsTable } from '../storage/sealed-texts/sealed-texts.table.js';
import type { RegisteredKey } from '../storage/token-keys/token-keys.statements.js';
import { TokenKeysTable } from '../storage/token-keys/token-keys.table.js';
import { InvalidTokenInputError, KeyInUseError, TokensUsageError } from '../tokens.errors.js';
import { KeyRingCheck } from './key-ring-check.js';
import {
  DEFAULT_BATCH_SIZE,
  DEFAULT_ROWS_PER_SECOND,
  type ResealDemands,
  ResealWalk,
  type ResealProgress,
  type ResealResult,
} from './reseal-walk.js';
import { TextSealer } from './text-sealer.js';

/** A number for each table with sealed texts. */
export type TextsByTable = Readonly<Record<SealedTable, number>>;

/** One encryption key that the key ring, the table `token_keys` or a stored text names. */
export interface TokenKeyStatus {
  readonly id: string;
  /** Whether the key seals, as the first one of this process. */
  readonly isSealing: boolean;
  /** Whether this process has the key. */
  readonly isInRing: boolean;
  readonly isRegistered: boolean;
  /** Null while the key is in use. */
  readonly retiredAt: Date | null;
  /** How many stored texts name the key. */
  readonly texts: TextsByTable;
}

/** What {@link TokenKeyRotation.status} found. */
export interface KeyRotationStatus {
  /** The key ring in its order, then other keys. */
  readonly keys: readonly TokenKeyStatus[];
  /** How many stored texts name no key: Fernet texts of an adopted system, and what is no sealed text. */
  readonly legacyTexts: TextsByTable;
}

/** Options of {@link TokenKeyRotation.reseal}. */
export interface ResealOptions {
  /** How many rows one statement reads and writes, 1 to 10,000. Default: 500. */
  readonly batchSize?: number;
  /** Ends the walk after the present batch. */
  readonly signal?: AbortSignal;
  /** Is called after each batch. If it throws, `reseal` rejects with its error. */
  readonly onProgress?: (progress: ResealProgress) => void;
  /**
   * How many rows get new texts in a second at most. Default: 6,000, which leaves readers most of a machine with two
   * cores. `Infinity` lifts the limit.
   */
  readonly maxRowsPerSecond?: number;
}

/** Options of {@link TokenKeyRotation.retire}. */
export interface RetireOptions {
  /**
   * How long the call waits before it counts again, in milliseconds, and then at most as long for open transactions.
   * Default: a second more than twice the `connectionTimeoutMs` of this process, because a process waits no longer for a
   * statement. A statement that PostgreSQL still executes then is one of the open transactions.
   */
  readonly pauseMs?: number;
}

type Counts = ReadonlyMap<string | null, Record<SealedTable, number>>;

const NO_TEXTS: TextsByTable = { auth_tokens: 0, offline_tokens: 0, token_revocations: 0, link_attempts: 0 };
/** The time between two looks at open transactions, in milliseconds. */
const LOOK_AGAIN_MS = 100;

/**
 * Moves the stored tokens from one encryption key to another, while the application works. All calls work outside of
 * every transaction. They throw {@link TokenStoreUnavailableError} when PostgreSQL does not execute a statement.
 */
@Injectable()
export class TokenKeyRotation {
  constructor(
    private readonly keyring: Keyring,
    private readonly check: KeyRingCheck,
    private readonly keys: TokenKeysTable,
    private readonly texts: SealedTextsTable,
    private readonly sealer: TextSealer,
    private readonly settings: DatabaseSettings,
  ) {}

  /**
   * Counts the stored texts by their keys. An expired attempt to link an account does not count. It reads each table
   * once, which takes seconds for a million rows.
   */
  async status(): Promise<KeyRotationStatus> {
    const registered = await this.keys.list();
    const counts = await this.#count();
    const named = [...counts.keys()].filter((id) => id !== null);
    const ids = new Set([...this.keyring.keyIds, ...registered.map(({ id }) => id), ...named.sort()]);
    return {
      keys: [...ids].map((id) => {
        const row = registered.find((each) => each.id === id);
        return {
          id,
          isSealing: id === this.keyring.sealingKey.id,
          isInRing: this.keyring.find(id) !== undefined,
          isRegistered: row !== undefined,
          retiredAt: row?.retiredAt ?? null,
          texts: counts.get(id) ?? NO_TEXTS,
        };
      }),
      legacyTexts: counts.get(null) ?? NO_TEXTS,
    };
  }

  /**
   * Seals every stored text anew that another key than the first one has sealed, Fernet texts included. A text is
   * replaced only if the row still has it. Versions, leases and times stay, so a refresh, a revocation and an attempt
   * to link an account that are under way end as if nothing had happened. Rows that are locked are looked at again
   * later. Several calls may run at once, and a second call goes on where the first one ended, because it skips what is
   * done.
   *
   * A text that does not open is named in the result and stays as it is. A text that names the first key is not opened.
   *
   * As a boot does, the call first holds the key ring against the registered keys, and registers the first key if it is
   * new, because a process with an old key ring would seal every text by a key that other processes no longer have.
   *
   * @throws {@link InvalidTokenInputError} for a bad option
   * @throws {@link TokensConfigurationError} when the key ring does not fit, with every fault. No text is touched then
   */
  async reseal(options: ResealOptions = {}): Promise<ResealResult> {
    const demands = demandsOf(options);
    await this.check.run();
    return new ResealWalk(this.texts, this.sealer, demands).run();
  }

  /**
   * Marks a key as retired. From then on no process boots with the key in first place, and every process may boot
   * without it. The call counts the texts that name the key, waits until statements and transactions under way have
   * ended, and counts again.
   *
   * @throws {@link KeyInUseError} when a text names the key, with the counts, also of a key that is retired already, and
   * when a transaction that may store such a text stays open
   * @throws {@link TokensUsageError} for the key that seals in this process, a key that is retired already, a legacy
   * key, and a key that nothing names
   * @throws {@link InvalidTokenInputError} for a bad option
   */
  async retire(
    keyId: string,
    { pauseMs = 2 * this.settings.connectionTimeoutMs + 1000 }: RetireOptions = {},
  ): Promise<void> {
    if (!Number.isFinite(pauseMs) || pauseMs < 0) throw badOption('pauseMs must be a number of milliseconds');
    this.#assertNotInFirstPlace(keyId);
    const registered = await this.keys.list();
    const row = registered.find(({ id }) => id === keyId);
    if (row?.retiredAt) {
      await this.#assertUnused(keyId); // a process that is a step behind may have sealed a text since
      throw new TokensUsageError(
        `The encryption key "${keyId}" is retired already, since ${row.retiredAt.toISOString()}. Remove it from ` +
          'encryption.keys of every process.',
      );
    }
    await this.#assertUnused(keyId);
    const checkText = this.#checkTextOf(keyId, registered);
    await delay(pauseMs);
    await this.#waitForWriters(keyId, pauseMs);
    await this.#assertUnused(keyId);
    await this.keys.retire({ keyId, checkText });
  }

  #assertNotInFirstPlace(keyId: string): void {
    if (keyId === this.keyring.sealingKey.id) {
      throw new TokensUsageError(
        `The encryption key "${keyId}" is the first of encryption.keys, so it seals. Put another key first in every ` +
          'process, call reseal(), and then retire this one.',
      );
    }
    if (keyId === this.keyring.fernetKeyId) {
      throw new TokensUsageError(
        `The encryption key "${keyId}" is a legacyFernetSecret. It has never sealed here, so there is nothing to retire. ` +
          'Call reseal(), and remove the key from encryption.keys when status() counts no legacy text.',
      );
    }
  }

  /** Returns the check text of a key. A key that sealed before the table existed has no row yet. */
  #checkTextOf(keyId: string, registered: readonly RegisteredKey[]): string {
    const key = this.keyring.find(keyId);
    const checkText = registered.find(({ id }) => id === keyId)?.checkText ?? (key && sealCheckText(key));
    if (checkText !== undefined) return checkText;
    const known = new Set([...this.keyring.keyIds, ...registered.map(({ id }) => id)]);
    throw new TokensUsageError(
      `No encryption key has the id "${keyId}". Keys of this process and of the table token_keys: ${[...known].join(', ')}.`,
    );
  }

  async #assertUnused(keyId: string): Promise<void> {
    const texts = (await this.#count()).get(keyId);
    if (!texts) return;
    const counts = SEALED_TABLES.filter((table) => texts[table] > 0).map((table) => `${texts[table]} of ${table}`);
    throw new KeyInUseError(
      keyId,
      `stored texts name it: ${counts.join(', ')}`,
      'Call reseal() in a process that has this key after its first one, and make sure that no process has it in first ' +
        'place. Then retire it again',
      texts,
    );
  }

  /** Waits for the transactions that have written tokens so far or wait for a lock to do so, because the count does not see what they wrote. */
  async #waitForWriters(keyId: string, timeoutMs: number): Promise<void> {
    const deadline = performance.now() + timeoutMs;
    let pending = await this.texts.openWriters();
    while (pending.length > 0) {
      if (performance.now() >= deadline) throw stillOpen(keyId, pending);
      await delay(Math.min(LOOK_AGAIN_MS, timeoutMs));
      const open = new Set((await this.texts.openWriters()).map(({ id }) => id));
      pending = pending.filter(({ id }) => open.has(id));
    }
  }

  async #count(): Promise<Counts> {
    const counts = new Map<string | null, Record<SealedTable, number>>();
    for (const table of SEALED_TABLES) {
      for (const { keyId, texts } of await this.texts.count(table)) {
        counts.set(keyId, { ...(counts.get(keyId) ?? NO_TEXTS), [table]: texts });
      }
    }
    return counts;
  }
}

function demandsOf(options: ResealOptions): ResealDemands {
  const { batchSize = DEFAULT_BATCH_SIZE, maxRowsPerSecond = DEFAULT_ROWS_PER_SECOND, signal, onProgress } = options;
  if (!Number.isInteger(batchSize) || batchSize < 1 || batchSize > 10_000) {
    throw badOption('batchSize must be a whole number from 1 to 10,000');
  }
  if (!(maxRowsPerSecond > 0)) throw badOption('maxRowsPerSecond must be a number above 0');
  return { batchSize, maxRowsPerSecond, signal, onProgress };
}

function badOption(fault: string): InvalidTokenInputError {
  return new InvalidTokenInputError(`${fault}.`);
}

function stillOpen(keyId: string, pending: readonly OpenWriter[]): KeyInUseError {
  const oldest = pending.reduce((first, each) => (sinceOf(each) < sinceOf(first) ? each : first));
  const where = oldest.pid === null ? 'a prepared transaction' : `the transaction of server process ${oldest.pid}`;
  const since = oldest.openSince ? ` since ${oldest.openSince.toISOString()}` : '';
  return new KeyInUseError(
    keyId,
    `${where} has written tokens or waits to do so, has been open${since}, and may store a text that names the key`,
    'End the transaction, and retire the key again',
    NO_TEXTS,
  );
}

function sinceOf({ openSince }: OpenWriter): number {
  return openSince?.getTime() ?? Infinity;
}
