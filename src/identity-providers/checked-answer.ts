import { lifetime, nonEmptyText, scopesIn } from '../oauth-http/answer-fields.js';
import { MAX_RETRY_AFTER_MS } from '../oauth-http/retry-after.js';
import { within } from '../within.js';
import { QUESTION_TIMEOUT_MS } from './access-token-question.js';
import type {
  AccessTokenLife,
  IdentityProvider,
  RefreshAnswer,
  RevocationAnswer,
  TokenPair,
} from './identity-provider.js';

const FAILURES = ['terminal', 'configuration', 'not-redeemed', 'ambiguous'] as const;
const LIVES = ['alive', 'dead', 'unknown'] as const;
/**
 * In milliseconds. One second longer than a provider may take, so that the deadline cuts off no provider that settles
 * in time.
 */
const LIFE_DEADLINE_MS = QUESTION_TIMEOUT_MS + 1000;

/**
 * Asks a provider to redeem a refresh token, and checks its answer. A provider of the host may reject although it must
 * not, or return what the types do not allow. Both are `ambiguous`, because the provider may have redeemed the token.
 * The function keeps only a short `code` of a failure, because the rest can contain a token.
 */
export async function refreshAt(provider: IdentityProvider, refreshToken: string): Promise<RefreshAnswer> {
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

/**
 * Asks a provider to revoke a pair, and checks its answer. A rejection, or an answer that the types do not allow, is
 * `unavailable`.
 */
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

/**
 * Asks a provider whether an access token still works, and checks its answer. Returns `unknown` for a rejection, for an
 * answer that the types do not allow, and for an answer that takes longer than six seconds. Never rejects.
 */
export async function accessTokenLifeAt(provider: IdentityProvider, accessToken: string): Promise<AccessTokenLife> {
  try {
    const answer = Promise.resolve(provider.isAccessTokenAlive?.(accessToken));
    const life: unknown = await within(answer, LIFE_DEADLINE_MS, () => 'unknown');
    return LIVES.find((known) => known === life) ?? 'unknown';
  } catch {
    return 'unknown';
  }
}

/**
 * Returns a code that messages may contain. Every other code could repeat a token that was sent, so it becomes
 * `UNNAMED`.
 */
function named(code: unknown): string {
  return typeof code === 'string' && /^[A-Za-z0-9_]{1,64}$/.test(code) ? code : 'UNNAMED';
}

function waiting(retryAfterMs: unknown): { retryAfterMs?: number } {
  if (typeof retryAfterMs !== 'number' || !(retryAfterMs >= 0)) return {};
  return { retryAfterMs: Math.min(retryAfterMs, MAX_RETRY_AFTER_MS) };
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
      ...scopesIn({ scopes: given.scopes }),
    },
  };
}
