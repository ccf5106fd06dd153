import { Injectable } from '@nestjs/common';

import { IdentityProviderRegistry } from '../identity-providers/identity-provider.registry.js';
import type { AccessTokenRow } from '../storage/auth-tokens/auth-tokens-row.js';
import type { TokenKey } from '../token-key.js';
import { RefreshSettings } from './refresh.options.js';

/** What one caller asks of a token. */
export interface TokenDemand {
  /**
   * How long the token must stay valid at least, in seconds. At most half of its lifetime counts: a demand that no
   * token can meet would refresh on every call.
   */
  readonly minValiditySeconds?: number;
  /** Version of a token that the provider's API refused: it is refreshed even if it should still be valid. */
  readonly rejectedVersion?: string;
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
 * Whether a token may be handed out without a refresh.
 *
 * @param elapsedMs since the row was read
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

/** A factor from 0.75 to 1.25 that is the same for a row at all times. FNV-1a: no need for more than an even spread. */
function spread({ keycloakUserId, idp }: TokenKey): number {
  return 0.75 + (hash(idp, hash(keycloakUserId)) >>> 0) / 2 ** 33;
}

function hash(text: string, start = 0x811c9dc5): number {
  let result = start;
  for (let index = 0; index < text.length; index++) result = Math.imul(result ^ text.charCodeAt(index), 0x01000193);
  return result;
}
