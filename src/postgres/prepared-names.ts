import { Logger } from '@nestjs/common';

import { sqlStateOf } from './driver-error.js';

const PLAN_CHANGED = '0A000';
/**
 * After so many losses of the plan of one statement, the module prepares no statement any more. A plan that is lost
 * once was deallocated by the host. A pooler loses a plan again and again.
 */
export const MOST_LOSSES = 3;

/**
 * The names under which the module prepares statements. A connection keeps a plan under its name until the connection
 * ends, also a plan that does not fit its table after an `ALTER TABLE`. So a statement whose plan failed gets another
 * name on all connections.
 */
export class PreparedNames {
  readonly #logger = new Logger(PreparedNames.name);
  readonly #generations = new Map<string, number>();
  readonly #losses = new Map<string, number>();

  constructor(private isPreparing: boolean) {}

  /** Returns the present name of a statement, or undefined if the module does not prepare statements. */
  of(statement: string): string | undefined {
    if (!this.isPreparing) return undefined;
    const generation = this.#generations.size === 0 ? undefined : this.#generations.get(statement);
    return generation === undefined ? statement : `${statement}_${generation}`;
  }

  /**
   * Gives a statement another name after the server refused its plan. Callers that used the same `failed` name get the
   * same new name.
   */
  replace(statement: string, failed: string | undefined, error: unknown): void {
    if (failed === undefined || this.of(statement) !== failed) return;
    this.#generations.set(statement, (this.#generations.get(statement) ?? 1) + 1);
    if (sqlStateOf(error) === PLAN_CHANGED) return;
    // Counted for each statement, because the host deallocates all statements at once.
    const losses = (this.#losses.get(statement) ?? 0) + 1;
    this.#losses.set(statement, losses);
    if (losses < MOST_LOSSES) return;
    this.isPreparing = false;
    this.#logger.warn(
      'Prepared statements are lost between two queries, for example by a connection pooler in transaction mode. From ' +
        'now on the module prepares no statements. Set preparedStatements to false, or let the pooler keep them.',
    );
  }
}
