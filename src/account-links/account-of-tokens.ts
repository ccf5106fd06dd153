import { accountIn, type CodeFlow, type ProviderAccount, readUsualAccount } from '../identity-providers/code-flow.js';
import { type Fields, parseFields } from '../oauth-http/answer-fields.js';
import { exchange } from '../oauth-http/http-exchange.js';
import type { IssuedForCode } from './code-exchange.js';

/** The deadline of the question whose an access token is, in milliseconds. */
const QUESTION_TIMEOUT_MS = 5000;

/** The account of new tokens, and why it is not known. */
export interface AccountFinding {
  /** Null if it is not known. */
  readonly account: ProviderAccount | null;
  /** A status or a transport code, if the provider was asked and did not tell. */
  readonly failure?: string;
}

/**
 * Finds out whose new tokens are: by the provider's answer to a question, by the ID token, or by the token answer. Never
 * rejects, because the tokens are stored also if their account is not known.
 *
 * @param claims the claims of the checked ID token, if there is one
 * @see OpenID Connect Core 1.0 section 5.3.2
 */
export async function accountOf(
  flow: CodeFlow,
  { tokens, fields }: IssuedForCode,
  claims: Fields | undefined,
): Promise<AccountFinding> {
  const { accountQuestion, readAccount } = flow;
  if (!accountQuestion) {
    const read = readAccount ?? (claims ? readUsualAccount : undefined);
    return { account: read ? accountIn(claims ?? fields, read) : null };
  }
  const outcome = await exchange(accountQuestion.request(tokens.accessToken), QUESTION_TIMEOUT_MS);
  if (outcome.kind !== 'answered') return { account: null, failure: outcome.code };
  if (outcome.status !== 200) return { account: null, failure: `http_${outcome.status}` };
  const answer = parseFields(outcome.body);
  // An answer about another user than that of the ID token must not be used.
  const isOfOther = claims !== undefined && answer?.sub !== undefined && answer.sub !== claims.sub;
  const account = answer && !isOfOther ? accountIn(answer, accountQuestion.read) : null;
  return account ? { account } : { account: null, failure: 'UNREADABLE_ANSWER' };
}
