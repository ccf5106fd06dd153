import { Injectable } from '@nestjs/common';

import { AmbiguousAccountError } from '../account.errors.js';
import { IdentityProviderRegistry } from '../identity-providers/identity-provider.registry.js';
import type { Scopes } from '../scopes.js';
import { TokenCipher } from '../sealing/token-cipher.js';
import type { AccessTokenRow } from '../storage/auth-tokens/auth-tokens-row.js';
import { AuthTokensTable } from '../storage/auth-tokens/auth-tokens.table.js';
import { authTokenLocation } from '../storage/token-locations.js';
import { checkKey, checkSeconds } from '../token-input.js';
import type { AccountKey } from '../token-key.js';
import { TokensNotFoundError } from '../tokens.errors.js';
import { IdpToken } from './idp-token.js';
import { RefreshTokenRedeemer } from './refresh-token-redeemer.js';
import { requirementOf, type ScopeRequirement } from './scope-requirement.js';
import { TokenFreshness } from './token-freshness.js';
import { type FreshTokenRequest, TokenRefresher } from './token-refresher.js';
import { unlessAborted } from './unless-aborted.js';

/** The demands of a caller on the token that it gets. */
export interface IdpTokenRequest extends FreshTokenRequest {
  /**
   * The account of the user at the provider; '' is the default account. If it is absent, the default account counts. If
   * there is none and exactly one other account, this one counts.
   */
  readonly account?: string | undefined;
  /**
   * The scopes that the token must have, at least one. Scopes that a granted one contains count too. If it is absent, the
   * call requires none.
   */
  readonly scopes?: Scopes | undefined;
  /** Whether scopes that are not known count as missing. Default: that of the provider, which is false by default. */
  readonly requireKnownScopes?: boolean | undefined;
}

/** Reads fresh access tokens for {@link TokenManager.getIdpToken}, and opens them. */
@Injectable()
export class IdpTokenReader {
  constructor(
    private readonly table: AuthTokensTable,
    private readonly freshness: TokenFreshness,
    private readonly refresher: TokenRefresher,
    private readonly redeemer: RefreshTokenRedeemer,
    private readonly providers: IdentityProviderRegistry,
    private readonly cipher: TokenCipher,
  ) {}

  async read(userId: string, idp: string, request: IdpTokenRequest): Promise<IdpToken> {
    const key = checkKey({ keycloakUserId: userId, idp, account: request.account });
    const provider = this.providers.get(idp);
    if (request.minValiditySeconds !== undefined) checkSeconds(request.minValiditySeconds, 'minValiditySeconds');
    const required = request.scopes === undefined ? null : requirementOf(request.scopes, request, provider);
    const token = await this.#find(key, request, required);
    if (token) return token;
    const only = request.account === undefined ? await this.#onlyAccount(key, request.signal) : undefined;
    const other = only === undefined ? null : await this.#find({ ...key, account: only }, request, required);
    if (other) return other;
    throw new TokensNotFoundError(key);
  }

  /** Returns the token of a key; null if there is no row. The scopes count before a refresh and after it. */
  async #find(
    key: AccountKey,
    request: FreshTokenRequest,
    required: ScopeRequirement | null,
  ): Promise<IdpToken | null> {
    const found = await unlessAborted(() => this.table.findAccessToken(key), request.signal);
    const row = found && this.freshness.isFresh(found, key, request) ? found : await this.#load(key, request, required);
    if (!row) return null;
    const { accessToken, version, scopes } = row.tokens;
    required?.check(key, scopes);
    const plaintext = this.cipher.open(accessToken, authTokenLocation(key, 'access_token'));
    return new IdpToken(plaintext, row.accessTokenExpiresAt, version, key.account);
  }

  #load(
    key: AccountKey,
    request: FreshTokenRequest,
    required: ScopeRequirement | null,
  ): Promise<AccessTokenRow | null> {
    const redeemer = this.redeemer.redeemerFor(key, this.providers.get(key.idp));
    return this.refresher.load(key, redeemer, request, required ?? undefined);
  }

  /**
   * Returns the account that counts for a caller that names none, if there is no default account; undefined if there is
   * none at all. Only such a caller costs this statement.
   *
   * @throws {@link AmbiguousAccountError} when there are several
   */
  async #onlyAccount(key: AccountKey, signal: AbortSignal | undefined): Promise<string | undefined> {
    const accounts = await unlessAborted(() => this.table.accountsOf(key), signal);
    if (accounts.includes('')) return ''; // another caller has stored it meanwhile
    if (accounts.length > 1) throw new AmbiguousAccountError(key, accounts);
    return accounts[0];
  }
}
