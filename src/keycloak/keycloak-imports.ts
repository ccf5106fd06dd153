import { createHash } from 'node:crypto';

import { Injectable } from '@nestjs/common';

import { IdentityProviderRegistry } from '../identity-providers/identity-provider.registry.js';
import { QueryRunnerScope } from '../postgres/query-runner-scope.js';
import { TokenFreshness } from '../refresh/token-freshness.js';
import { scopeText } from '../scopes.js';
import type { SealedToken } from '../sealing/sealed-token.js';
import { TokenCipher } from '../sealing/token-cipher.js';
import { AuthTokensTable } from '../storage/auth-tokens/auth-tokens.table.js';
import { authTokenLocation } from '../storage/token-locations.js';
import { TokenRevocationsTable } from '../storage/token-revocations/token-revocations.table.js';
import { checkToken } from '../token-input.js';
import { type AccountKey, keyName } from '../token-key.js';
import { InvalidTokenInputError, TokenDecryptionError } from '../tokens.errors.js';
import { type BrokeredTokens, KeycloakBroker } from './keycloak-broker.js';
import { KeycloakClient } from './keycloak-client.js';
import { assertUnbound, claimsOf, subjectIn } from './token-claims.js';

type Column = 'access_token' | 'refresh_token';

/** How a caller gets the Keycloak access token for an import. */
export interface ImportCredential {
  /** The token that the caller passed; absent if the stored offline token serves. */
  readonly token?: string;
  /** Whether the import redeems an offline token. */
  readonly isOffline: boolean;
  accessToken(): Promise<string>;
}

/** An automatic import under way. */
interface ImportUnderWay {
  /** Names the credential. Callers with the same one share a failure to get the access token. */
  readonly credential: unknown;
  /** The Keycloak access token; undefined if no import is needed. */
  readonly accessToken: Promise<string | undefined>;
  readonly result: Promise<boolean>;
}

/** An automatic import that changed nothing, and what it depended on. */
interface FruitlessImport {
  readonly credential: unknown;
  readonly rowState: string;
  readonly until: number;
}

/**
 * How long an import that changed nothing is not repeated with the same offline token, in milliseconds. A provider can
 * send many webhooks about a user whose grant has ended.
 */
const FRUITLESS_FOR_MS = 30_000;

/** Imports tokens that Keycloak's broker has stored. */
@Injectable()
export class KeycloakImports {
  readonly #underWay = new Map<string, ImportUnderWay>();
  readonly #fruitless = new Map<string, FruitlessImport>();

  constructor(
    private readonly client: KeycloakClient,
    private readonly broker: KeycloakBroker,
    private readonly table: AuthTokensTable,
    private readonly revocations: TokenRevocationsTable,
    private readonly freshness: TokenFreshness,
    private readonly providers: IdentityProviderRegistry,
    private readonly cipher: TokenCipher,
    private readonly scope: QueryRunnerScope,
  ) {}

