import { accountIn, type CodeFlow, type ProviderAccount, readUsualAccount } from '../identity-providers/code-flow.js';
import type { ServerMetadata } from '../identity-providers/server-metadata.js';
import { type Fields, parseFields } from '../oauth-http/answer-fields.js';
import { bearerRequest } from '../oauth-http/authorization.js';
import { exchange, type HttpRequest } from '../oauth-http/http-exchange.js';
import type { IssuedForCode } from './code-exchange.js';

/** The deadline of the question whose an access token is, in milliseconds. */
const QUESTION_TIMEOUT_MS = 5000;
const UNREADABLE = 'UNREADABLE_ANSWER';

/** The account of new tokens, and why it is not known. */
export interface AccountFinding {
  /** Null if it is not known. */
  readonly account: ProviderAccount | null;
  /** A status or a code, if the provider should have told the account and did not. */
  readonly failure?: string;
}

const UNREAD: AccountFinding = { account: null, failure: UNREADABLE };

/**
 * Finds out whose new tokens are: by the provider's answer to a question, by the ID token, or by the token answer. Never
 * rejects, because the tokens are stored also if their account is not known.
 *
 * @param claims the claims of the checked ID token, if there is one
 */
export async function accountOf(
  { accountQuestion, readAccount }: CodeFlow,
  { userinfo_endpoint: userinfoEndpoint }: ServerMetadata,
  { tokens: { accessToken }, fields }: IssuedForCode,
  claims: Fields | undefined,
): Promise<AccountFinding> {
  if (accountQuestion) {
    const answer = await ask(accountQuestion.request(accessToken));
    if (typeof answer === 'string') return { account: null, failure: answer };
    const account = isOfSubject(answer, claims) ? accountIn(answer, accountQuestion.read) : null;
    return account ? { account } : UNREAD;
  }
  if (!claims && !readAccount) return { account: null };
  const account = accountIn(claims ?? fields, readAccount ?? readUsualAccount);
  if (!account) return UNREAD;
  if (!claims || readAccount || account.name !== null || !userinfoEndpoint) return { account };
  // Many servers have the names only in the user info, as OpenID Connect Core 1.0 section 5.4 allows.
  const answer = await ask(bearerRequest(userinfoEndpoint, accessToken));
  const isOfUser = typeof answer !== 'string' && answer.sub === claims.sub;
  return { account: { ...account, name: isOfUser ? (accountIn(answer, readUsualAccount)?.name ?? null) : null } };
}

/** Whether an answer can be about the user of the ID token. @see OpenID Connect Core 1.0 section 5.3.2 */
function isOfSubject({ sub }: Fields, claims: Fields | undefined): boolean {
  return claims === undefined || sub === undefined || sub === claims.sub;
}

/** Returns the fields of an answer, or a code if there are none. */
async function ask(request: HttpRequest): Promise<Fields | string> {
  const outcome = await exchange(request, QUESTION_TIMEOUT_MS);
  if (outcome.kind !== 'answered') return outcome.code;
  if (outcome.status !== 200) return `http_${outcome.status}`;
  return parseFields(outcome.body) ?? UNREADABLE;
}
