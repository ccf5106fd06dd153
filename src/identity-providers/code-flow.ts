import type { HttpRequest } from '../oauth-http/http-exchange.js';
import type { AuthenticateClient } from './client-authentication.js';
import type { ServerMetadata } from './server-metadata.js';
import type { AnswerRules } from './token-answer.js';

/** The account of a user at a provider. */
export interface ProviderAccount {
  /** The id that the provider never gives to another account. */
  readonly subject: string;
  /** A name to show to the user, such as a login or an email address; null if the provider names none. */
  readonly name: string | null;
}

/** Reads the account of a user from the fields of an answer. */
export type ReadAccount = (
  fields: Record<string, unknown>,
) => { readonly subject: string | number; readonly name?: string | null | undefined } | null | undefined;

/** The request that asks a provider whose an access token is, and the meaning of its answer. */
export interface AccountQuestion {
  /** Makes the request that asks for the account. */
  readonly request: (accessToken: string) => HttpRequest;
  readonly read: ReadAccount;
}

/**
 * What the module needs to connect an account by the authorization code flow.
 *
 * @see RFC 6749 section 4.1
 */
export interface CodeFlow {
  readonly clientId: string;
  /** The redirect URI, exactly as it is registered at the provider. */
  readonly redirectUri: string;
  /** The scopes of every authorization request. */
  readonly scopes: readonly string[];
  /** Parameters of every authorization request in addition to those of the protocol. */
  readonly parameters: Readonly<Record<string, string>>;
  /** Whether the options name the issuer, so that the module can check who answers. */
  readonly hasIssuer: boolean;
  /** Asks for the account; absent = the ID token or {@link readAccount} tells it, or nothing does. */
  readonly accountQuestion?: AccountQuestion;
  /** Reads the account from the claims of the ID token, or from the token answer if there is none. */
  readonly readAccount?: ReadAccount;
  readonly authenticate: AuthenticateClient;
  readonly requestFormat?: 'form' | 'json';
  readonly answerRules: AnswerRules;
  /** The deadline of one request, in milliseconds. */
  readonly timeoutMs: number;
  /**
   * Returns the endpoints, which the options or the server name. `issuer` has no meaning without {@link hasIssuer}.
   *
   * @throws {@link DiscoveryError} when the server has to be asked and does not name them
   */
  server(): Promise<ServerMetadata>;
}

/** The longest subject and name that the module stores, in characters. */
const MAX_LENGTH = 255;
/** The fields by which providers name the account, in the order of their precedence. */
const NAME_FIELDS = ['preferred_username', 'login', 'username', 'nickname', 'email', 'name', 'display_name'];

/** Reads `sub` or `id`, and a name. @see OpenID Connect Core 1.0 section 5.1 */
export const readUsualAccount: ReadAccount = (fields) => {
  const subject = fields.sub ?? fields.id;
  if (typeof subject !== 'string' && typeof subject !== 'number') return null;
  const name = NAME_FIELDS.map((field) => fields[field]).find((each) => typeof each === 'string' && each !== '');
  return { subject, name: typeof name === 'string' ? name : null };
};

/**
 * Reads the account by a function that the host may have written. Returns null if it throws, returns nothing, or returns
 * a subject that no column can store. Its error is dropped, because it may contain a token.
 */
export function accountIn(fields: Record<string, unknown>, read: ReadAccount): ProviderAccount | null {
  try {
    const given = read(fields);
    const id = given?.subject;
    // JSON.parse drops digits of a larger number, so two accounts could have one subject.
    const subject = Number.isSafeInteger(id) ? String(id) : id;
    if (!isStorable(subject)) return null;
    const name = given?.name;
    return { subject, name: typeof name === 'string' && isText(name) ? name.slice(0, MAX_LENGTH) : null };
  } catch {
    return null;
  }
}

function isStorable(subject: unknown): subject is string {
  return typeof subject === 'string' && subject !== '' && subject.length <= MAX_LENGTH && isText(subject);
}

/** Whether PostgreSQL can store a text. */
function isText(text: string): boolean {
  return !text.includes('\0') && text.isWellFormed();
}
