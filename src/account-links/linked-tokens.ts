import { setTimeout as delay } from 'node:timers/promises';

import { Injectable, Logger } from '@nestjs/common';

import type { CodeFlow } from '../identity-providers/code-flow.js';
import type { IssuedTokens } from '../identity-providers/identity-provider.js';
import { IdentityProviderRegistry } from '../identity-providers/identity-provider.registry.js';
import { randomId } from '../postgres/random-id.js';
import { RefreshDrain } from '../refresh/refresh-drain.js';
import { TokenCipher } from '../sealing/token-cipher.js';
import type { LinkOutcome } from '../storage/auth-tokens/auth-tokens-link.statements.js';
import { AuthTokensTable } from '../storage/auth-tokens/auth-tokens.table.js';
import type { StoredAttempt } from '../storage/link-attempts/link-attempts.statements.js';
import { authTokenLocation } from '../storage/token-locations.js';
import { TokenRevocationsTable } from '../storage/token-revocations/token-revocations.table.js';
import { TokenRevoker } from '../token-manager/token-revoker.js';
import { TokenStoreUnavailableError } from '../tokens.errors.js';
import type { AccountFinding } from './account-of-tokens.js';

/** Tokens that a provider issued for a code, and the attempt that they belong to. */
export interface NewLink {
  readonly attempt: StoredAttempt;
  readonly flow: CodeFlow;
  readonly tokens: IssuedTokens;
  /** The scopes of the tokens, sorted; null if they are not known. */
  readonly scopes: readonly string[] | null;
  /** When the module sent the code, in epoch seconds of the database. */
  readonly sentAt: number;
}

/** How long a store is tried again while PostgreSQL does not answer, in milliseconds, and the pause between two tries. */
const STORED_WITHIN_MS = 10_000;
const PAUSE_MS = 250;

/** Stores the tokens of new links, and hands those that must not be stored to the outbox of revocations. */
@Injectable()
export class LinkedTokens {
  readonly #logger = new Logger(LinkedTokens.name);

  constructor(
    private readonly table: AuthTokensTable,
    private readonly revocations: TokenRevocationsTable,
    private readonly providers: IdentityProviderRegistry,
    private readonly cipher: TokenCipher,
    private readonly drain: RefreshDrain,
    private readonly revoker: TokenRevoker,
  ) {}

  /**
   * Stores the tokens, unless another account is connected that the attempt may not replace, or may be. If it replaces
   * one, the old tokens are handed to the outbox. Tries again for ten seconds while PostgreSQL does not answer, because
   * the provider issues the tokens only once. If PostgreSQL refuses them for good, they are revoked.
   *
   * @throws {@link TokenStoreUnavailableError} when PostgreSQL does not store them. They are lost then
   */
  async store(link: NewLink, finding: AccountFinding): Promise<LinkOutcome> {
    try {
      return await this.#store(link, finding);
    } catch (error) {
      if (error instanceof TokenStoreUnavailableError && !error.retryable)
        await this.revokeUnlessConnected(link, finding);
      throw error;
    }
  }

  /**
   * Like {@link LinkedTokens.revoke}, but leaves tokens alone that are, or may be, of an account that the user has
   * connected under any name. A revocation can end all tokens of an account, also the stored ones. Never rejects.
   */
  async revokeUnlessConnected(link: NewLink, { account }: AccountFinding): Promise<void> {
    const { keycloakUserId, idp } = link.attempt;
    try {
      const connections = await this.table.connectionsOf(keycloakUserId);
      const ofProvider = connections.filter((each) => each.idp === idp);
      if (ofProvider.some(({ subject }) => !account || subject === account.subject)) return;
    } catch (error) {
      this.#logger.error(
        `New tokens of user "${keycloakUserId}" at "${idp}" are neither stored nor revoked, because the connections of ` +
          `the user cannot be read (${stateOf(error)}). They stay valid until they expire.`,
      );
      return;
    }
    await this.revoke(link);
  }

  async #store(link: NewLink, { account, failure }: AccountFinding): Promise<LinkOutcome> {
    const { attempt, scopes } = link;
    const pair = {
      ...this.#seal(link),
      scopes: scopes && scopes.join(' '),
      ...{ subject: account?.subject ?? null, accountName: account?.name ?? null },
      ...{ isUntold: failure !== undefined, clientId: link.flow.clientId, version: randomId() },
      replacesAccount: attempt.replacesAccount,
      isRevocable: this.providers.find(attempt.idp)?.revoke !== undefined,
    };
    const { keycloakUserId, idp, account: name } = attempt;
    const deadline = performance.now() + STORED_WITHIN_MS;
    for (;;) {
      try {
        const outcome = await this.table.link({ keycloakUserId, idp, account: name }, pair);
        if (outcome === 'stored' && pair.replacesAccount) this.revoker.wakeAfterCommit();
        return outcome;
      } catch (error) {
        const mayTryAgain = error instanceof TokenStoreUnavailableError && error.retryable && !this.drain.isOver;
        if (!mayTryAgain || performance.now() >= deadline) throw error;
        await delay(PAUSE_MS);
      }
    }
  }

  /** Hands tokens that must not be stored to the outbox, if the provider can revoke them. Never rejects. */
  async revoke(link: NewLink): Promise<void> {
    const { keycloakUserId, idp, account } = link.attempt;
    if (!this.providers.find(idp)?.revoke) return;
    try {
      const { accessToken, refreshToken } = this.#seal(link);
      const { clientId } = link.flow;
      await this.revocations.add({ keycloakUserId, idp, account, clientId, accessToken, refreshToken });
    } catch (error) {
      this.#logger.error(
        `New tokens of user "${keycloakUserId}" at "${idp}" are neither stored nor revoked, because the outbox cannot ` +
          `be written (${stateOf(error)}). ` +
          'They stay valid until they expire.',
      );
    }
  }

  #seal({ attempt, tokens, sentAt }: NewLink) {
    const { accessToken, refreshToken, accessTokenExpiresIn, refreshTokenExpiresIn } = tokens;
    return {
      accessToken: this.cipher.seal(accessToken, authTokenLocation(attempt, 'access_token')),
      refreshToken: refreshToken
        ? this.cipher.seal(refreshToken, authTokenLocation(attempt, 'refresh_token'))
        : ('' as const),
      accessTokenExpiresAt: accessTokenExpiresIn ? sentAt + accessTokenExpiresIn : 0,
      refreshTokenExpiresAt: refreshTokenExpiresIn ? sentAt + refreshTokenExpiresIn : 0,
    };
  }
}

function stateOf(error: unknown): string {
  return error instanceof TokenStoreUnavailableError ? (error.sqlState ?? error.code) : 'UNKNOWN';
}
