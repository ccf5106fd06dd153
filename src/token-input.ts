import { MAX_SCOPES_LENGTH, scopeList, scopeText } from './scopes.js';
import type { AccountKey, TokenKey } from './token-key.js';
import { InvalidTokenInputError } from './tokens.errors.js';

const MAX_USER_ID_LENGTH = 255;
const MAX_TOKEN_BYTES = 64 * 1024;
/** Every expiry of a token is below this limit: the year 5138 in epoch seconds, and March 1973 in milliseconds. */
export const EPOCH_SECONDS_LIMIT = 100_000_000_000;

/**
 * Returns the user id as it is.
 *
 * @throws {@link InvalidTokenInputError} unless the value is a non-blank text that fits the user id columns
 */
export function checkUserId(userId: unknown): string {
  return checkId(userId, 'The user id');
}

/**
 * Returns a copy of the key, with the default account if it names none. A later change of the caller's own object has no
 * effect on it.
 *
 * @throws {@link InvalidTokenInputError} unless all parts can name a row
 */
export function checkKey({ keycloakUserId, idp, account = '' }: TokenKey): AccountKey {
  checkUserId(keycloakUserId);
  checkId(idp, 'The name of the identity provider');
  if (account !== '') checkAccount(account);
  return { keycloakUserId, idp, account };
}

/**
 * Returns the scopes in the form of the column; null for scopes that are not known. An empty list means that there are
 * none. An empty text means that they are not known, because a GitHub App answers so.
 *
 * @throws {@link InvalidTokenInputError} unless the value is a text or a list of texts, of at most 16 KiB together
 */
export function checkScopes(scopes: unknown, name: string): string | null {
  if (scopes === undefined || scopes === null || scopes === '') return null;
  const texts: unknown[] = Array.isArray(scopes) ? scopes : [scopes];
  if (!texts.every((text) => typeof text === 'string')) {
    throw new InvalidTokenInputError(`${name} must be a list of texts, or one text as the provider issued it.`);
  }
  const text = scopeText(texts);
  if (text.length > MAX_SCOPES_LENGTH) throw new InvalidTokenInputError(`${name} are longer than 16 KiB. Check them.`);
  if (text.includes('\0') || !text.isWellFormed()) {
    throw new InvalidTokenInputError(`${name} hold a character that PostgreSQL cannot store.`);
  }
  return text;
}

/**
 * Returns the scopes that a caller requires, sorted.
 *
 * @throws {@link InvalidTokenInputError} unless the value is a text or a list of texts that names at least one scope. A
 * requirement of none would pass every token, and its author means another one.
 */
export function checkRequiredScopes(scopes: unknown): string[] {
  const required = scopeList(checkScopes(scopes, 'The required scopes') ?? '');
  if (required.length > 0) return required;
  throw new InvalidTokenInputError('The required scopes name none. Name at least one, or leave the option out.');
}

/**
 * Returns the token as it is.
 *
 * @param name the name of the token in the error, which never contains the token itself
 * @throws {@link InvalidTokenInputError} unless the value is a non-empty text of at most 64 KiB
 */
export function checkToken(token: unknown, name: string): string {
  if (typeof token !== 'string' || token === '') {
    throw new InvalidTokenInputError(`${name} must be a non-empty string. Pass the token as the provider issued it.`);
  }
  if (Buffer.byteLength(token) > MAX_TOKEN_BYTES) {
    throw new InvalidTokenInputError(`${name} is larger than 64 KiB. Check that it is a token and not a document.`);
  }
  return token;
}

/** A sealed text is a third longer than its token of at most 64 KiB. The JSON around an offline token needs more. */
const MAX_SEALED_LENGTH = 128 * 1024;

/**
 * Checks a sealed text.
 *
 * @param name the name of the text in the error, which never contains the text itself
 * @throws {@link InvalidTokenInputError} unless the value is a non-empty text that a column can store
 */
export function checkSealed(text: unknown, name: string): void {
  if (typeof text !== 'string' || text === '') {
    throw new InvalidTokenInputError(`${name} must be a non-empty string. Pass the text as it was sealed.`);
  }
  if (text.length > MAX_SEALED_LENGTH) {
    throw new InvalidTokenInputError(`${name} is larger than 128 KiB. Check that it is a token and not a document.`);
  }
  if (text.includes('\0') || !text.isWellFormed()) {
    throw new InvalidTokenInputError(`${name} holds a character that PostgreSQL cannot store.`);
  }
}

/**
 * Checks that the caller passed tokens.
 *
 * @throws {@link InvalidTokenInputError} unless the value is an object
 */
export function checkPresent(tokens: unknown): void {
  if (typeof tokens === 'object' && tokens !== null) return;
  throw new InvalidTokenInputError('The tokens are missing: pass an object with an access token.');
}

