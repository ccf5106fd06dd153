/** The counts of the answers that the authorization server has given since its start. */
export interface RequestCounts {
  /** Authorization codes exchanged for tokens. */
  readonly codeGrants: number;
  /** Refresh tokens redeemed. */
  readonly refreshGrants: number;
  /** Requests to the token endpoint that were answered with an error, for every grant type. */
  readonly refusedGrants: number;
  /** Requests to the revocation endpoint answered with success. */
  readonly revocations: number;
}

/** The path at which the authorization server serves its counts, beside the endpoints of the protocol. */
export const COUNTS_PATH = '/request-counts';

export function isRequestCounts(value: unknown): value is RequestCounts {
  return (
    typeof value === 'object' &&
    value !== null &&
    ['codeGrants', 'refreshGrants', 'refusedGrants', 'revocations'].every(
      (name) => typeof Reflect.get(value, name) === 'number',
    )
  );
}
