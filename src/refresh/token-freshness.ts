import { Injectable } from '@nestjs/common';

import { IdentityProviderRegistry } from '../identity-providers/identity-provider.registry.js';
import type { AccessTokenRow } from '../storage/auth-tokens/auth-tokens-row.js';
import type { TokenKey } from '../token-key.js';
import { RefreshSettings } from './refresh.options.js';

/** The demand of one caller for an access token. */
export interface TokenDemand {
  /**
   * How long the token must stay valid at least, in seconds. At most half of its lifetime counts, because a demand that
   * no token can meet would cause a refresh on every call.
   */
  readonly minValiditySeconds?: number | undefined;
  /**
   * Token version of an access token that the provider's API refused. The module refreshes it even if it has not
   * expired.
   */
  readonly rejectedVersion?: string | undefined;
}

const LEEWAY_SHARE_OF_LIFETIME = 0.1;
const DEMAND_SHARE_OF_LIFETIME = 0.5;

/** Tells fresh access tokens from stale ones, by the leeway of their provider. */
@Injectable()
export class TokenFreshness {
  constructor(
    private readonly providers: IdentityProviderRegistry,
    private readonly settings: RefreshSettings,
  ) {}

  /** @see {@link isFresh} */
  isFresh(row: AccessTokenRow, key: TokenKey, demand: TokenDemand, elapsedMs = 0): boolean {
    const leewaySeconds = this.providers.policyOf(key.idp).leewaySeconds ?? this.settings.leewaySeconds;
    return isFresh(row, demand, key, leewaySeconds, elapsedMs);
  }
}

/**
 * Tells whether the module may serve an access token without a refresh.
 *
 * @param elapsedMs milliseconds since the row was read
 */
export function isFresh(
  row: AccessTokenRow,
  demand: TokenDemand,
  key: TokenKey,
  leewaySeconds: number,
  elapsedMs: number,
): boolean {
  if (row.tokens.version === demand.rejectedVersion) return false;
  const lifetime = row.accessTokenLifetimeSeconds;
  const leeway = Math.min(leewaySeconds, Math.max(0, lifetime * LEEWAY_SHARE_OF_LIFETIME)) * spread(key);
  const demanded = Math.min(demand.minValiditySeconds ?? 0, Math.max(0, lifetime * DEMAND_SHARE_OF_LIFETIME));
  return row.accessTokenValidForSeconds - elapsedMs / 1000 > Math.max(leeway, demanded);
}

/**
 * Returns a factor from 0.75 to 1.25 that never changes for a row. FNV-1a is enough, because only an even spread
 * matters.
 */
function spread({ keycloakUserId, idp, account = '' }: TokenKey): number {
  return 0.75 + (hash(account, hash(idp, hash(keycloakUserId))) >>> 0) / 2 ** 33;
}

function hash(text: string, start = 0x811c9dc5): number {
  let result = start;
  for (let index = 0; index < text.length; index++) result = Math.imul(result ^ text.charCodeAt(index), 0x01000193);
  return result;
}
