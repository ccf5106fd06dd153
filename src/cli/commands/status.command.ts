import type { OutboxCount, StateCount } from '../../storage/overview/overview.statements.js';
import type { CliCommand } from '../cli-command.js';
import { KEYCLOAK_OFFLINE, nameOfConnection, nameOfState, overviewOf } from '../stored-states.js';
import { renderTable, wrap } from '../text-layout.js';
import { describeKeys, type KeysReport, readKeys } from './keys-status.command.js';

/** What the tables have, by provider and state. */
interface StatusReport {
  /** The pairs of `auth_tokens`. */
  readonly pairs: readonly StateCount[];
  /** The Keycloak offline tokens. */
  readonly offlineTokens: readonly StateCount[];
  /** The pairs that wait to be revoked. */
  readonly outbox: readonly OutboxCount[];
  readonly keys: KeysReport;
  readonly oldestFailure: OldestFailure | null;
}

interface OldestFailure {
  readonly at: string;
  readonly user: string;
  readonly idp: string;
  /** Empty for the default account, and for a Keycloak offline token. */
  readonly account: string;
  readonly cause: string | null;
}

/**
 * Counts the rows by provider and state. It reads each table twice and changes nothing. Like `keys status`, it ends with
 * exit code 1 if something is wrong with the keys. Grants that have ended are no reason for it.
 */
export const statusCommand: CliCommand = {
  name: 'status',
  summary: 'Count the stored tokens by provider and state.',
  examples: ['idp-tokens status', 'idp-tokens status --json | jq .result.oldestFailure'],
  needs: 'database',
  run: async (context) => {
    const overview = overviewOf(await context.open(), context.settings);
    const pairs = await overview.pairStates();
    const offlineTokens = await overview.offlineStates();
    const outbox = await overview.outbox();
    const keys = await readKeys(context);
    const oldestFailure = oldestFailureOf([...pairs, ...offlineTokens]);
    const report = { pairs, offlineTokens, outbox, keys, oldestFailure };
    return { ok: keys.faults.length === 0, result: report, text: (columns) => describe(report, columns) };
  },
};

function oldestFailureOf(counts: readonly StateCount[]): OldestFailure | null {
  const failures = counts.flatMap(({ idp, cause, oldestFailure }) =>
    oldestFailure ? [{ ...oldestFailure, idp: idp || KEYCLOAK_OFFLINE, cause }] : [],
  );
  return failures.sort((one, other) => (one.at < other.at ? -1 : 1))[0] ?? null;
}

function describe({ pairs, offlineTokens, outbox, keys, oldestFailure }: StatusReport, columns: number): string {
  const states = [...pairs, ...offlineTokens].map(({ idp, state, cause, rows }) => [
    idp || KEYCLOAK_OFFLINE,
    nameOfState(state),
    cause ?? '',
    rows,
  ]);
  const waiting = outbox.map(({ idp, cause, rows, oldestAt }) => [idp, rows, oldestAt, cause ?? '']);
  return [
    states.length === 0
      ? 'No tokens are stored.'
      : renderTable({ headers: ['provider', 'state', 'cause', 'rows'], rows: states }, columns),
    '',
    waiting.length === 0
      ? 'No pair waits to be revoked.'
      : `Pairs that wait to be revoked:\n${renderTable({ headers: ['provider', 'rows', 'oldest', 'last failure'], rows: waiting }, columns)}`,
    '',
    describeKeys(keys, columns),
    '',
    oldestFailure
      ? wrap(
          `Oldest failure: ${oldestFailure.at}, user "${oldestFailure.user}" at ${nameOfConnection(oldestFailure)}: ` +
            `${oldestFailure.cause ?? 'unknown'}.`,
          columns,
          '  ',
        )
      : 'No refresh has failed.',
  ].join('\n');
}
