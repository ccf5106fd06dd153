import { Injectable, Logger } from '@nestjs/common';

import { isScope } from '../identity-providers/code-flow.options.js';
import { IdentityProviderRegistry } from '../identity-providers/identity-provider.registry.js';
import { LinkRefusedError, ProviderUnavailableError } from '../link.errors.js';
import { QueryRunnerScope } from '../postgres/query-runner-scope.js';
import { RefreshDrain } from '../refresh/refresh-drain.js';
import { MAX_SCOPES_LENGTH, scopeList } from '../scopes.js';
import { TokenCipher } from '../sealing/token-cipher.js';
import type { AccountConnection } from '../storage/auth-tokens/auth-tokens-link.statements.js';
import { AuthTokensTable } from '../storage/auth-tokens/auth-tokens.table.js';
import type { StoredAttempt } from '../storage/link-attempts/link-attempts.statements.js';
import { LinkAttemptsTable } from '../storage/link-attempts/link-attempts.table.js';
import { codeVerifierLocation } from '../storage/token-locations.js';
import { checkKey, checkUserId } from '../token-input.js';
import { TokenManager } from '../token-manager/token-manager.js';
import { InvalidTokenInputError, TokenDecryptionError } from '../tokens.errors.js';
import { AccountLinksSettings } from './account-links.options.js';
import { type AccountFinding, accountOf } from './account-of-tokens.js';
import { authorizationUrl, isOpenId } from './authorization-request.js';
import { checkedAnswer, type LinkCallback, parametersOf, stateIn } from './callback.js';
import { exchangeCode } from './code-exchange.js';
import { flowOf, serverOf } from './flow-of-provider.js';
import { checkedClaims } from './id-token.js';
import { asksForAll, grantedScopes } from './link-scopes.js';
import { hashOf, newSecret, nonceOf } from './link-secrets.js';
import { LinkedTokens, type NewLink } from './linked-tokens.js';
import { checkReturnTo } from './return-to.js';

/** How long an attempt can be finished, in seconds. */
const ATTEMPT_LIFETIME_SECONDS = 600;
/** How many open attempts one user has at most. The oldest ones end first. */
const ATTEMPTS_OF_USER = 20;

/** Options of {@link AccountLinks.begin}. */
export interface BeginLinkOptions {
  /** Scopes to ask for, in addition to those of the entry and to those that the connected account has. */
  readonly scopes?: readonly string[] | undefined;
  /** Where the host sends the browser at the end: a path of the host, or a URL of `accountLinks.allowedReturnTo`. */
  readonly returnTo?: string | undefined;
  /** The name of the host for the account. Default: the default account. */
  readonly account?: string | undefined;
  /** Whether another account at the provider may replace the connected one, whose tokens are then revoked. */
  readonly replaceAccount?: boolean | undefined;
}

/** What {@link AccountLinks.begin} returns. */
export interface LinkAuthorization {
  /** The URL at the provider that the browser of the user opens. */
  readonly authorizationUrl: string;
  /** Until when the attempt can be finished. */
  readonly expiresAt: Date;
}

/** What {@link AccountLinks.finish} returns. */
export interface LinkedAccount {
  readonly idp: string;
  /** The name of the host for the account; empty for the default account. */
  readonly account: string;
  /** The scopes of the tokens, sorted; null if they are not known. */
  readonly scopes: readonly string[] | null;
  /** The id of the account at the provider; null if it is not known. */
  readonly subject: string | null;
  /** The name of the account at the provider, a text that its user may have chosen; null if it is not known. */
  readonly name: string | null;
  /** Where the host sends the browser; null if {@link AccountLinks.begin} got no `returnTo`. */
  readonly returnTo: string | null;
}

/**
 * Connects the accounts of users at identity providers by the authorization code flow, with state, PKCE, nonce and the
 * checks of RFC 9700. A singleton; every method may be called concurrently, in any process.
 *
 * `begin` and `finish` run outside of every transaction, because the provider does not roll back. All methods throw
 * {@link InvalidTokenInputError} for arguments that cannot be stored, and {@link TokenStoreUnavailableError} when
 * PostgreSQL does not execute a statement.
 *
 * @see RFC 6749 section 4.1, RFC 7636, RFC 9207, RFC 9700
 */
@Injectable()
export class AccountLinks {
  readonly #logger = new Logger(AccountLinks.name);

  constructor(
    private readonly settings: AccountLinksSettings,
    private readonly providers: IdentityProviderRegistry,
    private readonly attempts: LinkAttemptsTable,
    private readonly table: AuthTokensTable,
    private readonly linked: LinkedTokens,
    private readonly manager: TokenManager,
    private readonly cipher: TokenCipher,
    private readonly scope: QueryRunnerScope,
    private readonly drain: RefreshDrain,
  ) {}

