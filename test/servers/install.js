/** Installs the servers that `npm run test:servers` starts. Says which ones it cannot install. */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

import { hasBetterAuth, hasDoorkeeper } from './has-servers.js';

const PACKAGES = ['ruby-doorkeeper', 'ruby-railties', 'ruby-activerecord', 'ruby-sqlite3', 'puma'];
const APT = ['-qq', '-o', 'DPkg::Lock::Timeout=120', '-o', 'Acquire::http::Timeout=20', '-o', 'Acquire::Retries=1'];
const APT_TIMEOUT_MS = 240_000;

const npm = ['ci', '--silent', '--no-audit', '--no-fund', '--prefix', fileURLToPath(new URL('.', import.meta.url))];
// `npm ci` deletes first, so it would leave nothing behind on a machine without network.
if (!hasBetterAuth() && spawnSync('npm', npm, { stdio: 'inherit' }).status !== 0) {
  console.log(`NOT RUN: better-auth in npm run test:servers, because this failed: npm ${npm.join(' ')}`);
}

if (!hasDoorkeeper()) {
  const reason = installDoorkeeper();
  if (reason) {
    console.log(
      `NOT RUN: Doorkeeper in npm run test:servers, because ${reason}. It needs these packages of Debian: ` +
        `${PACKAGES.join(' ')}.`,
    );
  }
}

/** Returns why it could not install Doorkeeper, or undefined. */
function installDoorkeeper() {
  if (process.getuid?.() !== 0) return 'only root can install it';
  const run = (args) =>
    spawnSync('apt-get', args, {
      env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
      timeout: APT_TIMEOUT_MS,
    });
  if (run(['--version']).error) return 'this machine has no apt-get';
  run([...APT, 'update']); // if it fails, the lists of packages on this machine may do
  const { status, stderr } = run([...APT, 'install', '-y', '--no-install-recommends', ...PACKAGES]);
  if (status !== 0) return `apt-get failed (${String(stderr).trim().split('\n').at(-1)})`;
  return hasDoorkeeper() ? undefined : 'Ruby does not find the packages that apt-get installed';
}
