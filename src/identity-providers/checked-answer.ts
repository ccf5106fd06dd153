import type { IdentityProvider, RefreshAnswer, RevocationAnswer, TokenPair } from './identity-provider.js';
import { lifetime, nonEmptyText } from './token-answer.js';

const FAILURES = ['terminal', 'configuration', 'not-redeemed', 'ambiguous'] as const;

/**
 * Asks a provider to redeem a refresh token and makes sure of its answer: a provider of the host may reject against its
 * promise, or answer what the types do not allow. Then the token may have been redeemed, and nothing of the answer may
 * reach a message.
 */
export async function redeemAt(provider: IdentityProvider, refreshToken: string): Promise<RefreshAnswer> {
  let answer: Partial<Record<string, unknown>>;
  try {
    answer = { ...(await provider.refresh(refreshToken)) };
  } catch {
    return { kind: 'ambiguous', code: 'PROVIDER_REJECTED' };
  }
  const { kind, code, retryAfterMs, tokens } = answer;
  if (kind === 'success') return success(tokens);
  const failure = FAILURES.find((known) => known === kind);
  if (!failure) return { kind: 'ambiguous', code: 'INVALID_ANSWER' };
  return { kind: failure, code: named(code), ...waiting(retryAfterMs) };
}

/** Asks a provider to revoke a pair, and makes as sure of its answer. */
export async function revokeAt(
  revoke: NonNullable<IdentityProvider['revoke']>,
  pair: TokenPair,
): Promise<RevocationAnswer> {
  let answer: Partial<Record<string, unknown>>;
  try {
    answer = { ...(await revoke(pair)) };
  } catch {
    return { kind: 'unavailable', code: 'PROVIDER_REJECTED' };
  }
  const { kind, code, retryAfterMs } = answer;
  if (kind === 'revoked') return { kind };
  if (kind === 'refused') return { kind, code: named(code) };
  return {
    kind: 'unavailable',
    code: kind === 'unavailable' ? named(code) : 'INVALID_ANSWER',
    ...waiting(retryAfterMs),
  };
}

/** A code that may stand in messages: nothing that could be an echo of what was sent. */
function named(code: unknown): string {
  return typeof code === 'string' && /^[A-Za-z0-9_]{1,64}$/.test(code) ? code : 'UNNAMED';
}

function waiting(retryAfterMs: unknown): { retryAfterMs?: number } {
  return typeof retryAfterMs === 'number' && retryAfterMs >= 0 ? { retryAfterMs } : {};
}

function success(tokens: unknown): RefreshAnswer {
  const given: Partial<Record<string, unknown>> = typeof tokens === 'object' && tokens !== null ? { ...tokens } : {};
  const accessToken = nonEmptyText(given.accessToken);
  if (!accessToken) return { kind: 'ambiguous', code: 'INVALID_ANSWER' };
  return {
    kind: 'success',
    tokens: {
      accessToken,
      refreshToken: nonEmptyText(given.refreshToken),
      accessTokenExpiresIn: lifetime(given.accessTokenExpiresIn),
      refreshTokenExpiresIn: lifetime(given.refreshTokenExpiresIn),
    },
  };
}
