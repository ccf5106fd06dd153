import { checkClock } from './check-clock.js';
import { checkDurability } from './check-durability.js';
import { checkKeycloak } from './check-keycloak.js';
import { checkKeys } from './check-keys.js';
import { checkPool } from './check-pool.js';
import { checkPreparedStatements } from './check-prepared-statements.js';
import { checkPrivileges } from './check-privileges.js';
import { checkProviders, PROVIDER_DEADLINE_MS } from './check-providers.js';
import { checkSample } from './check-sample.js';
import { checkSchema } from './check-schema.js';
import { checkServer } from './check-server.js';
import { checkTimeouts } from './check-timeouts.js';
import { checkUpdates } from './check-updates.js';
import type { Check } from './run-checks.js';

/** Longer than the wait of the doctor for one statement, so that the finding names the statement. */
const DEADLINE_MS = 15_000;
/** For a check that reads every row of the tables. */
const LONG_DEADLINE_MS = 300_000;

const onDatabase = (name: string, run: Check['run'], deadlineMs = DEADLINE_MS): Check => {
  return { name, run, deadlineMs, needsDatabase: true };
};

/** The checks of the doctor, in the order of their findings. */
export const CHECKS: readonly Check[] = [
  onDatabase('server', checkServer),
  onDatabase('migrations', checkSchema),
  onDatabase('privileges', checkPrivileges),
  onDatabase('clock', checkClock),
  onDatabase('prepared statements', checkPreparedStatements),
  onDatabase('timeouts', checkTimeouts),
  onDatabase('pool', checkPool),
  onDatabase('keys', checkKeys, LONG_DEADLINE_MS),
  onDatabase('sample', checkSample, LONG_DEADLINE_MS),
  onDatabase('updates', checkUpdates),
  onDatabase('durability', checkDurability),
  { name: 'providers', run: checkProviders, needsDatabase: false, deadlineMs: PROVIDER_DEADLINE_MS + 5_000 },
  { name: 'keycloak', run: checkKeycloak, needsDatabase: false, deadlineMs: 60_000 },
];
