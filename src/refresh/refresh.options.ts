import { IsInt, Max, Min } from 'class-validator';

import type { OptionsOf } from '../options-validation.js';

/**
 * Options of the refresh, for all providers.
 *
 * @interface
 */
export type RefreshOptions = OptionsOf<Partial<RefreshSettings>>;

/** {@link RefreshOptions} with their rules and defaults. */
export class RefreshSettings {
  /**
   * How long before its expiry an access token counts as stale, in seconds. At most a tenth of its lifetime counts. The
   * module spreads this time by a quarter up and down, because tokens that were issued together would otherwise be
   * refreshed together.
   */
  @IsInt()
  @Min(0)
  @Max(86_400)
  leewaySeconds = 900;

  /**
   * How long a caller waits for a refresh by this or another process, in milliseconds. The refresh goes on after that.
   */
  @IsInt()
  @Min(0)
  @Max(600_000)
  waitTimeoutMs = 8000;

  /** Pause after the first failed refresh of a pair, in milliseconds; it doubles with each further failure. */
  @IsInt()
  @Min(1)
  @Max(3_600_000)
  backoffBaseMs = 1000;

  /** Longest of these pauses, in milliseconds, unless the provider asks for a longer one. */
  @IsInt()
  @Min(1)
  @Max(86_400_000)
  backoffMaxMs = 60_000;

  /** How long callers wait until a refreshed pair is stored, in milliseconds. After that they get the pair unstored. */
  @IsInt()
  @Min(0)
  @Max(600_000)
  commitWaitMs = 5000;

  /** How long the shutdown of the application waits for refreshes and revocations under way, in milliseconds. */
  @IsInt()
  @Min(0)
  @Max(3_600_000)
  shutdownTimeoutMs = 60_000;
}
