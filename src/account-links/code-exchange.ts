import * as oauth from 'oauth4webapi';

import type { CodeFlow } from '../identity-providers/code-flow.js';
import type { IssuedTokens } from '../identity-providers/identity-provider.js';
import type { ServerMetadata } from '../identity-providers/server-metadata.js';
import { answerFields, classifyTokenAnswer } from '../identity-providers/token-answer.js';
import { LinkRefusedError, ProviderUnavailableError } from '../link.errors.js';
import type { Fields } from '../oauth-http/answer-fields.js';
import type { HttpOutcome } from '../oauth-http/http-exchange.js';
import { askOnce } from '../oauth-http/oauth-request.js';
import type { TokenKey } from '../token-key.js';
import { ProviderMisconfiguredError } from '../tokens.errors.js';
import { endpointMissing } from './authorization-request.js';

/** What a provider issued for a code. */
export interface IssuedForCode {
  readonly tokens: IssuedTokens;
  /** The fields of the answer, in the form of RFC 6749. */
  readonly fields: Fields;
}

/** Errors by which providers refuse a code, beside those that end a grant. */
const REFUSED_CODES = [
  'bad_verification_code', // GitHub
  'invalid_code', // Slack
  'code_already_used', // Slack
];

/**
 * Sends the code once, and returns what the provider issued for it. The deadline covers everything up to the last byte
 * of the answer. The module does not repeat the request, because a code is single-use and a second use can end the
 * grant.
 *
 * @throws {@link LinkRefusedError} when the provider does not accept the code
 * @throws {@link ProviderMisconfiguredError} when it refuses this application, and when it redirects the request
 * @throws {@link ProviderUnavailableError} when there is no usable answer. The provider may have issued tokens then. The
 * module does not have them
 * @see RFC 6749 section 4.1.3
 */
export async function exchangeCode(
  flow: CodeFlow,
  server: ServerMetadata,
  { answer, codeVerifier, subject }: { answer: URLSearchParams; codeVerifier: string; subject: TokenKey },
): Promise<IssuedForCode> {
  const { idp } = subject;
  const { token_endpoint: endpoint } = server;
  if (endpoint === undefined) throw endpointMissing(idp, 'tokenEndpoint');
  let outcome: HttpOutcome;
  try {
    outcome = await askOnce(
      (http) =>
        oauth.authorizationCodeGrantRequest(
          server,
          { client_id: flow.clientId },
          (_server, _client, body, headers) => flow.authenticate(endpoint, body, headers),
          answer,
          flow.redirectUri,
          codeVerifier,
          http,
        ),
      flow.timeoutMs,
      { isJson: flow.requestFormat === 'json' },
    );
  } catch {
    throw new ProviderMisconfiguredError(subject, 'CLIENT_ASSERTION_FAILED'); // nothing was sent
  }
  const { answerRules } = flow;
  const terminalErrorCodes = [...(answerRules.terminalErrorCodes ?? []), ...REFUSED_CODES];
  const meaning = classifyTokenAnswer(outcome, { ...answerRules, terminalErrorCodes });
  switch (meaning.kind) {
    case 'success':
      return { tokens: meaning.tokens, fields: answerFields(bodyOf(outcome), answerRules) ?? {} };
    case 'terminal':
      throw new LinkRefusedError('provider_error', { idp, providerCode: meaning.code });
    case 'configuration':
      throw new ProviderMisconfiguredError(subject, meaning.code);
    case 'not-redeemed':
      throw new ProviderUnavailableError(
        idp,
        `the provider did not take the code (${meaning.code})`,
        meaning.retryAfterMs,
      );
    case 'ambiguous':
      throw new ProviderUnavailableError(
        idp,
        `the provider's answer to the code is lost (${meaning.code}). The provider may have issued tokens that the ` +
          'module does not have',
      );
  }
}

function bodyOf(outcome: HttpOutcome): string {
  return outcome.kind === 'answered' ? outcome.body : '';
}
