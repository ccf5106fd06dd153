import type { DoctorContext } from './doctor-context.js';
import { type Finding, findingsOf } from './finding.js';

const { ok, warning, fault } = findingsOf('clock');

const TRIES = 5;
const WARNING_SECONDS = 1;
/** {@link AuthTokenStore.isAccessTokenValid} and the checks of signed tokens have a margin of this length. */
const FAULT_SECONDS = 30;

/**
 * Does the clock of this machine agree with that of the database? The module itself compares no clock with a column.
 * The expiries that the host stores, and the times in signed tokens, are of this clock.
 */
export async function checkClock(context: DoctorContext): Promise<Finding[]> {
  let best = { aheadMs: 0, uncertainMs: Infinity };
  for (let attempt = 0; attempt < TRIES; attempt++) {
    const sent = Date.now();
    const started = performance.now();
    const { now_ms } = await context.row(
      'read the clock of the database',
      `SELECT date_part('epoch', clock_timestamp()) * 1000 AS now_ms`,
    );
    const uncertainMs = (performance.now() - started) / 2;
    if (uncertainMs < best.uncertainMs) best = { aheadMs: sent + uncertainMs - Number(now_ms), uncertainMs };
  }
  return [clockFinding(best, context.settings.refresh.leewaySeconds)];
}

/** Judges how far a clock is ahead of the other one. The clocks may agree better than this by `uncertainMs`. */
export function clockFinding(
  { aheadMs, uncertainMs }: { aheadMs: number; uncertainMs: number },
  leewaySeconds: number,
): Finding {
  const seconds = Math.max(0, Math.abs(aheadMs) - uncertainMs) / 1000;
  if (seconds <= WARNING_SECONDS) return ok(`The clocks of this machine and of the database agree within 1 s.`);
  const shown = `${Math.round(seconds).toLocaleString('en')} s`;
  const message = `The clock of this machine is ${shown} ${aheadMs > 0 ? 'ahead of' : 'behind'} that of the database.`;
  const remedy =
    'Synchronise both clocks, for example by chrony. Expiries that the host stores are of the clock of its machine.';
  return seconds > Math.min(FAULT_SECONDS, leewaySeconds) ? fault(message, remedy) : warning(message, remedy);
}
