import { execFile } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';

const NEEDED = ['postgres', 'initdb', 'pg_ctl', 'pg_basebackup'];
const DEBIAN = '/usr/lib/postgresql';

/**
 * Finds the directory of a PostgreSQL that can make a standby: PG_BINDIR, the newest package of Debian, or a directory
 * of PATH.
 *
 * @throws Error if PG_BINDIR does not have all programs
 */
export function findPostgresPrograms(): string | undefined {
  const { PG_BINDIR, PATH = '' } = process.env;
  if (PG_BINDIR) {
    if (isComplete(PG_BINDIR)) return PG_BINDIR;
    throw new Error(`PG_BINDIR must name a directory with ${NEEDED.join(', ')}. ${PG_BINDIR} does not have them.`);
  }
  const versions = existsSync(DEBIAN) ? readdirSync(DEBIAN).sort((a, b) => Number(b) - Number(a)) : [];
  const debian = versions.map((version) => join(DEBIAN, version, 'bin'));
  return [...debian, ...PATH.split(delimiter)].find(isComplete);
}

/** Returns the user that runs the server. Root must use another user, because PostgreSQL does not run as root. */
export async function postgresUser(): Promise<{ uid?: number; gid?: number }> {
  if (process.getuid?.() !== 0) return {};
  return (await idsOf('postgres')) ?? (await idsOf('nobody')) ?? {};
}

function isComplete(directory: string): boolean {
  return directory !== '' && NEEDED.every((program) => existsSync(join(directory, program)));
}

async function idsOf(user: string): Promise<{ uid: number; gid: number } | undefined> {
  const id = async (flag: string) => Number((await promisify(execFile)('id', [flag, user])).stdout);
  try {
    return { uid: await id('-u'), gid: await id('-g') };
  } catch {
    return undefined; // the user does not exist
  }
}
