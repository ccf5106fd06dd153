/** What the authorization server has answered since it started. */
export interface RequestCounts {
  /** Authorization codes exchanged for tokens. */
  readonly codeGrants: number;
  /** Refresh tokens redeemed. */
  readonly refreshGrants: number;
  /** Requests to the token endpoint answered with an error, whatever they asked for. */
  readonly refusedGrants: number;
  /** Requests to the revocation endpoint answered with success. */
  readonly revocations: number;
}

/** Where the authorization server tells its counts, beside the endpoints of the protocol. */
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