  /** Returns whether a caller can be served only after an import, because the module cannot refresh the stored token. */
  async isNeeded(key: AccountKey): Promise<boolean> {
    return (await this.#look(key)).isNeeded;
  }

  /**
   * Imports the tokens of a key into the surrounding transaction.
   *
   * @param isExplicit whether the host asked for this import
   * @see {@link TokenManager.importIdpTokens}
   */
  async import(key: AccountKey, accessToken: string, isExplicit: boolean): Promise<boolean> {
    const { keycloakUserId, idp } = key;
    checkToken(accessToken, 'The Keycloak access token');
    // This check comes before the request to the broker, because the broker may redeem a single-use token for it.
    this.scope.transaction()?.assertOpen();
    const claims = claimsOf(accessToken);
    assertUnbound(claims, 'The Keycloak access token');
    const subject = claims.sub ?? subjectIn(await this.client.userInfo(accessToken));
    if (subject !== keycloakUserId) {
      throw new InvalidTokenInputError(
        `The Keycloak access token belongs to user "${subject}", not to user "${keycloakUserId}".`,
      );
    }
    const tokens = await this.broker.storedTokens(key, accessToken);
    // A stored token is not imported again. It would get a later expiry if Keycloak names only its lifetime.
    if (!tokens || (await this.#isStored(key, tokens.accessToken))) return false;
    if (await this.#isToBeRevoked(key, tokens)) return false;
    const isRefreshedHere = this.client.realm.refreshOwner === 'module';
    const sealed = (token: string, column: Column) =>
      this.cipher.seal(checkToken(token, `The ${column} that Keycloak has stored`), authTokenLocation(key, column));
    const isImported = await this.table.import(
      key,
      {
        accessToken: sealed(tokens.accessToken, 'access_token'),
        refreshToken: isRefreshedHere && tokens.refreshToken ? sealed(tokens.refreshToken, 'refresh_token') : '',
        accessTokenExpiresAt: tokens.accessTokenExpiresAt,
        refreshTokenExpiresAt: isRefreshedHere ? tokens.refreshTokenExpiresAt : 0,
        scopes: tokens.scopes ? scopeText(tokens.scopes) : null,
        issuedAt: tokens.issuedAt,
        mayDropRefreshToken: !isRefreshedHere,
        isExplicit,
      },
      this.providers.get(idp).clientId ?? null,
    );
    if (isImported) this.#fruitless.delete(keyName(key));
    return isImported;
  }

  /**
   * Imports the tokens of a key by itself, without a host that asks for it. Concurrent callers share one redemption and
   * one request to the broker, because both may redeem a single-use token. A caller whose own credential may be better
   * does not share a failure to get the access token.
   *
   * The import runs outside of the caller's transaction, so that the other callers see its result. It runs inside if
   * this transaction has changed the row, because no other connection can change the row then.
   *
   * An import with an offline token is left out for half a minute after one that changed nothing. A caller with an
   * access token is there in person and may have connected the account a moment ago, so the module asks the broker.
   */
  async importAutomatically(key: AccountKey, credential: ImportCredential): Promise<void> {
    const isInTransaction = this.scope.transaction() !== undefined;
    if (isInTransaction && (await this.table.isUncommitted(key, await this.table.load(key)))) {
      await this.import(key, await credential.accessToken(), false);
      return;
    }
    const name = keyName(key);
    // A transaction may see another offline token than the other callers, so they do not share its failure.
    const id = isInTransaction ? Symbol(name) : idOf(credential);
    for (;;) {
      const underWay = this.#underWay.get(name);
      if (!underWay) break;
      if (underWay.credential === id || (await isFulfilled(underWay.accessToken))) {
        await underWay.result;
        return;
      }
    }
    const started = this.#start(key, credential, id);
    this.#underWay.set(name, started);
    await started.result;
  }

  #start(key: AccountKey, credential: ImportCredential, id: unknown): ImportUnderWay {
    const name = keyName(key);
    const look = () => this.scope.detached(() => this.#look(key));
    const accessToken = (async () => {
      // Looks again, because another import may have ended after this caller looked.
      const { isNeeded, rowState } = await look();
      if (!isNeeded || (credential.isOffline && this.#isFruitless(name, id, rowState))) return undefined;
      return credential.accessToken();
    })();
    const result = (async () => {
      try {
        const token = await accessToken;
        const { isNeeded, rowState } = await look();
        if (token === undefined || !isNeeded) return false;
        const isImported = await this.scope.detached(() => this.import(key, token, false));
        if (!isImported && credential.isOffline) this.#remember(name, { credential: id, rowState });
        return isImported;
      } finally {
        this.#underWay.delete(name);
      }
    })();
    return { credential: id, accessToken, result };
  }

  #isFruitless(name: string, credential: unknown, rowState: string): boolean {
    const last = this.#fruitless.get(name);
    return last?.credential === credential && last?.rowState === rowState && performance.now() < last.until;
  }

  #remember(name: string, fruitless: Omit<FruitlessImport, 'until'>): void {
    const now = performance.now();
    this.#fruitless.delete(name);
    for (const [each, { until }] of this.#fruitless) {
      if (until > now) break; // the map has its entries in the order in which they end
      this.#fruitless.delete(each);
    }
    this.#fruitless.set(name, { ...fruitless, until: now + FRUITLESS_FOR_MS });
  }

  /** Returns whether an import is needed, and a text that changes with everything that the need depends on. */
  async #look(key: AccountKey): Promise<{ isNeeded: boolean; rowState: string }> {
    const row = await this.table.load(key);
    if (row === null) return { isNeeded: true, rowState: '' };
    const isEnded = row.state === 'ended';
    const isRefreshedHere = this.client.realm.refreshOwner === 'module';
    const isNeeded = isEnded || (!isRefreshedHere && !this.freshness.isFresh(row, key, {}));
    return { isNeeded, rowState: [row.version, isEnded, row.accessTokenValidForSeconds > 0].join() };
  }

  async #isStored(key: AccountKey, accessToken: string): Promise<boolean> {
    const row = await this.table.load(key);
    // An import makes a row usable again whose text does not open.
    return row !== null && this.#isSame(key, 'access_token', row.tokens.accessToken, accessToken);
  }

  /**
   * Returns whether a token of the pair waits for its revocation. The provider then ends the grant of the pair soon.
   */
  async #isToBeRevoked(key: AccountKey, { accessToken, refreshToken }: BrokeredTokens): Promise<boolean> {
    const pending = await this.revocations.findPending(key);
    return pending.some(
      (each) =>
        this.#isSame(key, 'access_token', each.accessToken, accessToken) ||
        this.#isSame(key, 'refresh_token', each.refreshToken, refreshToken),
    );
  }

  /** Returns whether a sealed text has this token. A text that does not open has another one. */
  #isSame(key: AccountKey, column: Column, sealed: SealedToken | '', token: string): boolean {
    if (sealed === '' || token === '') return false;
    try {
      return this.cipher.open(sealed, authTokenLocation(key, column)) === token;
    } catch (error) {
      if (error instanceof TokenDecryptionError) return false;
      throw error;
    }
  }
}

/** Names a credential. The name is a digest, because it is kept for longer than the call. */
function idOf({ token = '' }: ImportCredential): string {
  return createHash('sha256').update(token).digest('base64');
}

function isFulfilled(promise: Promise<unknown>): Promise<boolean> {
  return promise.then(
    () => true,
    () => false,
  );
}