/** Returns a number as text, and every other value as it is. The caller checks the result. */
export function asText(id: string | number): string {
  return typeof id === 'number' ? String(id) : id;
}

/**
 * Returns the expiry as it is, in epoch seconds.
 *
 * @throws {@link InvalidTokenInputError} unless the value is a whole number of epoch seconds, or 0 for "never"
 */
export function checkExpiry(expiresAt: unknown, name: string): number {
  const rule = `${name} must be whole epoch seconds, or 0 for a token that does not expire`;
  if (typeof expiresAt !== 'number' || !Number.isInteger(expiresAt) || expiresAt < 0) {
    throw new InvalidTokenInputError(`${rule}; it is ${typeof expiresAt === 'number' ? expiresAt : typeof expiresAt}.`);
  }
  if (expiresAt >= EPOCH_SECONDS_LIMIT) {
    throw new InvalidTokenInputError(`${rule}; ${expiresAt} looks like milliseconds. Divide it by 1000.`);
  }
  return expiresAt;
}

/**
 * Returns the number of seconds as it is.
 *
 * @throws {@link InvalidTokenInputError} unless the value is a finite number, 0 or more
 */
export function checkSeconds(seconds: number, name: string): number {
  if (Number.isFinite(seconds) && seconds >= 0) return seconds;
  throw new InvalidTokenInputError(`${name} must be a number of seconds, 0 or more.`);
}

/** Which grants {@link TokenManager.reactivateIdpTokens} makes active again. Each condition narrows the choice. */
export interface EndedGrants {
  /** Default: all users. */
  readonly userIds?: readonly string[] | undefined;
  /** Default: all accounts; '' is the default account. */
  readonly accounts?: readonly string[] | undefined;
  /** Only grants that ended at this time or later. */
  readonly endedAfter?: Date | undefined;
  /** Only grants that ended with this code, which the log line of the end has. */
  readonly errorCode?: string | undefined;
}

/**
 * Returns the conditions, null for each that is absent.
 *
 * @throws {@link InvalidTokenInputError} for an unknown condition and for a value that cannot be meant, because it would
 * choose other grants than the operator wants
 */
export function checkEndedGrants(which: EndedGrants): { [Name in keyof EndedGrants]-?: EndedGrants[Name] | null } {
  const refuse = (rule: string) => new InvalidTokenInputError(`The choice of ended grants ${rule}.`);
  const given: unknown = which;
  if (typeof given !== 'object' || given === null) throw refuse('must be an object');
  const { userIds, accounts, endedAfter, errorCode, ...others } = given as Partial<Record<string, unknown>>;
  const [unknown] = Object.keys(others);
  if (unknown !== undefined)
    throw refuse(`has no condition "${unknown}". Use userIds, accounts, endedAfter or errorCode`);
  if (userIds !== undefined) {
    if (!Array.isArray(userIds)) throw refuse('must have a list as userIds');
    for (const userId of userIds) checkUserId(userId);
  }
  if (accounts !== undefined) {
    if (!Array.isArray(accounts)) throw refuse('must have a list as accounts');
    for (const account of accounts) checkAccount(account);
  }
  if (endedAfter !== undefined && !(endedAfter instanceof Date && !Number.isNaN(endedAfter.getTime()))) {
    throw refuse('must have a valid Date as endedAfter');
  }
  if (errorCode !== undefined && (typeof errorCode !== 'string' || errorCode === '')) {
    throw refuse('must have a non-empty text as errorCode');
  }
  return {
    userIds: which.userIds ?? null,
    accounts: which.accounts ?? null,
    endedAfter: endedAfter ?? null,
    errorCode: errorCode ?? null,
  };
}

function checkId(id: unknown, name: string): string {
  if (typeof id !== 'string' || id.trim() === '')
    throw new InvalidTokenInputError(`${name} must be a non-empty string.`);
  return checkStorable(id, name);
}

function checkAccount(account: unknown): string {
  const name = 'The account';
  if (typeof account !== 'string')
    throw new InvalidTokenInputError(`${name} must be a string; '' is the default account.`);
  return checkStorable(account, name);
}

function checkStorable(id: string, name: string): string {
  if (id.length > MAX_USER_ID_LENGTH) {
    throw new InvalidTokenInputError(
      `${name} has ${id.length} characters, more than ${MAX_USER_ID_LENGTH}. Is it a token?`,
    );
  }
  if (id.includes('\0'))
    throw new InvalidTokenInputError(`${name} holds a NUL character, which PostgreSQL cannot store.`);
  // Different ids would name one row, because UTF-8 replaces every lone surrogate by U+FFFD.
  if (!id.isWellFormed())
    throw new InvalidTokenInputError(`${name} holds half a surrogate pair, which PostgreSQL cannot store.`);
  return id;
}
