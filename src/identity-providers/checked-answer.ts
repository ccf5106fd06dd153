import type { IdentityProvider, RefreshAnswer } from './identity-provider.js';
import { lifetime, nonEmptyText } from './token-answer.js';

const FAILURES = new Set<unknown>(['terminal', 'configuration', 'not-redeemed', 'ambiguous']);

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
  if (!FAILURES.has(kind)) return { kind: 'ambiguous', code: 'INVALID_ANSWER' };
  return {
    kind: kind as 'ambiguous',
    code: typeof code === 'string' && /^[A-Za-z0-9_]{1,64}$/.test(code) ? code : 'UNNAMED',
    ...(typeof retryAfterMs === 'number' && retryAfterMs >= 0 ? { retryAfterMs } : {}),
  };
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
