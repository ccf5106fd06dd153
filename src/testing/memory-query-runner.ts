import { Injectable } from '@nestjs/common';
import { type DataSource, type QueryRunner, TransactionNotStartedError } from 'typeorm';

import { QueryRunnerScope } from '../postgres/query-runner-scope.js';
import { TokensUsageError } from '../tokens.errors.js';

/** The statement by which the module looks at its transaction before it commits it. */
const LIVENESS = 'SELECT 1';

/**
 * A query runner without a database. It counts the levels of its transaction and accepts no SQL. {@link MemoryRows}
 * watches it to learn when the transaction ends.
 */
class MemoryQueryRunner {
  isReleased = false;
  #depth = 0;

  constructor(readonly dataSource: DataSource) {}

  get isTransactionActive(): boolean {
    return this.#depth > 0;
  }

  get manager(): never {
    throw noDatabase();
  }

  /** The module closes a connection through what this returns. */
  connect(): Promise<object> {
    return Promise.resolve({ end: () => Promise.resolve() });
  }

  async startTransaction(): Promise<void> {
    await this.connect(); // as TypeORM does, because the first use of the runner begins the transaction of the scope
    this.#depth++;
  }

  commitTransaction(): Promise<void> {
    return this.#endLevel();
  }

  rollbackTransaction(): Promise<void> {
    return this.#endLevel();
  }

  release(): Promise<void> {
    this.isReleased = true;
    return Promise.resolve();
  }

  async query(statement: string): Promise<unknown[]> {
    await this.connect();
    if (statement === LIVENESS) return [];
    throw noDatabase();
  }

  sql(): Promise<never> {
    return Promise.reject(noDatabase());
  }

  stream(): Promise<never> {
    return Promise.reject(noDatabase());
  }

  #endLevel(): Promise<void> {
    if (this.#depth === 0) return Promise.reject(new TransactionNotStartedError());
    this.#depth--;
    return Promise.resolve();
  }
}

/** Returns a data source whose query runners have no database. The module asks it for nothing else. */
export function memoryDataSource(): DataSource {
  const dataSource = {
    options: {},
    isInitialized: false,
    createQueryRunner: (): QueryRunner => new MemoryQueryRunner(memory) as unknown as QueryRunner,
  };
  const memory = dataSource as unknown as DataSource;
  return memory;
}

/** The scope of tokens in memory. It joins runners of every data source, because the memory belongs to none. */
@Injectable()
export class MemoryQueryRunnerScope extends QueryRunnerScope {
  protected override mayJoin(): boolean {
    return true;
  }
}

function noDatabase(): TokensUsageError {
  return new TokensUsageError(
    'The query runner of TokensTestingModule has no database, so it executes no SQL. Join a runner of your own by ' +
      'QueryRunnerScope.join, or test this code with TokensModule on PostgreSQL.',
  );
}
