import { Injectable, Logger, type OnApplicationBootstrap, type OnModuleDestroy } from '@nestjs/common';

import { revokeAt } from '../identity-providers/checked-answer.js';
import type { RevocationAnswer } from '../identity-providers/identity-provider.js';
import { IdentityProviderRegistry } from '../identity-providers/identity-provider.registry.js';
import { LEASE_MARGIN_MS } from '../identity-providers/refresh-policy.js';
import { TokenKeyRegistry } from '../key-rotation/token-key-registry.js';
import { logTextOf } from '../postgres/driver-error.js';
import { QueryRunnerScope } from '../postgres/query-runner-scope.js';
import { RefreshDrain } from '../refresh/refresh-drain.js';
import { TokenCipher } from '../sealing/token-cipher.js';
import { authTokenLocation } from '../storage/token-locations.js';
import type { ClaimedRevocation } from '../storage/token-revocations/token-revocations.statements.js';
import { TokenRevocationsTable } from '../storage/token-revocations/token-revocations.table.js';
import { accountInWords } from '../token-key.js';
import { within } from '../within.js';

const POLL_INTERVAL_MS = 10_000;
/** The largest number of pairs that one provider gets from this process at a time. */
const BATCH = 20;
/**
 * With a backoff of up to an hour these attempts take most of a day. After the last one the tokens are left to expire.
 */
const MAX_ATTEMPTS = 24;
/** The pause after the first failure of a statement on the outbox, in milliseconds. Later ones wait for the interval. */
const RETRY_PAUSE_MS = 1000;
/** The codes by which providers refuse tokens that have ended already. */
const ENDED_ALREADY = new Set(['invalid_request', 'invalid_token', 'invalid_grant', 'http_400']);

/**
 * Revokes deleted pairs at their providers, from the outbox table, in every process that runs the module. One process
 * at a time takes a pair up and sends its revocation. After a backoff a process takes the pair up again, until the
 * provider has answered, 24 times at most. No caller waits for a provider. A process sends the revocations of a batch
 * at the same time. The next batch of a provider waits for the answers to its last one, at most until the deadline of
 * the requests. No provider waits for another one.
 */
@Injectable()
export class TokenRevoker implements OnApplicationBootstrap, OnModuleDestroy {
  readonly #logger = new Logger(TokenRevoker.name);
  /** The providers that have a batch under way. */
  readonly #busy = new Set<string>();
  #timer: NodeJS.Timeout | undefined;
  #isClaiming = false;
  #isWoken = false;
  /** Whether a statement has failed since the last one that did not. */
  #hasFailed = false;

  constructor(
    private readonly revocations: TokenRevocationsTable,
    private readonly providers: IdentityProviderRegistry,
    private readonly cipher: TokenCipher,
    private readonly drain: RefreshDrain,
    private readonly scope: QueryRunnerScope,
    private readonly keys: TokenKeyRegistry,
  ) {}

