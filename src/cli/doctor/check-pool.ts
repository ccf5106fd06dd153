import { poolSizeOf } from '../../postgres/database.options.js';
import type { DoctorContext } from './doctor-context.js';
import { type Finding, findingsOf } from './finding.js';

const { ok, warning, fault } = findingsOf('pool');

/**
 * Is the pool large enough, and can the server fill it? A lease holds no connection while the provider answers. It needs
 * one for each of its statements. So a pool has one connection for each open transaction of the host, and one more.
 */
export async function checkPool(context: DoctorContext): Promise<Finding[]> {
  const size = poolSizeOf(context.dataSource);
  const row = await context.row(
    'read the connection limits',
    `SELECT (SELECT sum(setting::int) FILTER (WHERE name = 'max_connections')
           - sum(setting::int) FILTER (WHERE name <> 'max_connections') FROM pg_settings
         WHERE name IN ('max_connections', 'superuser_reserved_connections', 'reserved_connections')) AS server,
       (SELECT sum(numbackends) FROM pg_stat_database) AS server_used,
       (SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user) AS role,
       (SELECT datconnlimit FROM pg_database WHERE datname = current_database()) AS database`,
  );
  return [poolFinding({ size, server: Number(row.server), used: Number(row.server_used), limits: limitsOf(row) })];
}

function limitsOf({ role, database }: Record<string, unknown>): number[] {
  return [role, database].map(Number).filter((limit) => limit >= 0);
}

/** Judges the size of a pool by what the server allows. `used` connections of the server are those of this process too. */
export function poolFinding(seen: { size: number; server: number; used: number; limits: number[] }): Finding {
  const { size, server, used, limits } = seen;
  const allowed = Math.min(server, ...limits);
  const connections = `${size} connection${size === 1 ? '' : 's'}`;
  const message =
    `The pool has ${connections}. The server allows ${allowed}, and ${used} are in use, by all clients. A lease holds no ` +
    'connection, so the pool carries statements and open transactions, and not leases.';
  if (size > allowed) {
    return fault(
      `The pool wants ${connections}, and the server allows ${allowed}.`,
      'Make the pool smaller (extra.max or poolSize), or raise max_connections, the limit of the role or of the database.',
    );
  }
  if (size === 1) {
    return warning(
      message,
      'A refresh inside of a transaction of the host fails, because it needs a connection of its own. Use 2 or more.',
    );
  }
  if (used + size > server) {
    return warning(
      message,
      'One more process with this pool does not get all its connections. Raise max_connections, or put a pooler between.',
    );
  }
  return ok(message);
}
