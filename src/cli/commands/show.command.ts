import type { DisconnectedSince, OutboxCount, StoredConnection } from '../../storage/overview/overview.statements.js';
import { checkUserId } from '../../token-input.js';
import type { CliCommand } from '../cli-command.js';
import { CliError } from '../cli.errors.js';
import { ExitCode } from '../exit-code.js';
import { KEYCLOAK_OFFLINE, nameOfConnection, nameOfState, overviewOf } from '../stored-states.js';
import { renderFields, wrap } from '../text-layout.js';

/** What is stored of one user, without what is sealed. */
export interface UserReport {
  readonly user: string;
  readonly connections: readonly StoredConnection[];
  readonly offlineToken: StoredConnection | null;
  readonly disconnected: readonly DisconnectedSince[];
  readonly waitingRevocations: readonly OutboxCount[];
}

/** Shows the connections of one user. It changes nothing. */
export const showCommand: CliCommand = {
  name: 'show',
  summary: "Show one user's connections: accounts, scopes, states, times, versions and key ids.",
  arguments: { '<user>': 'the user id', '[idp]': 'the name of the provider; without it, everything of the user' },
  examples: ['idp-tokens show user-1', 'idp-tokens show user-1 github --json'],
  needs: 'database',
  run: async (context, { arguments: [user = '', idp] }) => {
    const overview = overviewOf(await context.open(), context.settings);
    const isAsked = (each: { readonly idp: string }) => idp === undefined || each.idp === idp;
    checkUserId(user);
    const report: UserReport = {
      user,
      connections: (await overview.connectionsOf(user)).filter(isAsked),
      offlineToken: idp === undefined ? await overview.offlineTokenOf(user) : null,
      disconnected: (await overview.disconnectedOf(user)).filter(isAsked),
      waitingRevocations: (await overview.outbox(user)).filter(isAsked),
    };
    if (isEmpty(report)) throw nothingStored(user, idp);
    return { ok: true, result: report, text: (columns) => describe(report, columns) };
  },
};

/** Whether nothing is stored of the user. */
export function isEmpty({ connections, offlineToken, disconnected, waitingRevocations }: UserReport): boolean {
  return connections.length + disconnected.length + waitingRevocations.length === 0 && !offlineToken;
}

function nothingStored(user: string, idp: string | undefined): CliError {
  return new CliError(
    `Nothing is stored of user "${user}"${idp === undefined ? '' : ` at "${idp}"`}.`,
    ExitCode.wrongUse,
    'Check the user id: it is the one that the application gives to the module.',
  );
}

function describe(report: UserReport, columns: number): string {
  const { user, connections, offlineToken, disconnected, waitingRevocations } = report;
  return [
    wrap(`user "${user}"`, columns, '  '),
    ...connections.map((each) => describeConnection(each, columns)),
    ...(offlineToken ? [describeConnection(offlineToken, columns)] : []),
    ...disconnected.map((each) =>
      wrap(`${nameOfConnection(each)}: the user disconnected the account at ${each.at}`, columns, '  '),
    ),
    ...waitingRevocations.map(({ rows, oldestAt, cause, ...each }) =>
      wrap(
        `${nameOfConnection(each)}: ${rows} deleted ${rows === 1 ? 'pair waits' : 'pairs wait'} to be revoked since ` +
          `${oldestAt}${cause === null ? '' : `, last failure ${cause}`}`,
        columns,
        '  ',
      ),
    ),
  ].join('\n\n');
}

function describeConnection(row: StoredConnection, columns: number): string {
  const optional = (label: string, value: string | null): [string, string][] =>
    value === null ? [] : [[label, value]];
  const isOffline = row.idp === '';
  const state = nameOfState(row.state) + (row.state === 'reauthentication' && row.cause ? `, ${row.cause}` : '');
  return renderFields(
    [
      ['provider', row.idp || KEYCLOAK_OFFLINE],
      ...optional('account', row.account || null),
      ...optional('subject', row.subject),
      ...optional('name', row.name),
      ...optional('scopes', row.scopes && (row.scopes.join(' ') || 'none')),
      ['state', state],
      ...(isOffline ? [] : ([['access token', expiryOf(row.accessTokenExpiresAt)]] as [string, string][])),
      ['refresh token', row.hasRefreshToken ? expiryOf(row.refreshTokenExpiresAt, isOffline) : 'none'],
      ['issued', row.issuedAt],
      ['created', row.createdAt],
      ['updated', row.updatedAt],
      ['version', row.version],
      ...optional('parent version', row.parentVersion),
      ...optional('client', row.clientId),
      ['keys', row.keyIds.map((id) => id ?? '(no key id)').join(', ') || 'none'],
      ...optional('last error', row.lastErrorCode),
      ...optional('failure', row.failureKind && `${row.failureKind}, ${row.failureCount} in a row`),
      ...optional('next try', row.retryAt),
      ...optional('lease until', row.leaseExpiresAt),
      ...(row.openLeases > 0 ? ([['open leases', row.openLeases]] as [string, number][]) : []),
      ...optional('quarantine', row.quarantinedUntil),
    ],
    columns,
  );
}

function expiryOf(expiresAt: string | null, isUnknown = false): string {
  if (isUnknown) return 'Keycloak knows its expiry';
  return expiresAt === null ? 'does not expire' : `expires ${expiresAt}`;
}
