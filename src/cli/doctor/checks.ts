import { checkClock } from './check-clock.js';
import { checkConfiguration } from './check-configuration.js';
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
import { checkConnectionTimeout, checkStatementTimeout } from './check-timeouts.js';
import { checkUpdates } from './check-updates.js';
import type { Check } from './run-checks.js';

/** Longer than the wait of the doctor for one statement, so that the finding names the statement. */
const DEADLINE_MS = 15_000;
/** For a check that reads every row of the tables. A million rows take seconds. */
const LONG_DEADLINE_MS = 60_000;

/** Keycloak has a deadline of its own for each request, which the options set. */
const KEYCLOAK_DEADLINE_MS = 60_000;

/** The checks of the doctor, in the order of their findings. */
export const CHECKS: readonly Check[] = [
  { name: 'configuration', run: checkConfiguration, needsDatabase: false, deadlineMs: DEADLINE_MS },
  onDatabase('server', checkServer),
  onDatabase('migrations', checkSchema),
  onDatabase('privileges', checkPrivileges),
  onDatabase('clock', checkClock),
  onDatabase('prepared statements', checkPreparedStatements),
  onDatabase('statement timeout', checkStatementTimeout),
  withOptions('connection timeout', checkConnectionTimeout, DEADLINE_MS),
  { ...onDatabase('pool', checkPool), needs: 'options' },
  { ...onDatabase('keys', checkKeys, LONG_DEADLINE_MS), needs: 'keys' },
  { ...onDatabase('sample', checkSample, LONG_DEADLINE_MS), needs: 'keys' },
  onDatabase('hot updates', checkUpdates),
  onDatabase('durability', checkDurability),
  withOptions('providers', checkProviders, PROVIDER_DEADLINE_MS + 5000),
  withOptions('keycloak', checkKeycloak, KEYCLOAK_DEADLINE_MS),
];

function onDatabase(name: string, run: Check['run'], deadlineMs = DEADLINE_MS): Check {
  return { name, run, deadlineMs, needsDatabase: true };
}

function withOptions(name: string, run: Check['run'], deadlineMs: number): Check {
  return { name, run, deadlineMs, needsDatabase: false, needs: 'options' };
}
