import { Logger } from '@nestjs/common';

import { sqlStateOf } from './driver-error.js';

const PLAN_CHANGED = '0A000';
/** A plan that is gone once was deallocated by the host; one that goes again and again is lost by a pooler. */
export const MOST_LOSSES = 3;

/**
 * The names under which statements are prepared. A connection keeps a plan under its name for as long as it lives, also
 * one that no longer fits its table after an `ALTER TABLE`, so a plan that failed gets another name on all of them.
 */
export class PreparedNames {
  readonly #logger = new Logger(PreparedNames.name);
  readonly #generations = new Map<string, number>();
  readonly #losses = new Map<string, number>();

  constructor(private isPreparing: boolean) {}

  /** The name to prepare a statement under now; undefined when statements are not prepared. */
  of(statement: string): string | undefined {
    if (!this.isPreparing) return undefined;
    const generation = this.#generations.size === 0 ? undefined : this.#generations.get(statement);
    return generation === undefined ? statement : `${statement}_${generation}`;
  }

  /** Gives a statement another name after the server refused its plan, once for all who used `failed`. */
  replace(statement: string, failed: string | undefined, error: unknown): void {
    if (failed === undefined || this.of(statement) !== failed) return;
    this.#generations.set(statement, (this.#generations.get(statement) ?? 1) + 1);
    if (sqlStateOf(error) === PLAN_CHANGED) return;
    // Of each statement: the host deallocates all of them at once.
    const losses = (this.#losses.get(statement) ?? 0) + 1;
    this.#losses.set(statement, losses);
    if (losses < MOST_LOSSES) return;
    this.isPreparing = false;
    this.#logger.warn(
      'Prepared statements are lost between two queries, as by a connection pooler in transaction mode. From now on they ' +
        'are not prepared: set preparedStatements to false, or let the pooler keep them.',
    );
  }
}
