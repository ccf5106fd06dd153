import { IsOptional, ValidateBy } from 'class-validator';

import { IsBaseUrl, IsEndpoint } from '../oauth-http/endpoint-url.js';
import { IsFunction, isPlainObject } from '../options-validation.js';
import type { ReadAccount } from './code-flow.js';

/** Parameters of an authorization request that the module sets itself. */
const OWN_PARAMETERS = new Set([
  'response_type',
  'response_mode',
  'client_id',
  'redirect_uri',
  'scope',
  'state',
  'nonce',
  'code_challenge',
  'code_challenge_method',
  'request',
  'request_uri',
]);

/** The characters of one scope. @see RFC 6749 section 3.3 */
const SCOPE = /^[\x21\x23-\x5b\x5d-\x7e]{1,255}$/;

/** Returns whether a value is one scope, as RFC 6749 section 3.3 writes it. */
export function isScope(value: unknown): value is string {
  return typeof value === 'string' && SCOPE.test(value);
}

/** The options by which users connect accounts at a provider. Only {@link AccountLinks} uses them. */
export class CodeFlowSettings {
  /**
   * The URL to which the provider sends the browser back, exactly as it is registered there. Without it the module
   * connects no accounts at this provider. Each provider needs a URL of its own, because it tells whose answer arrives.
   * @see RFC 9700 section 4.4
   */
  @IsOptional()
  @IsEndpoint()
  redirectUri?: string;

  /** The scopes that every authorization request asks for. Default: none, so that the provider decides. */
  @IsOptional()
  @ValidateBy({
    name: 'scopes',
    validator: {
      validate: (value) => Array.isArray(value) && value.every(isScope),
      defaultMessage: () => '$property must be a list of scopes, each of them a text without blanks and quotes',
    },
  })
  scopes?: readonly string[];

  /** The endpoint to which the module sends the browser. Default: the one of the provider. @see RFC 6749 section 3.1 */
  @IsOptional()
  @IsEndpoint()
  authorizationEndpoint?: string;

  /**
   * The issuer of the provider. The module asks it for every endpoint that the options leave out, when it needs the
   * first one. It checks by the issuer who answers an authorization request, and the ID token. @see OpenID Connect
   * Discovery 1.0, RFC 8414, RFC 9207
   */
  @IsOptional()
  @IsBaseUrl()
  issuer?: string;

  /** Parameters of every authorization request, such as `prompt` or `access_type`. */
  @IsOptional()
  @ValidateBy({
    name: 'authorizationParameters',
    validator: {
      validate: (value) =>
        isPlainObject(value) &&
        Object.entries(value).every(([name, text]) => typeof text === 'string' && !OWN_PARAMETERS.has(name)),
      defaultMessage: () =>
        `$property must be an object of texts, without ${[...OWN_PARAMETERS].join(', ')}, which the module sets`,
    },
  })
  authorizationParameters?: Readonly<Record<string, string>>;

  /**
   * The endpoint that answers a GET with the access token by the account, as JSON. Default: GitHub, GitLab and Bitbucket
   * Cloud their own, every other provider none, because the ID token tells the account.
   */
  @IsOptional()
  @IsEndpoint()
  accountEndpoint?: string;

  /**
   * Reads the account from the answer of `accountEndpoint`. Without this endpoint it reads the claims of the ID token,
   * or the token answer if there is no ID token. Default: `sub` or `id`, and the usual names.
   */
  @IsOptional()
  @IsFunction({ isAsyncAllowed: false })
  readAccount?: ReadAccount;
}

/** Returns what the rules of the single options cannot check, one sentence for each fault. */
export function codeFlowFaults({ scopes, issuer }: CodeFlowSettings): string[] {
  if (!Array.isArray(scopes) || !scopes.includes('openid') || issuer) return [];
  return ['issuer is missing: the module cannot check the ID token of the scope openid without it'];
}
