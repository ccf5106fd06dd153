import * as oauth from 'oauth4webapi';

import type { CodeFlow } from '../identity-providers/code-flow.js';
import { DiscoveryError, type ServerMetadata } from '../identity-providers/server-metadata.js';
import { type LinkRefusalReason, LinkRefusedError, ProviderUnavailableError } from '../link.errors.js';
import { type Fields, parseFields } from '../oauth-http/answer-fields.js';
import { exchange } from '../oauth-http/http-exchange.js';
import { responseOf, sentBy } from '../oauth-http/oauth-request.js';
import { retryAfter } from '../oauth-http/retry-after.js';

/** By how much the clocks of the server and of this process may differ, in seconds. */
const CLOCK_TOLERANCE_SECONDS = 60;
/** The deadline of the request for the keys of the server, in milliseconds. */
const KEYS_TIMEOUT_MS = 5000;

/**
 * Checks an ID token and returns its claims: the signature by the keys of the server, the issuer, the audience and the
 * authorized party, the expiry and the nonce. An ID token with a shared secret (HS256) is refused. The time of issue is
 * not checked, because the nonce tells that the server issued the ID token for this attempt.
 *
 * @throws {@link LinkRefusedError} when a check fails, and when there is no ID token
 * @throws {@link ProviderUnavailableError} when the server does not give its keys
 * @see OpenID Connect Core 1.0 section 3.1.3.7
 */
export async function checkedClaims(
  idToken: unknown,
  { idp, flow, server, nonce }: { idp: string; flow: CodeFlow; server: ServerMetadata; nonce: string },
): Promise<Fields> {
  const client = { client_id: flow.clientId, [oauth.clockTolerance]: CLOCK_TOLERANCE_SECONDS };
  // The module has read the token answer, which can have another form. Only its ID token is checked here.
  const answer = Response.json({ access_token: '-', token_type: 'bearer', id_token: idToken });
  try {
    const read = await oauth.processAuthorizationCodeResponse(server, client, answer, {
      expectedNonce: nonce,
      requireIdToken: true,
    });
    await oauth.validateApplicationLevelSignature(server, answer, sentBy(getKeys, true));
    const claims = { ...oauth.getValidatedIdTokenClaims(read) };
    if (claims.azp === undefined || claims.azp === flow.clientId) return claims;
  } catch (error) {
    if (error instanceof DiscoveryError) {
      throw new ProviderUnavailableError(
        idp,
        `the provider did not give the keys of its ID tokens (${error.code}). The new tokens are not stored`,
        error.retryAfterMs,
      );
    }
    if (isOfOtherIssuer(error)) throw refused('issuer_mismatch', idp);
  }
  throw refused('provider_error', idp);
}

function refused(reason: LinkRefusalReason, idp: string): LinkRefusedError {
  return new LinkRefusedError(reason, { idp, providerCode: 'INVALID_ID_TOKEN' });
}

async function getKeys(url: string, { headers }: { readonly headers: Record<string, string> }): Promise<Response> {
  const outcome = await exchange({ method: 'GET', url, headers }, KEYS_TIMEOUT_MS);
  if (outcome.kind !== 'answered') throw new DiscoveryError('unavailable', outcome.code);
  const { status, headers: answered, body } = outcome;
  if (status !== 200) throw new DiscoveryError('unavailable', `http_${status}`, retryAfter(answered));
  // A page of a server in between says nothing about the ID token.
  if (!Array.isArray(parseFields(body)?.keys)) throw new DiscoveryError('unavailable', 'UNREADABLE_ANSWER');
  return responseOf(outcome);
}

function isOfOtherIssuer(error: unknown): boolean {
  if (!(error instanceof oauth.OperationProcessingError) || error.code !== oauth.JWT_CLAIM_COMPARISON) return false;
  const { cause } = error;
  return typeof cause === 'object' && cause !== null && 'claim' in cause && cause.claim === 'iss';
}
