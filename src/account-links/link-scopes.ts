import { scopeList } from '../scopes.js';
import type { IssuedForCode } from './code-exchange.js';

/** Whether the entry asks Microsoft Entra for all that the application has. Entra refuses other scopes beside it. */
export function asksForAll(scopes: readonly string[]): boolean {
  return scopes.some((scope) => scope.endsWith('/.default'));
}

/**
 * Returns the scopes of new tokens: those that the answer names, or those that were asked for if it says nothing of
 * scopes. Null if they are not known, as after the empty text of a GitHub App.
 *
 * @see RFC 6749 section 5.1
 */
export function grantedScopes({ tokens, fields }: IssuedForCode, asked: readonly string[]): readonly string[] | null {
  if (tokens.scopes) return scopeList(tokens.scopes);
  const saysNothing = (fields.scope ?? fields.scopes ?? null) === null;
  return saysNothing && asked.length > 0 ? asked : null;
}
