import { seconds, TokensError } from './tokens-error.js';

/** Why an account was not linked. */
export type LinkRefusalReason =
  'unknown_attempt' | 'expired' | 'other_user' | 'denied' | 'issuer_mismatch' | 'account_mismatch' | 'provider_error';

const LINK_REFUSALS: Record<LinkRefusalReason, string> = {
  unknown_attempt: 'there is no such attempt, or it has been finished already',
  expired: 'the attempt has expired',
  other_user: 'another user began the attempt',
  denied: 'the user did not consent at the provider',
  issuer_mismatch: 'another server answered than the one that was asked',
  account_mismatch:
    'the user logged in at the provider with another account than the connected one. The stored tokens are untouched. ' +
    'To replace the account, begin with replaceAccount',
  provider_error: "the provider's answer cannot be used",
};

/** An attempt to link an account did not succeed. Nothing was stored. The user can begin again. */
export class LinkRefusedError extends TokensError {
  readonly code = 'ERR_TOKENS_LINK_REFUSED';
  readonly retryable = false;
  /** The provider of the attempt; undefined if no attempt was found. */
  readonly idp: string | undefined;
  /** The OAuth error code or the status of the provider's answer, or a code of the module; never a text of others. */
  readonly providerCode: string | undefined;

  constructor(
    readonly reason: LinkRefusalReason,
    { idp, providerCode }: { readonly idp?: string | undefined; readonly providerCode?: string | undefined } = {},
  ) {
    const where = idp === undefined ? '' : ` at identity provider "${idp}"`;
    const code = providerCode === undefined ? '' : ` (${providerCode})`;
    super(`The account${where} was not linked, because ${LINK_REFUSALS[reason]}${code}. Let the user begin again.`);
    this.idp = idp;
    this.providerCode = providerCode;
  }
}

/** The provider gives no usable answer while a user links an account. The user can begin again later. */
export class ProviderUnavailableError extends TokensError {
  readonly code = 'ERR_TOKENS_PROVIDER_UNAVAILABLE';
  readonly retryable = true;

  constructor(
    readonly idp: string,
    /** A clause without a full stop: the message has it after "because". */
    cause: string,
    /** A sensible pause before the next attempt, in milliseconds. */
    readonly retryAfterMs = 1000,
  ) {
    super(
      `The account at identity provider "${idp}" was not linked, because ${cause}. ` +
        `Let the user begin again in ${seconds(retryAfterMs)} s.`,
    );
  }
}
