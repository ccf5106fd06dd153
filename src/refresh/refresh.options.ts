import { IsInt, Max, Min } from 'class-validator';

import type { OptionsOf } from '../options-validation.js';

/** How stale tokens are refreshed, whatever the provider. */
export type RefreshOptions = OptionsOf<RefreshSettings>;

/** {@link RefreshOptions} with their rules and defaults. */
export class RefreshSettings {
  /**
   * How long before its expiry an access token counts as stale, in seconds; never more than a tenth of its lifetime,
   * and spread by a quarter up and down, so that tokens issued together are not refreshed together.
   */
  @IsInt()
  @Min(0)
  @Max(86_400)
  leewaySeconds = 900;

  /** How long a caller waits for a refresh, its own or another's, in milliseconds. The refresh itself goes on. */
  @IsInt()
  @Min(0)
  @Max(600_000)
  waitTimeoutMs = 8000;

  /** Pause after the first failed refresh of a pair, in milliseconds; it doubles with each further failure. */
  @IsInt()
  @Min(1)
  @Max(3_600_000)
  backoffBaseMs = 1000;

  /** Longest of these pauses, unless the provider asks for a longer one. */
  @IsInt()
  @Min(1)
  @Max(86_400_000)
  backoffMaxMs = 60_000;

  /** How long callers wait for a refreshed pair to be stored before they get it unstored, in milliseconds. */
  @IsInt()
  @Min(0)
  @Max(600_000)
  commitWaitMs = 5000;

  /** How long the shutdown of the application waits for refreshes under way, in milliseconds. */
  @IsInt()
  @Min(0)
  @Max(3_600_000)
  shutdownTimeoutMs = 60_000;
}
