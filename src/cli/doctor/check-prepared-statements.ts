import { randomBytes } from 'node:crypto';

import type { PoolClient } from 'pg';
import type { QueryRunner } from 'typeorm';

import { poolSizeOf } from '../../postgres/database.options.js';
import { isPlanLost } from '../../postgres/driver-error.js';
import { clientOf } from '../../postgres/transaction.js';
import type { DoctorContext } from './doctor-context.js';
import { type Finding, findingsOf } from './finding.js';

const { ok, warning, fault } = findingsOf('prepared statements');

const CONNECTIONS = 4;
const ROUNDS = 5;
const LOSES = 'A pooler between this process and PostgreSQL loses or mixes up prepared statements.';
const REMEDY =
  'Set preparedStatements: false in the options of TokensModule, or let the pooler keep them (PgBouncer 1.21 or newer: ' +
  'max_prepared_statements above 0).';

/**
 * Does a statement that was prepared by name still exist when it is executed again? It prepares one statement, as the
 * module does, on several connections of the pool, and executes it one connection after the other, on all at once, and
 * in transactions.
 */
export async function checkPreparedStatements({ dataSource, settings, knows }: DoctorContext): Promise<Finding[]> {
  const count = Math.min(CONNECTIONS, poolSizeOf(dataSource));
  const runners = Array.from({ length: count }, () => dataSource.createQueryRunner('master'));
  try {
    const clients = await Promise.all(runners.map(clientOf));
    const lost = await firstLoss(clients, runners);
    return [preparedFinding(lost, knows.options ? settings.preparedStatements : undefined, count)];
  } finally {
    // Not one after the other, because one that does not answer must not keep the others.
    await Promise.all(runners.map((runner) => runner.release()));
  }
}

/** Returns whether PostgreSQL did not know the statement, or had another one under its name. */
async function firstLoss(clients: readonly PoolClient[], runners: readonly QueryRunner[]): Promise<boolean> {
  const name = `idp_tokens_doctor_${randomBytes(6).toString('hex')}`;
  const execute = (client: PoolClient) => client.query({ name, text: 'SELECT $1::text AS doctor', values: [name] });
  try {
    for (let round = 0; round < ROUNDS; round++) {
      for (const client of clients) await execute(client);
      await Promise.all(clients.map(execute));
      for (const [position, runner] of runners.entries()) {
        const client = clients[position];
        await runner.startTransaction();
        try {
          if (client) await execute(client);
        } finally {
          await runner.rollbackTransaction();
        }
      }
    }
    return false;
  } catch (error) {
    if (isPlanLost(error)) return true;
    throw error;
  }
}

/** @param isPreparing the option of the application; undefined if it is not known */
function preparedFinding(isLost: boolean, isPreparing: boolean | undefined, connections: number): Finding {
  if (isLost && isPreparing === undefined) return warning(LOSES, REMEDY);
  if (isLost) {
    return isPreparing
      ? fault(LOSES, REMEDY)
      : ok('A pooler loses prepared statements, and preparedStatements is false, as it must be.');
  }
  if (isPreparing === false) return ok('preparedStatements is false. No prepared statement was lost here.');
  if (connections === 1) {
    return warning(
      'The one connection of the pool kept its prepared statement. A pooler can lose it between two clients.',
      'Behind a pooler, run the doctor with a pool of two connections or more.',
    );
  }
  return ok(`${connections} connections kept their prepared statements.`);
}
