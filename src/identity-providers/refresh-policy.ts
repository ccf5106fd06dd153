import { IsBoolean, IsInt, IsOptional, Max, Min } from 'class-validator';

/** The network margin that an exchange leaves before its lease ends, in milliseconds. */
export const LEASE_MARGIN_MS = 1000;

/** How refresh tokens of one provider may be redeemed, with every default filled in. */
export interface RefreshPolicy {
  /** Deadline of one request to the token endpoint, its body included. Default: 10 s with a replay window, else 15 s. */
  readonly exchangeTimeoutMs: number;
  /**
   * How long one exchange owns the refresh token. Default: 12 s with a replay window, else 35 s, which is enough for a
   * request, a second one when the answer to the first is lost, and the question whether the old access token lives.
   */
  readonly leaseMs: number;
  /**
   * How long after its first use the provider accepts a refresh token again; 0 = it is single-use. Counted from the
   * lease under which the token may first have been sent.
   */
  readonly replayWindowMs: number;
  /**
   * How long the process that takes over a lease that ran out waits for its holder before it sends the token, in
   * milliseconds, counted while no transaction has the row locked. After an outage of the database that outlasted the
   * lease, the holder brings its pair as soon as it can: within 2 s where connections were refused or reset, within twice
   * `connectionTimeoutMs` where packets were dropped. Not waited for inside the replay window. Default: 3.5 s.
   */
  readonly takeoverDelayMs: number;
  /** Whether access tokens issued before a refresh stay valid after it. Default: false. */
  readonly oldAccessTokenSurvives: boolean;
  /**
   * Whether a refresh certainly ends the access token issued before it. Then the old access token tells what became of a
   * refresh whose answer was lost, and is not handed out while that is unknown. Default: false; true for GitHub, GitLab and
   * Bitbucket Data Center.
   */
  readonly refreshEndsAccessToken: boolean;
  /** How long before its expiry an access token counts as stale, in seconds. Default: `refresh.leewaySeconds`. */
  readonly leewaySeconds?: number;
}

/** The rules for the `policy` of a provider's options: what is left out takes the provider's default. */
export class RefreshPolicySettings implements Partial<RefreshPolicy> {
  @IsOptional()
  @IsInt()
  @Min(100)
  @Max(600_000)
  exchangeTimeoutMs?: number;

  @IsOptional()
  @IsInt()
  @Min(100 + 2 * LEASE_MARGIN_MS)
  @Max(3_600_000)
  leaseMs?: number;

  @IsOptional()
  @IsInt()
  @Min(0)
  replayWindowMs?: number;

  @IsOptional()
  @IsInt()
  @Min(0)
  @Max(60_000)
  takeoverDelayMs?: number;

  @IsOptional()
  @IsBoolean()
  oldAccessTokenSurvives?: boolean;

  @IsOptional()
  @IsBoolean()
  refreshEndsAccessToken?: boolean;

  @IsOptional()
  @IsInt()
  @Min(0)
  leewaySeconds?: number;
}

/**
 * Completes a policy from the operator's overrides and what is known of the provider. With a replay window a lost
 * answer can be asked for again, so the lease is short; a single-use token is kept from everybody else until its
 * exchange cannot succeed any more. An operator who says that the old access token survives a refresh, or
 * that a refresh ends it, overrides the provider's default for the opposite too.
 */
export function completePolicy(
  overrides: Partial<RefreshPolicy> = {},
  known: Pick<Partial<RefreshPolicy>, 'replayWindowMs' | 'oldAccessTokenSurvives' | 'refreshEndsAccessToken'> = {},
): RefreshPolicy {
  const replayWindowMs = overrides.replayWindowMs ?? known.replayWindowMs ?? 0;
  const isReplayable = replayWindowMs > 0;
  const { oldAccessTokenSurvives, refreshEndsAccessToken } = overrides;
  return {
    exchangeTimeoutMs: overrides.exchangeTimeoutMs ?? (isReplayable ? 10_000 : 15_000),
    leaseMs: overrides.leaseMs ?? (isReplayable ? 12_000 : 35_000),
    replayWindowMs,
    takeoverDelayMs: overrides.takeoverDelayMs ?? 3500,
    oldAccessTokenSurvives:
      oldAccessTokenSurvives ?? (!refreshEndsAccessToken && (known.oldAccessTokenSurvives ?? false)),
    refreshEndsAccessToken:
      refreshEndsAccessToken ?? (!oldAccessTokenSurvives && (known.refreshEndsAccessToken ?? false)),
    leewaySeconds: overrides.leewaySeconds,
  };
}

/**
 * What is wrong with a completed policy, or `undefined`. A provider of the host may come without one, or with one that was
 * made before a field of it existed: a yes-or-no that is missing counts as false.
 */
export function policyFault(policy: RefreshPolicy | null | undefined): string | undefined {
  if (!policy) return 'it is missing: make one with completePolicy()';
  const { exchangeTimeoutMs, leaseMs, replayWindowMs, takeoverDelayMs, leewaySeconds = 0 } = policy;
  if (
    ![exchangeTimeoutMs, leaseMs, replayWindowMs, takeoverDelayMs, leewaySeconds].every(
      (figure) => Number.isFinite(figure) && figure >= 0,
    )
  ) {
    return 'exchangeTimeoutMs, leaseMs, replayWindowMs, takeoverDelayMs and leewaySeconds must be numbers from 0 on';
  }
  const flags: unknown[] = [policy.oldAccessTokenSurvives, policy.refreshEndsAccessToken];
  if (!flags.every((flag) => flag === undefined || typeof flag === 'boolean')) {
    return 'oldAccessTokenSurvives and refreshEndsAccessToken must be boolean values';
  }
  if (policy.oldAccessTokenSurvives && policy.refreshEndsAccessToken) {
    return 'oldAccessTokenSurvives and refreshEndsAccessToken contradict each other: set one of them to false';
  }
  const shortest = exchangeTimeoutMs + 2 * LEASE_MARGIN_MS; // one for the way to the database, one for the end
  if (leaseMs >= shortest) return undefined;
  return (
    `leaseMs (${leaseMs}) must be at least exchangeTimeoutMs (${exchangeTimeoutMs}) + ${2 * LEASE_MARGIN_MS}: ` +
    'an exchange that outlives its lease would be started twice'
  );
}