  /**
   * Begins to link an account, and returns the URL for the browser of the user. It asks for the scopes of the entry, for
   * those that the connected account has, and for `scopes`. The attempt can be finished once, within ten minutes, by the
   * same user. A user has at most twenty open attempts, and a new one ends the oldest.
   *
   * @throws {@link InvalidTokenInputError} for a `returnTo` that could lead to another host, and for a bad scope
   * @throws {@link UnsupportedProviderError} when the provider is not configured
   * @throws {@link TokensConfigurationError} when its entry has no `redirectUri`, or the module does not know an endpoint
   * @throws {@link ProviderUnavailableError} when the provider does not name its endpoints, or takes no pushed request
   * @throws {@link ProviderMisconfiguredError} when the provider refuses this application
   * @throws {@link LinkRefusedError} when the provider does not accept the scopes of a pushed request
   */
  begin(userId: string, idp: string, options: BeginLinkOptions = {}): Promise<LinkAuthorization> {
    return this.scope.detached(() => this.#begin(userId, idp, options));
  }

  /**
   * Finishes the attempt to which the provider's answer belongs, and stores the tokens. Of several calls with one answer
   * only one goes on. The user must be the one who began. If it is another one, the module sends nothing to the provider,
   * and the attempt stays open for the user who began.
   *
   * The module sends the code once, within the deadline of the provider. What the provider issued is stored also if the
   * question for the account fails, unless a known account is connected, because the new one could be another. It is
   * revoked if the ID token is wrong, or if the account is another one than the connected one and the user has not
   * connected it under another name. If the process ends between the provider's answer and the store, the tokens are
   * lost, and the user links the account again.
   *
   * @param callback the URL to which the provider sent the browser, or its query
   * @param expected the provider whose redirect URI got the answer, if the host knows it
   * @throws {@link LinkRefusedError} whose `reason` says why nothing was stored
   * @throws {@link ProviderUnavailableError} when the provider gives no usable answer. The attempt is over
   * @throws {@link ProviderMisconfiguredError} when the provider refuses this application. The attempt is over
   */
  finish(
    userId: string,
    callback: LinkCallback,
    expected: { readonly idp?: string | undefined } = {},
  ): Promise<LinkedAccount> {
    const work = this.scope.detached(() => this.#finish(userId, callback, expected.idp ?? null));
    this.drain.track(work);
    return work;
  }

  /** Returns the connections of a user, sorted by provider and account, without a token. It joins the surrounding transaction. */
  async list(userId: string): Promise<AccountConnection[]> {
    return this.table.connectionsOf(checkUserId(userId));
  }

  /**
   * Ends a connection: deletes its tokens, and has them revoked at the provider.
   *
   * @returns whether the account was connected
   * @throws {@link UnsupportedProviderError} when the provider is not configured
   * @see {@link TokenManager.revokeIdpTokens}
   */
  unlink(userId: string, idp: string, { account }: { readonly account?: string | undefined } = {}): Promise<boolean> {
    return this.manager.revokeIdpTokens(userId, idp, { account });
  }

  async #begin(userId: string, idp: string, options: BeginLinkOptions): Promise<LinkAuthorization> {
    const key = checkKey({ keycloakUserId: userId, idp, account: options.account });
    const flow = flowOf(this.providers.get(idp), idp);
    const { returnTo: wanted, replaceAccount = false } = options;
    const returnTo = wanted === undefined ? null : checkReturnTo(wanted, this.settings.allowedReturnTo);
    const added = checkedScopes(options.scopes ?? []);
    const stored = asksForAll(flow.scopes) ? null : await this.table.loadCommitted(key);
    const granted = stored?.tokens.scopes ?? '';
    const scopes = scopeList([...flow.scopes, ...added, granted]);
    if (scopes.join(' ').length > MAX_SCOPES_LENGTH) throw new InvalidTokenInputError('scopes are longer than 16 KiB.');
    const state = newSecret();
    const codeVerifier = newSecret();
    const url = await authorizationUrl(flow, await serverOf(flow, key), { subject: key, state, codeVerifier, scopes });
    const stateHash = hashOf(state);
    const expiresAt = await this.attempts.add({
      ...key,
      stateHash,
      scopes: scopes.join(' '),
      codeVerifier: this.cipher.seal(codeVerifier, codeVerifierLocation(key, stateHash)),
      returnTo,
      replacesAccount: replaceAccount,
      lifetimeSeconds: ATTEMPT_LIFETIME_SECONDS,
      othersOfUser: ATTEMPTS_OF_USER - 1,
    });
    return { authorizationUrl: url.href, expiresAt };
  }

  async #finish(userId: string, callback: LinkCallback, idp: string | null): Promise<LinkedAccount> {
    const keycloakUserId = checkUserId(userId);
    if (idp !== null) checkKey({ keycloakUserId, idp });
    const parameters = parametersOf(callback);
    const state = stateIn(parameters);
    if (state === undefined) throw new LinkRefusedError('unknown_attempt', { idp: idp ?? undefined });
    const { attempt, takenAt } = await this.#take({ stateHash: hashOf(state), keycloakUserId, idp });
    const clock = { startedAt: performance.now(), takenAt };
    const flow = flowOf(this.providers.get(attempt.idp), attempt.idp);
    const codeVerifier = this.#open(attempt);
    const server = await serverOf(flow, attempt);
    const answer = checkedAnswer(parameters, { idp: attempt.idp, flow, server, state });
    const sentAt = Math.floor(clock.takenAt + (performance.now() - clock.startedAt) / 1000);
    const issued = await exchangeCode(flow, server, { answer, codeVerifier, subject: attempt });
    const asked = scopeList(attempt.scopes);
    const link: NewLink = { attempt, flow, sentAt, tokens: issued.tokens, scopes: grantedScopes(issued, asked) };
    const claims = isOpenId(flow, asked)
      ? await checkedClaims(issued.fields.id_token, {
          ...{ idp: attempt.idp, flow, server },
          nonce: nonceOf(codeVerifier),
        }).catch(async (error: unknown) => {
          // Without the keys nothing is known of the tokens. A revocation can end all tokens of the account, also the
          // stored ones.
          if (error instanceof LinkRefusedError) await this.linked.revoke(link);
          throw error;
        })
      : undefined;
    const finding = await accountOf(flow, server, issued, claims);
    await this.#store(link, finding);
    const { account } = finding;
    return {
      idp: attempt.idp,
      account: attempt.account,
      scopes: link.scopes,
      subject: account?.subject ?? null,
      name: account?.name ?? null,
      returnTo: attempt.returnTo,
    };
  }

