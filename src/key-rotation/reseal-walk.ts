import { setImmediate as turn, setTimeout as delay } from 'node:timers/promises';

import { sqlStateOf } from '../postgres/driver-error.js';
import type { TextsOfRow } from '../storage/sealed-texts/sealed-texts.statements.js';
import { SEALED_TABLES, type SealedTable, type SealedTextsTable } from '../storage/sealed-texts/sealed-texts.table.js';
import type { TextSealer, UnreadableText } from './text-sealer.js';

/** How far a reseal is in one table. */
export interface ResealProgress {
  readonly table: SealedTable;
  /** The rows of this table that it has looked at. */
  readonly done: number;
  /** About how many rows the table has; null if PostgreSQL does not know, as before the first ANALYZE. */
  readonly estimated: number | null;
}

/** What a reseal did. */
export interface ResealResult {
  /** Rows whose texts it has sealed anew. */
  readonly resealed: number;
  /** Rows that needed nothing, because the first key has sealed their texts. */
  readonly unchanged: number;
  /** The texts that do not open. They are as they were. */
  readonly unreadable: readonly UnreadableText[];
  /**
   * Whether it has looked at every row. False if the signal ended it, or if a transaction of the host had rows locked
   * for too long. Call it again then.
   */
  readonly isComplete: boolean;
}

/** How many rows one statement reads and writes, unless the caller says otherwise. */
export const DEFAULT_BATCH_SIZE = 500;
/** How many rows get new texts in a second at most. It leaves readers most of a machine with two cores. */
export const DEFAULT_ROWS_PER_SECOND = 6000;

/** The demands of a caller, with the defaults. */
export interface ResealDemands {
  readonly batchSize: number;
  readonly maxRowsPerSecond: number;
  readonly signal: AbortSignal | undefined;
  readonly onProgress: ((progress: ResealProgress) => void) | undefined;
}

/** After so many rows other work of the process gets its turn. Sealing is synchronous, and takes some 20 µs a text. */
const ROWS_OF_A_TURN = 32;
/** The pauses before the looks at rows that were locked. They double from 10 ms to this one, 1.3 s in all. */
const LONGEST_LOCK_PAUSE_MS = 640;
/** The SQLSTATE class of conflicts between transactions. They occur if the host has set a higher isolation level. */
const CONFLICTS = '40';

/**
 * One walk over the rows of all tables, by their primary keys. It seals the texts of other keys anew. It holds no lock
 * between two statements and waits for none, so several walks may run at once, in one process or in several.
 */
export class ResealWalk {
  #resealed = 0;
  #unchanged = 0;
  #isComplete = true;
  #nextBatchAt: number | undefined;
  readonly #unreadable = new Map<string, UnreadableText>();

  constructor(
    private readonly texts: SealedTextsTable,
    private readonly sealer: TextSealer,
    private readonly demands: ResealDemands,
  ) {}

  /** @throws {@link TokenStoreUnavailableError} when PostgreSQL does not execute a statement; a new walk goes on */
  async run(): Promise<ResealResult> {
    for (const table of SEALED_TABLES) await this.#walk(table);
    return {
      resealed: this.#resealed,
      unchanged: this.#unchanged,
      unreadable: [...this.#unreadable.values()],
      isComplete: this.#isComplete,
    };
  }

  async #walk(table: SealedTable): Promise<void> {
    const { batchSize: limit, onProgress } = this.demands;
    const { sealedPrefix } = this.sealer;
    const estimated = this.#isEnded() || !onProgress ? null : await this.texts.estimate(table);
    const left: string[] = [];
    let done = 0;
    for (let after: string | null = null; !this.#isEnded();) {
      const rows: TextsOfRow[] = await this.texts.page(table, { after, limit, sealedPrefix });
      left.push(...(await this.#sealAll(table, rows)));
      done += rows.length;
      if (rows.length > 0) onProgress?.({ table, done, estimated: estimated && Math.max(estimated, done) });
      const last = rows.at(-1);
      if (!last || rows.length < limit) break;
      after = last.id;
      await this.#pause((this.#nextBatchAt ?? 0) - performance.now());
    }
    await this.#lookAgain(table, left);
  }

  /** Looks at the rows again that other statements had locked or were writing. */
  async #lookAgain(table: SealedTable, rows: readonly string[]): Promise<void> {
    let left = rows;
    for (let pauseMs = 10; left.length > 0 && pauseMs <= LONGEST_LOCK_PAUSE_MS; pauseMs *= 2) {
      await this.#pause(pauseMs);
      const still: string[] = [];
      for (let start = 0; start < left.length && !this.#isEnded(); start += this.demands.batchSize) {
        const ids = left.slice(start, start + this.demands.batchSize);
        still.push(...(await this.#sealAll(table, await this.texts.look(table, ids, this.sealer.sealedPrefix))));
      }
      left = still;
    }
    if (left.length > 0) this.#isComplete = false;
  }

  /** Seals the texts of rows anew. Returns the rows that still have an old text. */
  async #sealAll(table: SealedTable, rows: readonly TextsOfRow[]): Promise<string[]> {
    const changes = [];
    for (const [position, row] of rows.entries()) {
      if (position % ROWS_OF_A_TURN === ROWS_OF_A_TURN - 1) await turn();
      const { toReplace, unreadable } = this.sealer.seal(table, row);
      for (const each of unreadable) this.#unreadable.set(`${table} ${each.column} ${each.id}`, each);
      if (toReplace) changes.push(toReplace);
      else if (unreadable.length === 0) this.#unchanged++;
    }
    if (changes.length === 0) return [];
    const now = performance.now();
    const shareMs = (changes.length / this.demands.maxRowsPerSecond) * 1000;
    // A batch may begin so much too early as the one before it was late.
    this.#nextBatchAt = Math.max(this.#nextBatchAt ?? now, now - shareMs) + shareMs;
    const replaced = await this.texts.replace(table, changes).catch((error: unknown) => {
      if (sqlStateOf(error)?.startsWith(CONFLICTS)) return new Set<string>();
      throw error;
    });
    this.#resealed += replaced.size;
    return changes.map(({ id }) => id).filter((id) => !replaced.has(id));
  }

  #isEnded(): boolean {
    const isEnded = this.demands.signal?.aborted === true;
    if (isEnded) this.#isComplete = false;
    return isEnded;
  }

  /** Waits, or returns at once when the signal ends the walk. */
  async #pause(milliseconds: number): Promise<void> {
    if (milliseconds > 0) await delay(milliseconds, undefined, { signal: this.demands.signal }).catch(() => undefined);
  }
}
