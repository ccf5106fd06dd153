import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';

const GEMS = ['doorkeeper', 'railties', 'activerecord', 'puma', 'sqlite3'];

/** Whether Ruby on this machine finds everything that doorkeeper.ru needs. */
export function hasDoorkeeper() {
  const hasPuma = spawnSync('puma', ['--version']).status === 0;
  return hasPuma && spawnSync('ruby', ['-e', GEMS.map((name) => `gem '${name}'`).join(';')]).status === 0;
}

/** Whether the packages of this folder are installed in the versions of the lock file. */
export function hasBetterAuth() {
  return ['better-auth', '@better-auth/oauth-provider'].every((name) => {
    const version = versionIn('package-lock.json', name);
    return version !== undefined && version === versionIn('node_modules/.package-lock.json', name);
  });
}

function versionIn(lockFile, name) {
  try {
    const { packages } = JSON.parse(readFileSync(new URL(lockFile, import.meta.url), 'utf8'));
    return packages[`node_modules/${name}`]?.version;
  } catch {
    return undefined;
  }
}
