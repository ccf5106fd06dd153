import { spawnSync } from 'node:child_process';

const GEMS = ['doorkeeper', 'railties', 'activerecord', 'puma', 'sqlite3'];

/** Whether Ruby on this machine finds everything that doorkeeper.ru needs. */
export function hasDoorkeeper() {
  const hasPuma = spawnSync('puma', ['--version']).status === 0;
  return hasPuma && spawnSync('ruby', ['-e', GEMS.map((name) => `gem '${name}'`).join(';')]).status === 0;
}
