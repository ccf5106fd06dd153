import { Injectable } from '@nestjs/common';

import type {
  ClaimedRevocation,
  PendingTokens,
  Revocation,
  RevocationClaim,
} from '../storage/token-revocations/token-revocations.statements.js';
import type { TokenRevocationsTable } from '../storage/token-revocations/token-revocations.table.js';
import { type AccountKey, keyName } from '../token-key.js';
import { MemoryRows } from './memory-rows.js';
import { MemoryTransactions } from './memory-transactions.js';

const FIRST_BACKOFF_MS = 30_000;
const LONGEST_BACKOFF_MS = 3_600_000;
const GIVEN_UP_AFTER_MS = 30 * 24 * 3_600_000;

/** A pair with the times of its revocation, in epoch milliseconds. */
interface NotedRevocation {
  readonly revocation: ClaimedRevocation;
  readonly createdAt: number;
  readonly nextAttemptAt: number;
}

/**
 * The table `token_revocations` in memory. Each method has the effect of the method of its name in {@link
 * TokenRevocationsTable}. The module itself takes no pair up, because there is no provider.
 */
@Injectable()
export class MemoryTokenRevocationsTable implements Pick<TokenRevocationsTable, keyof TokenRevocationsTable> {
  readonly #rows: MemoryRows<NotedRevocation>;
  #ids = 0;
  #added: () => void = () => undefined;

  constructor(transactions: MemoryTransactions) {
    this.#rows = new MemoryRows(transactions);
  }

  /** The committed pairs, in the order in which they were added. */
  get committed(): readonly Revocation[] {
    return [...this.#rows.committed.values()].map(({ revocation }) => revocation);
  }

  async add(pair: Revocation): Promise<void> {
    const id = String(++this.#ids);
    const now = Date.now();
    await this.#rows.write(id, () => ({
      revocation: { ...pair, id, attempts: 0 },
      createdAt: now,
      nextAttemptAt: now,
    }));
    this.#added();
  }

  whenAdded(listener: () => void): void {
    this.#added = listener;
  }

  async claim({ revocable, busy, limit }: RevocationClaim): Promise<ClaimedRevocation[]> {
    const now = Date.now();
    const isDue = ({ revocation: { idp }, createdAt, nextAttemptAt }: NotedRevocation) =>
      nextAttemptAt <= now && (revocable.includes(idp) || createdAt < now - GIVEN_UP_AFTER_MS) && !busy.includes(idp);
    const due = [...this.#rows.committed.values()]
      .filter(isDue)
      .sort((one, other) => one.nextAttemptAt - other.nextAttemptAt)
      .slice(0, limit);
    const claimed: ClaimedRevocation[] = [];
    for (const { revocation } of due) {
      await this.#rows.writeDetached(revocation.id, (noted) => {
        if (!noted || !isDue(noted)) return noted; // another claim has taken it up meanwhile
        const { attempts } = noted.revocation;
        const taken = { ...noted.revocation, attempts: attempts + 1 };
        claimed.push(taken);
        const backoffMs = Math.min(FIRST_BACKOFF_MS * 2 ** attempts, LONGEST_BACKOFF_MS);
        return { ...noted, revocation: taken, nextAttemptAt: now + backoffMs };
      });
    }
    return claimed;
  }

  async postpone(id: string, _errorCode: string, delayMs = 0): Promise<void> {
    const nextAttemptAt = Date.now() + delayMs;
    await this.#rows.writeDetached(
      id,
      (noted) => noted && { ...noted, nextAttemptAt: Math.max(noted.nextAttemptAt, nextAttemptAt) },
    );
  }

  async remove(id: string): Promise<void> {
    await this.#rows.writeDetached(id, () => undefined);
  }

  async findPending(key: AccountKey): Promise<PendingTokens[]> {
    const pending = (await this.#rows.findAll())
      .map(({ revocation }) => revocation)
      .filter((each) => keyName(each) === keyName(key));
    return pending.map(({ accessToken, refreshToken }) => ({ accessToken, refreshToken }));
  }
}
