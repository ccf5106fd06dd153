import { Injectable } from '@nestjs/common';

import { QueryRunnerScope } from '../postgres/query-runner-scope.js';
import type { Revocation } from '../storage/token-revocations/token-revocations.statements.js';
import type { TokenRevocationsTable } from '../storage/token-revocations/token-revocations.table.js';
import { MemoryRows } from './memory-rows.js';

/** The table `token_revocations` in memory. No process takes its pairs up, because there is no provider. */
@Injectable()
export class MemoryTokenRevocationsTable implements Pick<TokenRevocationsTable, 'add'> {
  readonly #rows: MemoryRows<Revocation>;
  #ids = 0;

  constructor(scope: QueryRunnerScope) {
    this.#rows = new MemoryRows(scope);
  }

  /** The committed pairs, in the order of their deletion. */
  get committed(): readonly Revocation[] {
    return [...this.#rows.committed.values()];
  }

  async add(pair: Revocation): Promise<void> {
    await this.#rows.write(String(++this.#ids), () => pair);
  }
}
