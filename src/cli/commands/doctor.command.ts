import { DataSource } from 'typeorm';

import type { CliCommand } from '../cli-command.js';
import type { CliContext } from '../cli-context.js';
import { CHECKS } from '../doctor/checks.js';
import { DoctorContext } from '../doctor/doctor-context.js';
import { type Finding, type FindingLevel, findingsOf } from '../doctor/finding.js';
import { runChecks } from '../doctor/run-checks.js';
import { exitCodeOf, reportOf } from '../error-report.js';
import type { ExitCode } from '../exit-code.js';
import type { CommandOutcome } from '../output.js';
import { wrap } from '../text-layout.js';

const LEVELS: readonly FindingLevel[] = ['ok', 'warning', 'fault'];
const MARGIN = ' '.repeat('warning'.length + 2);

/** Looks at everything on which the module depends. It changes nothing. */
export const doctorCommand: CliCommand = {
  name: 'doctor',
  summary: 'Check the database, the keys, the providers and Keycloak, and say what to do.',
  examples: ['idp-tokens doctor', 'idp-tokens doctor --config dist/tokens.config.js --json'],
  needs: 'database',
  run: async (context) => {
    const { hasKeys, hasProviders, dataSource: options } = context.configuration;
    const connection = await connect(context);
    const hasDatabase = 'dataSource' in connection;
    const dataSource = hasDatabase ? connection.dataSource : new DataSource(options);
    const knows = { keys: hasKeys, options: hasProviders };
    const findings = await runChecks(CHECKS, new DoctorContext(dataSource, context.settings, knows), {
      hasDatabase,
      onProgramFault: (_, error) => {
        context.output.trace(error);
      },
    });
    return hasDatabase ? outcomeOf(findings) : outcomeOf([connection.finding, ...findings], connection.exitCode);
  },
};

type Connection = { readonly dataSource: DataSource } | { readonly finding: Finding; readonly exitCode: ExitCode };

async function connect(context: CliContext): Promise<Connection> {
  try {
    return { dataSource: await context.connect() };
  } catch (error) {
    context.output.trace(error);
    const { message, remedy = 'Correct this, and run the doctor again.' } = reportOf(error);
    const fault = `${message} The checks that need the database did not run.`;
    return { finding: findingsOf('database').fault(fault, remedy), exitCode: exitCodeOf(error) };
  }
}

function outcomeOf(findings: readonly Finding[], exitCode?: ExitCode): CommandOutcome {
  const count = (level: FindingLevel) => findings.filter((finding) => finding.level === level).length;
  const [ok = 0, warnings = 0, faults = 0] = LEVELS.map(count);
  return {
    ok: faults === 0,
    exitCode,
    result: { ok, warnings, faults, findings },
    text: (columns) => {
      const lines = findings.map((finding) => lineOf(finding, columns));
      return [...lines, '', `${ok} ok, ${plural(warnings, 'warning')}, ${plural(faults, 'fault')}.`].join('\n');
    },
  };
}

/** Returns one line for a finding, and one for its remedy, both wrapped. */
function lineOf({ check, level, message, remedy }: Finding, columns: number): string {
  const indented = (text: string) => wrap(text, columns - MARGIN.length).replaceAll('\n', `\n${MARGIN}`);
  const seen = level.padEnd(MARGIN.length) + indented(`${check}: ${message}`);
  return remedy === undefined ? seen : `${seen}\n${MARGIN}${indented(`To do: ${remedy}`)}`;
}

function plural(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}
