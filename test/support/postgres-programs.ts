import { execFile } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';

const NEEDED = ['postgres', 'initdb', 'pg_ctl', 'pg_basebackup'];
const DEBIAN = '/usr/lib/postgresql';

/** The directory of a PostgreSQL that can make a standby: PG_BINDIR, the newest of Debian's packages, or one of PATH. */
export function findPostgresPrograms(): string | undefined {
  const { PG_BINDIR, PATH = '' } = process.env;
  if (PG_BINDIR) {
    if (isComplete(PG_BINDIR)) return PG_BINDIR;
    throw new Error(`PG_BINDIR must be a directory with ${NEEDED.join(', ')}; ${PG_BINDIR} is not.`);
  }
  const versions = existsSync(DEBIAN) ? readdirSync(DEBIAN).sort((a, b) => Number(b) - Number(a)) : [];
  const debian = versions.map((version) => join(DEBIAN, version, 'bin'));
  return [...debian, ...PATH.split(delimiter)].find(isComplete);
}

/** The user whose server it is. PostgreSQL refuses to run as root, so that root starts it as another. */
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
    return undefined; // no such user
  }
}
