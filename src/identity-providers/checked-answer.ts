import { lifetime, nonEmptyText } from '../oauth-http/answer-fields.js';
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
/** Leaves the providers of the module the time that they keep to themselves, and a provider of the host no more. */
const LIFE_DEADLINE_MS = QUESTION_TIMEOUT_MS + 1000;

/**
 * Asks a provider to redeem a refresh token and makes sure of its answer: a provider of the host may reject against its
 * promise, or answer what the types do not allow. Then the token may have been redeemed, and nothing of the answer may
 * reach a message.
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

/**
 * Asks a provider whether an access token still works, and makes sure of its answer: whatever a provider of the host does
 * against its promise is `unknown`, and so is an answer that takes longer than six seconds. Never rejects.
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

/** A code that may stand in messages: nothing that could be an echo of what was sent. */
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
    },
  };
}
