import { Injectable } from '@nestjs/common';
import { DataSource, type QueryRunner } from 'typeorm';

import { QueryRunnerScope } from '../postgres/query-runner-scope.js';
import { TokensUsageError } from '../tokens.errors.js';

/**
 * The statements by which TypeORM begins and ends a transaction and its levels, and by which the module looks at its
 * transaction before it commits it.
 */
const ACCEPTED =
  /^(START TRANSACTION|SET TRANSACTION ISOLATION LEVEL (READ (UN)?COMMITTED|REPEATABLE READ|SERIALIZABLE)|(RELEASE |ROLLBACK TO )?SAVEPOINT \w+|COMMIT|ROLLBACK|SELECT 1)$/;

/**
 * Returns a data source whose query runners have no database. They are TypeORM's own, so they have its members, and its
 * rules for transactions. They execute no statement, and refuse those of the host. {@link MemoryTransactions} watches them to
 * learn when a transaction ends.
 */
export function memoryDataSource(): DataSource {
  const dataSource = new DataSource({ type: 'postgres' });
  const create = dataSource.createQueryRunner.bind(dataSource);
  dataSource.createQueryRunner = (mode) => withoutDatabase(create(mode));
  return dataSource;
}

function withoutDatabase(runner: QueryRunner): QueryRunner {
  const query = async (statement: string): Promise<unknown[]> => {
    await runner.connect(); // as TypeORM does, because the first use of the runner begins the transaction of the scope
    if (ACCEPTED.test(statement)) return [];
    throw noDatabase();
  };
  Object.assign(runner, {
    // The module closes a connection through what this returns.
    connect: () => Promise.resolve({ end: () => Promise.resolve() }),
    query,
    sql: () => Promise.reject(noDatabase()),
    stream: () => Promise.reject(noDatabase()),
  });
  return Object.defineProperty(runner, 'manager', {
    get() {
      throw noDatabase();
    },
  });
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
