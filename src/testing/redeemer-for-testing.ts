import { Inject, Injectable } from '@nestjs/common';

import { refreshAt } from '../identity-providers/checked-answer.js';
import { completePolicy } from '../identity-providers/refresh-policy.js';
import { nonEmptyText } from '../oauth-http/answer-fields.js';
import type { Redeemer, PairRefresh } from '../refresh/pair-refresh.js';
import type { ExchangeOutcome } from '../refresh/refresh-target.js';
import { RefreshTokenRedeemer } from '../refresh/refresh-token-redeemer.js';
import { scopeText } from '../scopes.js';
import { TokenCipher } from '../sealing/token-cipher.js';
import type { AuthTokensRow } from '../storage/auth-tokens/auth-tokens-row.js';
import type { Lease } from '../storage/leases/lease.js';
import { authTokenLocation } from '../storage/token-locations.js';
import type { AccountKey } from '../token-key.js';
import { type IdpTokens, sealIdpTokens } from '../token-manager/idp-tokens.js';
import { type RefusedRefresh, TESTING_OPTIONS, type TokensTestingOptions } from './testing.options.js';

const LIFETIME_SECONDS = 3600;

/** Answers the refreshes by the option `refresh`, and sends nothing to a provider. */
@Injectable()
export class RedeemerForTesting extends RefreshTokenRedeemer {
  constructor(
    private readonly sealing: TokenCipher,
    @Inject(TESTING_OPTIONS) private readonly options: TokensTestingOptions,
  ) {
    super(sealing);
  }

  override redeemerFor(key: AccountKey): Redeemer {
    return { source: 'provider', redeem: (lease) => this.#answer(key, lease) };
  }

  async #answer(key: AccountKey, { row }: Lease<AuthTokensRow>): Promise<ExchangeOutcome<PairRefresh>> {
    try {
      const { accessToken, refreshToken, refreshTokenExpiresAt, scopes } = row.tokens;
      const open = (text: string, column: 'access_token' | 'refresh_token') =>
        this.sealing.open(text, authTokenLocation(key, column));
      const redeemed = open(refreshToken, 'refresh_token');
      const { refresh } = this.options;
      const answer = refresh
        ? await refresh(key.keycloakUserId, key.idp, redeemed, ...(key.account ? [key.account] : []))
        : successorOf(open(accessToken, 'access_token'), redeemed);
      if (!isPair(answer)) return await refusalOf(answer);
      const issued = sealIdpTokens(this.sealing, key, { ...answer, refreshToken: nonEmptyText(answer.refreshToken) });
      // An answer without a refresh token keeps the redeemed one, as the answer of a provider does.
      const isKept = !issued.refreshToken || answer.refreshToken === redeemed;
      return {
        kind: 'success',
        tokens: {
          accessToken: issued.accessToken,
          refreshToken: issued.refreshToken || refreshToken,
          accessTokenExpiresAt: issued.accessTokenExpiresAt,
          refreshTokenExpiresAt: issued.refreshTokenExpiresAt || (isKept ? refreshTokenExpiresAt : 0),
          scopes: issued.scopes ? scopeText(issued.scopes) : scopes,
        },
        issued: undefined,
      };
    } catch (error) {
      return { kind: 'threw', error };
    }
  }
}

/** Whether an answer of the host has tokens. The host may return what the types do not allow. */
function isPair(answer: unknown): answer is IdpTokens {
  const accessToken: unknown =
    typeof answer === 'object' && answer !== null && 'accessToken' in answer ? answer.accessToken : undefined;
  return nonEmptyText(accessToken) !== undefined;
}

/** Returns a refusal, checked as that of a provider of the host. Every other answer without tokens is lost. */
async function refusalOf(answer: RefusedRefresh): Promise<RefusedRefresh> {
  const checked = await refreshAt({ policy: completePolicy(), refresh: () => Promise.resolve(answer) }, '');
  return checked.kind === 'success' ? { kind: 'ambiguous', code: 'INVALID_ANSWER' } : checked;
}

function successorOf(accessToken: string, refreshToken: string): IdpTokens {
  return {
    accessToken: numbered(accessToken),
    refreshToken: numbered(refreshToken),
    accessTokenExpiresAt: Math.floor(Date.now() / 1000) + LIFETIME_SECONDS,
  };
}

/** Returns the text with the next number at its end. */
function numbered(text: string): string {
  const [, original = text, number = 0] = /^(.*)-refreshed-(\d+)$/s.exec(text) ?? [];
  return `${original}-refreshed-${Number(number) + 1}`;
}