  async #take(claim: {
    stateHash: string;
    keycloakUserId: string;
    idp: string | null;
  }): Promise<{ attempt: StoredAttempt; takenAt: number }> {
    const claimed = await this.attempts.take(claim);
    if (!claimed) throw new LinkRefusedError('unknown_attempt', { idp: claim.idp ?? undefined });
    if (claimed.kind !== 'taken') {
      throw new LinkRefusedError(claimed.kind === 'other_user' ? 'other_user' : 'issuer_mismatch', {
        idp: claimed.idp,
      });
    }
    if (claimed.isExpired) throw new LinkRefusedError('expired', { idp: claimed.attempt.idp });
    return claimed;
  }

  /** A reseal seals the code verifiers of open attempts anew. If a key is gone all the same, the user begins again. */
  #open(attempt: StoredAttempt): string {
    try {
      return this.cipher.open(attempt.codeVerifier, codeVerifierLocation(attempt, attempt.stateHash));
    } catch (error) {
      if (!(error instanceof TokenDecryptionError)) throw error;
      this.#logger.warn(`The code verifier of an attempt does not open: ${error.message}`);
      throw new LinkRefusedError('expired', { idp: attempt.idp });
    }
  }

  async #store(link: NewLink, finding: AccountFinding): Promise<void> {
    const { idp, keycloakUserId } = link.attempt;
    const { failure } = finding;
    switch (await this.linked.store(link, finding)) {
      case 'stored':
        if (failure === undefined) return;
        this.#logger.warn(
          `Identity provider "${idp}" did not tell the account of user "${keycloakUserId}" (${failure}). The tokens ` +
            'are stored without it.',
        );
        return;
      case 'other_account':
        await this.linked.revokeUnlessConnected(link, finding);
        throw new LinkRefusedError('account_mismatch', { idp });
      case 'untold':
        // Not revoked, because a revocation can end all tokens of an account, and it may be the connected one.
        throw new ProviderUnavailableError(
          idp,
          `the provider did not tell whose the new tokens are (${failure ?? ''}), and they may be of another account ` +
            'than the connected one. The stored tokens are untouched',
        );
    }
  }
}

function checkedScopes(scopes: unknown): string[] {
  if (Array.isArray(scopes) && scopes.every(isScope)) return scopes;
  throw new InvalidTokenInputError('scopes must be a list of scopes, each of them a text without blanks and quotes.');
}
