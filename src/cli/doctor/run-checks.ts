import { sqlStateOf, translateDriverError } from '../../postgres/driver-error.js';
import { TokensError } from '../../tokens-error.js';
import { within } from '../../within.js';
import type { DoctorContext, KnownConfiguration } from './doctor-context.js';
import { type Finding, findingsOf } from './finding.js';

const NO_TABLE = '42P01';

/** One check of the doctor. */
export interface Check {
  readonly name: string;
  readonly needsDatabase: boolean;
  /** What the check needs of the configuration. Without it the check does not run. */
  readonly needs?: keyof KnownConfiguration;
  /** How long the check may take, in milliseconds. */
  readonly deadlineMs: number;
  readonly run: (context: DoctorContext) => Promise<Finding[]>;
}

/** Options of {@link runChecks}. */
export interface RunChecksOptions {
  /** Without a database, the checks that need one do not run and have no finding. */
  readonly hasDatabase: boolean;
  /** Is called with an error of a check that is no error of the module. The finding has only its name. */
  readonly onProgramFault?: (check: string, error: Error) => void;
}

/**
 * Runs the checks and returns their findings in the order of the checks. A check that throws, or that takes longer than
 * its deadline, is a fault, and the others run. The checks that need the database run one after the other, because each
 * may use the whole pool. The other ones run beside them. Never rejects.
 */
export async function runChecks(
  checks: readonly Check[],
  context: DoctorContext,
  options: RunChecksOptions,
): Promise<Finding[]> {
  const { hasDatabase } = options;
  const findings = new Map<Check, Finding[]>();
  const run = async (check: Check): Promise<void> => {
    const isKnown = check.needs === undefined || context.knows[check.needs];
    if (isKnown) findings.set(check, await findingsOfCheck(check, context, options));
  };
  const inTurn = async (): Promise<void> => {
    for (const check of checks) if (check.needsDatabase && hasDatabase) await run(check);
  };
  await Promise.all([inTurn(), ...checks.filter(({ needsDatabase }) => !needsDatabase).map(run)]);
  return checks.flatMap((check) => findings.get(check) ?? []);
}

async function findingsOfCheck(
  check: Check,
  context: DoctorContext,
  { onProgramFault }: RunChecksOptions,
): Promise<Finding[]> {
  const { warning, fault } = findingsOf(check.name);
  try {
    // In an async function, because a check of the future may throw before it returns a promise.
    const running = (async () => check.run(context))();
    return await within(running, check.deadlineMs, () => [
      fault(
        `The check did not end within ${check.deadlineMs / 1000} s.`,
        'Look for a server that does not answer, or for a lock that another session holds, and run the doctor again.',
      ),
    ]);
  } catch (error) {
    const translated = translateDriverError(error, `run the check "${check.name}"`);
    if (sqlStateOf(translated) === NO_TABLE) {
      // The check of the migrations has the fault.
      return [
        warning('A table is missing, so this was not checked.', 'Run idp-tokens migrate, and then the doctor again.'),
      ];
    }
    // The message says what to do too.
    if (translated instanceof TokensError)
      return [fault(translated.message, 'Do what it says, and run the doctor again.')];
    onProgramFault?.(check.name, translated);
    return [
      fault(`The check failed by ${translated.name}.`, 'Run the doctor with --debug, and report what it prints.'),
    ];
  }
}
