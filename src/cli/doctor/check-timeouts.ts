import type { DoctorContext } from './doctor-context.js';
import { type Finding, findingsOf } from './finding.js';

const server = findingsOf('statement timeout');
const client = findingsOf('connection timeout');

/** A store waits for the disk and for other stores, so a shorter timeout ends stores of a server under load. */
const SHORTEST_TIMEOUT_MS = 1000;

/** Does PostgreSQL end a statement before the module gives it up, after `connectionTimeoutMs`? */
export async function checkStatementTimeout(context: DoctorContext): Promise<Finding[]> {
  const { connectionTimeoutMs } = context.settings;
  const rows = await context.rows(
    'read the timeouts',
    // Without a unit these settings are milliseconds.
    `SELECT name, setting::bigint AS ms FROM pg_settings WHERE name IN
       ('statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout', 'transaction_timeout')`,
  );
  const timeouts = new Map(rows.map(({ name, ms }) => [String(name), Number(ms)]));
  return [serverFinding(timeouts, connectionTimeoutMs)];
}

function serverFinding(timeouts: ReadonlyMap<string, number>, connectionTimeoutMs: number): Finding {
  const statementMs = timeouts.get('statement_timeout') ?? 0;
  const named = [...timeouts].filter(([name, ms]) => name === 'statement_timeout' || ms > 0);
  const seen = named.map(([name, ms]) => `${name} ${ms === 0 ? 'off' : `${ms} ms`}`).join(', ');
  const advice =
    `Set statement_timeout below connectionTimeoutMs (${connectionTimeoutMs} ms) and not below ${SHORTEST_TIMEOUT_MS} ` +
    `ms: ALTER ROLE … SET statement_timeout = '8s'. See docs/guides/poolers.md.`;
  const shorter = [...timeouts].filter(([, ms]) => ms > 0 && ms < SHORTEST_TIMEOUT_MS).map(([name]) => name);
  if (shorter.length > 0) {
    return server.warning(`${seen}. ${shorter.join(' and ')} can end statements of the module that wait.`, advice);
  }
  if (statementMs === 0 || statementMs >= connectionTimeoutMs) {
    return server.warning(
      `${seen}. When the module gives a statement up, PostgreSQL goes on with it, and a store can have its effect later.`,
      advice,
    );
  }
  return server.ok(`${seen}. connectionTimeoutMs is ${connectionTimeoutMs} ms.`);
}

/** Does pg give up a server that accepts no connection, and does it leave statements alone? */
export function checkConnectionTimeout({ dataSource, settings }: DoctorContext): Promise<Finding[]> {
  const { connectionTimeoutMs } = settings;
  const options: Partial<Record<string, unknown>> = { ...dataSource.options };
  const extra: Partial<Record<string, unknown>> = { ...(options.extra as object | undefined) };
  const found: Finding[] = [];
  if (Number(extra.query_timeout) > 0) {
    found.push(
      client.fault(
        'The data source sets query_timeout of pg, which gives a connection back while its statement still runs.',
        'Remove extra.query_timeout, and set statement_timeout of the server.',
      ),
    );
  }
  const connectMs = Number(extra.connectionTimeoutMillis ?? options.connectTimeoutMS ?? 0);
  const advice = 'Set connectTimeoutMS of the data source to 5000.';
  if (!(connectMs > 0)) {
    found.push(
      client.warning('The data source waits without a limit for a server that accepts no connection.', advice),
    );
  } else if (connectMs >= connectionTimeoutMs) {
    found.push(
      client.warning(
        `The data source waits ${connectMs} ms for a connection, and the module gives up before, after ${connectionTimeoutMs} ms.`,
        advice,
      ),
    );
  }
  if (found.length > 0) return Promise.resolve(found);
  return Promise.resolve([
    client.ok(`connectTimeoutMS ${connectMs} ms, connectionTimeoutMs ${connectionTimeoutMs} ms.`),
  ]);
}
