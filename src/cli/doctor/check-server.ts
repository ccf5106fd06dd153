import type { DoctorContext } from './doctor-context.js';
import { type Finding, findingsOf } from './finding.js';

const { ok, warning, fault } = findingsOf('server');

const OLDEST = 13;
const NEWEST = 18;
/** The round trip of a network that is near. A read of a token is one round trip. */
const FAR_MS = 50;
const ROUND_TRIPS = 5;

/** Is the server one of the supported versions, and how far away is it? Names the role and the database. */
export async function checkServer(context: DoctorContext): Promise<Finding[]> {
  const row = await context.row(
    'read the version of the server',
    `SELECT current_setting('server_version_num') AS number, current_setting('server_version') AS version,
       current_user AS role, current_database() AS database`,
  );
  let roundTripMs = Infinity;
  for (let trip = 0; trip < ROUND_TRIPS; trip++) {
    const start = performance.now();
    await context.row('measure the round trip', 'SELECT 1');
    roundTripMs = Math.min(roundTripMs, performance.now() - start);
  }
  const [version = ''] = String(row.version).split(' ');
  return [
    serverFinding({
      major: Math.floor(Number(row.number) / 10_000),
      version,
      roundTripMs,
      place: `database "${String(row.database)}", role "${String(row.role)}"`,
    }),
  ];
}

/** Judges a version and the shortest of some round trips. */
export function serverFinding(seen: { major: number; version: string; roundTripMs: number; place: string }): Finding {
  const { major, version, roundTripMs, place } = seen;
  const message = `PostgreSQL ${version}, ${place}, ${roundTripMs.toFixed(1)} ms for a round trip.`;
  if (major < OLDEST) return fault(message, `Use PostgreSQL ${OLDEST} or newer.`);
  if (major > NEWEST) {
    return warning(
      message,
      `This version of the module was tested with PostgreSQL ${OLDEST} to ${NEWEST}. Look for a newer one.`,
    );
  }
  if (roundTripMs <= FAR_MS) return ok(message);
  return warning(message, 'Run the processes near the database: each read of a token waits for a round trip.');
}
