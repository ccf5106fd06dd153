import { IsBoolean, IsInt, IsOptional, Max, Min } from 'class-validator';

/** The network margin that an exchange leaves before its lease ends, in milliseconds. */
export const LEASE_MARGIN_MS = 1000;

/** The rules by which the module redeems the refresh tokens of one provider, with every default filled in. */
export interface RefreshPolicy {
  /**
   * The deadline of one request to the token endpoint, in milliseconds. It includes the body of the answer. Default: 10
   * s with a replay window, otherwise 15 s.
   */
  readonly exchangeTimeoutMs: number;
  /**
   * How long a lease lasts, in milliseconds. Until then, no other process may redeem the refresh token. Default: 12 s
   * with a replay window, otherwise 35 s. In 35 s there is time for one request, for a second one if the first answer
   * is lost, and for the question whether the old access token works.
   */
  readonly leaseMs: number;
  /**
   * How long after its first use the provider accepts a refresh token again, in milliseconds; 0 = the token is
   * single-use. The time counts from the first lease under which the token may have been sent. Default: 0; 24 h for
   * Azure DevOps, 10 min for Bitbucket Cloud.
   */
  readonly replayWindowMs: number;
  /**
   * How long a process that takes over an expired lease waits for the holder before it sends the refresh token, in
   * milliseconds. The delay counts only while no transaction has the row locked. If an outage of the database outlasts
   * the lease, the holder stores its pair soon after the outage: within 2 s if connections were refused or reset,
   * within twice `connectionTimeoutMs` if packets were dropped. Inside the replay window there is no delay. Default:
   * 3.5 s.
   */
  readonly takeoverDelayMs: number;
  /**
   * Whether an old access token stays valid after a refresh. Default: false; true for Azure DevOps and Bitbucket Cloud.
   */
  readonly oldAccessTokenSurvives: boolean;
  /**
   * Whether a refresh certainly ends the old access token. If true, the old access token tells what became of a refresh
   * whose answer is lost. While that is unknown, the module does not return the old access token. Default: false; true
   * for GitHub, GitLab and Bitbucket Data Center.
   */
  readonly refreshEndsAccessToken: boolean;
  /** How long before its expiry an access token counts as stale, in seconds. Default: `refresh.leewaySeconds`. */
  readonly leewaySeconds?: number;
}

/** The rules for the `policy` of a provider's options. An absent field gets the provider's default. */
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
 * Completes a policy from the operator's overrides and from what the module knows about the provider. With a replay
 * window the lease is short, because the module can send the refresh token again when an answer is lost. Without one
 * the lease is long, because no other process may send the token while the exchange can still succeed. If an override
 * sets `oldAccessTokenSurvives` or `refreshEndsAccessToken` to true, the default of the other one is false.
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
 * Returns what is wrong with a completed policy, or `undefined`. A provider of the host can have no policy, or one that
 * was made before a field existed. An absent boolean counts as false.
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
  const shortest = exchangeTimeoutMs + 2 * LEASE_MARGIN_MS; // one margin before the exchange, and one after it
  if (leaseMs >= shortest) return undefined;
  return (
    `leaseMs (${leaseMs}) must be at least exchangeTimeoutMs (${exchangeTimeoutMs}) + ${2 * LEASE_MARGIN_MS}, ` +
    'because another process can repeat an exchange that outlives its lease'
  );
}
