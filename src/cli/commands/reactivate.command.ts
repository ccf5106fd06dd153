import { InvalidArgumentError, Option } from 'commander';

import { IdentityProviderRegistry } from '../../identity-providers/identity-provider.registry.js';
import { checkEndedGrants } from '../../token-input.js';
import { TokenManager } from '../../token-manager/token-manager.js';
import type { CliCommand } from '../cli-command.js';
import { confirmed, yesOption } from '../confirmation.js';
import { overviewOf } from '../stored-states.js';
import { renderTable, wrap } from '../text-layout.js';

/** ISO 8601 with a time zone, because a time without one is another time on each machine. */
const ISO_TIME = /^(\d{4}-\d\d-\d\d)T\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-](0\d|1[0-4]):[0-5]\d)$/;

/**
 * Brings back grants that were ended by a mistake of the operator. It asks, because a grant that has really ended can end
 * others of its user: see docs/operations.md.
 */
export const reactivateCommand: CliCommand = {
  name: 'reactivate',
  summary: 'Make grants active again that ended by mistake.',
  arguments: { '<idp>': 'the name of the provider' },
  options: [
    new Option('--since <time>', 'only grants that ended then or later, such as 2026-11-24T09:00:00Z').argParser(
      readTime,
    ),
    new Option('--error <code>', 'only grants that ended with this code, such as invalid_grant'),
    new Option('--dry-run', 'count them, and change nothing'),
    yesOption(),
  ],
  examples: [
    'idp-tokens reactivate github --since 2026-11-24T09:00:00Z --dry-run',
    'idp-tokens reactivate github --since 2026-11-24T09:00:00Z --error invalid_grant',
    'idp-tokens reactivate github --error invalid_client --yes --json',
  ],
  needs: 'providers',
  run: async (context, call) => {
    const {
      arguments: [idp = ''],
      options,
    } = call;
    const open = await context.open();
    open.get(IdentityProviderRegistry).get(idp);
    const which = {
      endedAfter: options.since instanceof Date ? options.since : undefined,
      errorCode: typeof options.error === 'string' ? options.error : undefined,
    };
    const ended = await overviewOf(open, context.settings).reactivatable({ idp, ...checkEndedGrants(which) });
    const total = ended.reduce((sum, { rows }) => sum + rows, 0);
    if (options.dryRun === true) {
      return {
        ok: true,
        result: { idp, isDryRun: true, grants: total, byCause: ended },
        text: (columns) =>
          total === 0
            ? wrap(`No ended grant at "${idp}" is chosen.`, columns)
            : `${wrap(`Would make ${grantsOf(total)} at "${idp}" active again:`, columns)}\n` +
              renderTable(
                { headers: ['cause', 'rows'], rows: ended.map(({ cause, rows }) => [cause ?? '', rows]) },
                columns,
              ),
      };
    }
    await confirmed(
      `This makes ${grantsOf(total)} at "${idp}" active again. Some servers end all grants of a user when they receive a ` +
        'spent refresh token.',
      call,
      context,
    );
    const grants = await open.get(TokenManager).reactivateIdpTokens(idp, which);
    return {
      ok: true,
      result: { idp, isDryRun: false, grants },
      text: (columns) => wrap(`${grantsOf(grants)} at "${idp}" ${grants === 1 ? 'is' : 'are'} active again.`, columns),
    };
  },
};

function readTime(text: string): Date {
  const [, day = ''] = ISO_TIME.exec(text) ?? [];
  const time = new Date(text);
  if (day === '' || Number.isNaN(time.getTime()) || !isDay(day)) {
    throw new InvalidArgumentError('Give a time in ISO 8601 with a time zone, such as 2026-11-24T09:00:00Z.');
  }
  return time;
}

/** JavaScript takes February 30 for March 2. */
function isDay(day: string): boolean {
  return new Date(day).toISOString().startsWith(day);
}

function grantsOf(count: number): string {
  return `${count} ${count === 1 ? 'grant' : 'grants'}`;
}
