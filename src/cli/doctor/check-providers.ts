import { randomBytes } from 'node:crypto';

import { refreshAt } from '../../identity-providers/checked-answer.js';
import type { IdentityProvider, RefreshAnswer } from '../../identity-providers/identity-provider.js';
import { OAuth2Provider } from '../../identity-providers/oauth2.provider.js';
import { within } from '../../within.js';
import type { DoctorContext } from './doctor-context.js';
import { type Finding, findingsOf } from './finding.js';

/** How long the doctor waits for one provider. A refresh may wait longer, by the policy of the provider. */
export const PROVIDER_DEADLINE_MS = 15_000;
const LATE = { kind: 'ambiguous', code: 'TIMEOUT' } as const;
const CERTIFICATE = /CERT|SELF_SIGNED|UNABLE_TO_|^ERR_(SSL|TLS)_|^EPROTO$|HOSTNAME_MISMATCH/;
/** The codes of an issuer whose metadata the module cannot use. */
const UNUSABLE_METADATA = /^(OTHER_ISSUER|NO_TOKEN_ENDPOINT|UNUSABLE_\w+)$/;

/**
 * Does each provider answer, and does it accept the client? It asks for a refresh with a random token that no provider
 * has issued, by the code of the module. Nothing is stored, and no token of a user is sent.
 */
export async function checkProviders({ settings }: DoctorContext): Promise<Finding[]> {
  const providers = [...settings.identityProviders];
  if (providers.length === 0) return [findingsOf('providers').ok('No identity provider is configured.')];
  const findings = await Promise.all(
    providers.map(async ([idp, provider]) => {
      const asking = refreshAt(provider, impossibleToken());
      return providerFinding(idp, await within(asking, PROVIDER_DEADLINE_MS, () => LATE), endpointOf(provider));
    }),
  );
  return findings;
}

/** Returns a refresh token that no provider has issued: 256 random bits, in the characters that tokens have. */
export function impossibleToken(): string {
  return `doctor${randomBytes(32).toString('hex')}`;
}

/** Returns the token endpoint, or the issuer that names it. */
function endpointOf(provider: IdentityProvider): string | undefined {
  if (!(provider instanceof OAuth2Provider)) return undefined;
  const options = provider.toJSON();
  const endpoint: unknown = Reflect.get(options, 'tokenEndpoint') ?? Reflect.get(options, 'issuer');
  return typeof endpoint === 'string' ? endpoint : undefined;
}

/** Judges the answer of a provider to a refresh token that cannot exist. */
export function providerFinding(idp: string, answer: RefreshAnswer, endpoint?: string): Finding {
  const findings = findingsOf(`provider ${idp}`);
  const { ok, warning, fault } = findings;
  const options = `identityProviders.${idp}`;
  const place = endpoint === undefined ? 'The provider object of the host' : placeOf(endpoint);
  if (answer.kind === 'success') {
    return fault(
      `${place} issued tokens for a refresh token that does not exist, so it is no token endpoint of a provider.`,
      `Correct the URLs in ${options}.`,
    );
  }
  const { code } = answer;
  switch (answer.kind) {
    case 'terminal': {
      const message = `${place} refuses a token that cannot exist by ${code}, and it does not refuse the client.`;
      if (endpoint === undefined || isEncrypted(endpoint)) return ok(message);
      return warning(`${message} The connection is not encrypted.`, `Use https in ${options}.`);
    }
    case 'not-redeemed':
      return /^(http_|RATE_LIMITED$|[a-z])/.test(code)
        ? warning(`${place} puts requests off (${code}), so the client was not checked.`, 'Run the doctor again later.')
        : fault(`${place} cannot be reached (${code}).`, unreachedRemedy(code, options));
    case 'ambiguous':
      return ambiguousFinding(findings, place, code, options);
    case 'configuration':
      return refusedFinding(findings, place, code, options);
  }
}

function refusedFinding(
  { warning, fault }: ReturnType<typeof findingsOf>,
  place: string,
  code: string,
  options: string,
) {
  if (/^http_3/.test(code)) {
    return fault(
      `${place} redirects (${code}). The module follows no redirect, because it would send the refresh token on.`,
      `Set the URLs in ${options} to those that the provider redirects to, if they are the provider's.`,
    );
  }
  if (code === 'unsupported_grant_type') {
    return warning(
      `${place} has no refresh (${code}).`,
      'Users connect the account again when the access token expires.',
    );
  }
  if (code === 'unauthorized_client') {
    // RFC 6749 means the grant by it. Keycloak means wrong credentials.
    return fault(
      `${place} refuses the client (${code}).`,
      `Correct clientId and clientSecret in ${options}, and allow the client the grant refresh_token at the provider.`,
    );
  }
  if (code === 'invalid_request') {
    return warning(
      `${place} answers ${code}, which tells nothing about the client.`,
      'Look at the next refresh of a user. If users of deleted grants get it too, see terminalErrorCodes.',
    );
  }
  if (UNUSABLE_METADATA.test(code)) {
    return fault(
      `${place} names no token endpoint that the module can use (${code}).`,
      `Correct the issuer in ${options}, or name the tokenEndpoint there.`,
    );
  }
  if (code === 'http_404' || code === 'http_405') {
    return fault(`${place} has no token endpoint (${code}).`, `Correct the URLs in ${options}.`);
  }
  return fault(
    `${place} refuses the client (${code}).`,
    `Correct clientId, clientSecret or clientAuthentication in ${options}. The grants of users are untouched.`,
  );
}

function ambiguousFinding(
  { warning, fault }: ReturnType<typeof findingsOf>,
  place: string,
  code: string,
  options: string,
) {
  if (code === 'UNREADABLE_ANSWER' || code === 'INVALID_ANSWER') {
    return fault(`${place} gives no answer of a token endpoint (${code}).`, `Correct the URLs in ${options}.`);
  }
  if (/^http_|^[a-z]/.test(code)) {
    return warning(`${place} answers ${code}, so the client was not checked.`, 'Run the doctor again later.');
  }
  return fault(`${place} gives no complete answer (${code}).`, unreachedRemedy(code, options));
}

function unreachedRemedy(code: string, options: string): string {
  if (CERTIFICATE.test(code)) {
    return 'Let the process trust the certificate (NODE_EXTRA_CA_CERTS), or let the provider renew it.';
  }
  return `Check the URLs in ${options}, and that this machine reaches them, by a proxy if it needs one. See docs/guides/outgoing-network.md.`;
}

/** Returns an endpoint without its query, which can have a secret. */
function placeOf(endpoint: string): string {
  const { origin, pathname } = new URL(endpoint);
  return `${origin}${pathname}`;
}

/** Whether a connection is encrypted, or does not leave the machine. */
export function isEncrypted(url: string): boolean {
  const { protocol, hostname } = new URL(url);
  return protocol === 'https:' || /^(localhost|127(\.\d+){3}|\[::1\])$/.test(hostname);
}