  /** Begins after the check of the keys, because a process with other keys takes pairs up that it cannot revoke. */
  async onApplicationBootstrap(): Promise<void> {
    await this.keys.whenChecked();
    if (!this.drain.mayStart()) return;
    this.revocations.whenAdded(() => {
      this.wake();
    });
    this.#timer = setInterval(() => {
      this.wake();
    }, POLL_INTERVAL_MS);
    this.#timer.unref();
  }

  /**
   * Looks at the outbox when the surrounding transaction is committed, and at once outside of a transaction. In a
   * transaction of the host it also looks at once, and the next interval finds the pair.
   */
  wakeAfterCommit(): void {
    this.scope.afterCommit(() => {
      this.scope.detached(() => {
        this.wake();
      });
    });
  }

  /** Looks at the outbox now, not at the next interval. Returns at once. */
  wake(): void {
    if (!this.drain.mayStart()) return;
    this.#isWoken = true;
    if (!this.#isClaiming) this.drain.track(this.#claimAll());
  }

  /**
   * Stops the timer. {@link RefreshDrain} waits for requests under way. Another process, or the next start, sends the
   * other revocations.
   */
  onModuleDestroy(): void {
    clearInterval(this.#timer);
  }

  /** Takes up what is due, until no more is due at a provider without a batch under way. Never rejects. */
  async #claimAll(): Promise<void> {
    this.#isClaiming = true;
    try {
      // A pair that is noted while a statement is under way wakes the revoker again, because the statement may not see
      // the pair.
      while (this.#isWoken) {
        this.#isWoken = false;
        const { revocable } = this.providers;
        const claimed = await this.revocations.claim({ revocable, busy: [...this.#busy], limit: BATCH });
        this.#hasFailed = false;
        if (!this.drain.mayStart()) return; // another process takes the pairs up after their backoff
        for (const idp of new Set(claimed.map((each) => each.idp))) {
          this.drain.track(
            this.#revokeAll(
              idp,
              claimed.filter((each) => each.idp === idp),
            ),
          );
        }
        if (claimed.length === BATCH) this.#isWoken = true;
      }
    } catch (error) {
      this.#tryAgain(error);
    } finally {
      this.#isClaiming = false;
    }
  }

  /** Sends the revocations of one provider, and looks for its next ones. Never rejects. */
  async #revokeAll(idp: string, batch: readonly ClaimedRevocation[]): Promise<void> {
    this.#busy.add(idp);
    const ends = await Promise.allSettled(batch.map((revocation) => this.#revoke(revocation)));
    this.#busy.delete(idp);
    const failed = ends.find((end) => end.status === 'rejected');
    if (failed) this.#tryAgain(failed.reason);
    else this.wake();
  }

  #tryAgain(error: unknown): void {
    this.#logger.warn(`The module could not process the outbox of revocations and tries again: ${logTextOf(error)}`);
    if (this.#hasFailed) return;
    this.#hasFailed = true;
    setTimeout(() => {
      this.wake();
    }, RETRY_PAUSE_MS).unref();
  }

  async #revoke(revocation: ClaimedRevocation): Promise<void> {
    const { id, keycloakUserId, idp, attempts } = revocation;
    const answer = await this.#ask(revocation);
    if (answer.kind === 'revoked') {
      await this.revocations.remove(id);
      return;
    }
    const subject = `The tokens of user "${keycloakUserId}" at "${idp}"${accountInWords(revocation)}`;
    if (answer.kind === 'refused' && ENDED_ALREADY.has(answer.code)) {
      // Level `log`: at some providers this is the usual answer to a spent pair, and nothing is wrong then.
      this.#logger.log(`${subject}: the provider refused the revocation (${answer.code}), as for ended tokens.`);
      await this.revocations.remove(id);
      return;
    }
    if (answer.kind === 'refused' || attempts >= MAX_ATTEMPTS) {
      this.#logger.error(`${subject} are not revoked (${answer.code}) and stay valid until they expire.`);
      await this.revocations.remove(id);
      return;
    }
    this.#logger.warn(`${subject} are not revoked yet (${answer.code}).`);
    await this.revocations.postpone(id, answer.code, answer.retryAfterMs);
  }

  async #ask(revocation: ClaimedRevocation): Promise<RevocationAnswer> {
    const provider = this.providers.find(revocation.idp);
    const revoke = provider?.revoke?.bind(provider);
    if (!provider || !revoke) return { kind: 'refused', code: 'NOT_SUPPORTED' };
    // The provider would refuse the revocation by another client. Or it would not know the tokens for that client, and
    // answer as if it had revoked them.
    const isOthers =
      revocation.clientId !== null && provider.clientId !== undefined && revocation.clientId !== provider.clientId;
    if (isOthers) return { kind: 'unavailable', code: 'OTHER_CLIENT' };
    try {
      const refreshToken = revocation.refreshToken;
      const answer = revokeAt(revoke, {
        accessToken: this.cipher.open(revocation.accessToken, authTokenLocation(revocation, 'access_token')),
        refreshToken: refreshToken && this.cipher.open(refreshToken, authTokenLocation(revocation, 'refresh_token')),
      });
      const timeout: RevocationAnswer = { kind: 'unavailable', code: 'TIMEOUT' };
      const timeoutMs = provider.policy.exchangeTimeoutMs + LEASE_MARGIN_MS;
      return await within(answer, timeoutMs, () => timeout);
    } catch {
      // The next deployment can bring back an unknown key.
      return { kind: 'unavailable', code: 'NOT_SENT' };
    }
  }
}
