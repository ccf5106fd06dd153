import type { INestApplication } from '@nestjs/common';

import {
  AuthTokenStore,
  OfflineTokenStore,
  QueryRunnerScope,
  type SealedToken,
  TokenManager,
} from '../../src/index.js';

/** A sealed pair that does not expire. */
export const PAIR = {
  accessToken: 'a' as SealedToken,
  refreshToken: 'r' as SealedToken,
  accessTokenExpiresAt: 0,
  refreshTokenExpiresAt: 0,
};

/**
 * Returns every kind of call that runs a statement on tokens. In a transaction, none of them may act outside of it.
 *
 * @param victim a user with tokens at "acme" and the offline token "offline"
 * @param writer a user without tokens
 */
export function everyStatement(
  app: INestApplication,
  victim: string,
  writer: string,
): [name: string, () => Promise<unknown>][] {
  const tokens = app.get(TokenManager);
  const store = app.get(AuthTokenStore);
  const offlineTokens = app.get(OfflineTokenStore);
  const scope = app.get(QueryRunnerScope);
  const storePair = () => store.storeTokens({ keycloakUserId: writer, idp: 'acme' }, PAIR);
  return [
    ['revokeIdpTokens', () => tokens.revokeIdpTokens(victim, 'acme')],
    ['storeTokens', storePair],
    ['deleteTokens', () => store.deleteTokens({ keycloakUserId: victim, idp: 'acme' })],
    ['storeToken', () => offlineTokens.storeToken(writer, 'offline')],
    ['replaceToken', () => offlineTokens.replaceToken(victim, 'offline', 'successor')],
    ['deleteToken', () => offlineTokens.deleteToken(victim)],
    ['getIdpToken', () => tokens.getIdpToken(victim, 'acme')],
    ['run', () => scope.run(storePair)],
    ['lazy run', () => scope.run(storePair, { lazy: true })],
  ];
}

/** Runs the calls one after the other. Returns for each the code of its error, or 'took effect'. */
export async function outcomesOf(
  statements: [name: string, () => Promise<unknown>][],
): Promise<Record<string, unknown>> {
  const outcomes: Record<string, unknown> = {};
  for (const [name, statement] of statements) {
    outcomes[name] = await statement().then(
      () => 'took effect',
      (error: unknown) => (error as { code?: unknown }).code,
    );
  }
  return outcomes;
}
