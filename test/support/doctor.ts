import { DataSource, type DataSourceOptions } from 'typeorm';

import { CHECKS } from '../../src/cli/doctor/checks.js';
import { DoctorContext, type KnownConfiguration } from '../../src/cli/doctor/doctor-context.js';
import type { Finding, FindingLevel } from '../../src/cli/doctor/finding.js';
import { runChecks } from '../../src/cli/doctor/run-checks.js';
import type { TokensModuleOptions } from '../../src/index.js';
import { tokensEntities } from '../../src/storage/tokens-entities.js';
import { loadTokensSettings } from '../../src/tokens.options.js';
import { TEST_KEY } from './tokens-app.js';

/** What the doctor is asked about. */
export interface Patient {
  /** The database, without the pooler of the suites. */
  readonly url: string;
  readonly tokens?: Partial<TokensModuleOptions>;
  readonly dataSource?: object;
  readonly knows?: KnownConfiguration;
  /** Default: true. Without a database the data source is not opened. */
  readonly hasDatabase?: boolean;
}

/** Runs the checks of these names, and returns what they find. The data source is new, so it sees new settings. */
export async function examine(patient: Patient, ...names: string[]): Promise<Finding[]> {
  const { url, tokens, dataSource: more, knows, hasDatabase = true } = patient;
  const unknown = names.filter((name) => CHECKS.every((check) => check.name !== name));
  if (unknown.length > 0) throw new Error(`The doctor has no check ${unknown.join(', ')}.`);
  const settings = await loadTokensSettings({ encryption: { keys: [TEST_KEY] }, identityProviders: {}, ...tokens });
  const options = { type: 'postgres', url, entities: tokensEntities, ...more } as DataSourceOptions;
  const dataSource = new DataSource(options);
  if (hasDatabase) await dataSource.initialize();
  try {
    const checks = CHECKS.filter(({ name }) => names.length === 0 || names.includes(name));
    return await runChecks(checks, new DoctorContext(dataSource, settings, knows), {
      hasDatabase,
      onProgramFault: (_, error) => {
        throw error; // a test wants to see it, and Jest prints its stack
      },
    });
  } finally {
    if (hasDatabase) await dataSource.destroy();
  }
}

/** Returns the finding of this name, or of this name and level. */
export function findingOf(findings: readonly Finding[], check: string, level?: FindingLevel): Finding {
  const found = findings.filter((each) => each.check === check && (level === undefined || each.level === level));
  const [finding] = found;
  if (found.length !== 1 || !finding) throw new Error(`Not one finding of ${check}: ${JSON.stringify(findings)}`);
  return finding;
}
