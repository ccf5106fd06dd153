/** Scopes as a host or a provider names them: a list, or one text with white space or commas between them. */
export type Scopes = string | readonly string[];

/** The scopes that a scope contains, by its name. Those that they contain count too. */
export type ImpliedScopes = Readonly<Record<string, readonly string[]>>;

/** The longest text of scopes that is stored, in characters. */
export const MAX_SCOPES_LENGTH = 16 * 1024;

/**
 * Returns each scope once, in the order of their code units. RFC 6749 has a space between two scopes. GitHub, Slack and
 * Strava have a comma, so no scope contains one here.
 *
 * @see RFC 6749 section 3.3
 */
export function scopeList(scopes: Scopes): string[] {
  const texts = typeof scopes === 'string' ? [scopes] : scopes;
  return [...new Set(texts.flatMap((text) => text.split(/[\s,]+/)))].filter((scope) => scope !== '').sort();
}

/** Returns the scopes in the form of the column: sorted, with a space between two of them. */
export function scopeText(scopes: Scopes): string {
  return scopeList(scopes).join(' ');
}

/** Returns the required scopes that are neither granted nor contained in a granted one. */
export function missingFrom(granted: readonly string[], required: readonly string[], implied: ImpliedScopes): string[] {
  const covered = new Set(granted);
  for (const scope of covered) {
    // A set also visits what is added during the loop.
    if (Object.hasOwn(implied, scope)) for (const contained of implied[scope] ?? []) covered.add(contained);
  }
  return required.filter((scope) => !covered.has(scope));
}
