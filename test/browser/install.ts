/** Installs the browser that `npm run test:browser` drives. Says how to get it where it cannot install it. */
import { spawnSync } from 'node:child_process';

import { findChromium } from './chromium.js';

/** The package of Debian that has the browser. */
const PACKAGE = 'chromium';
const APT = ['-qq', '-o', 'DPkg::Lock::Timeout=120', '-o', 'Acquire::http::Timeout=20', '-o', 'Acquire::Retries=1'];
/** The package and what it needs are more than 100 MB. */
const APT_TIMEOUT_MS = 600_000;

if (!findChromium()) {
  const reason = installChromium();
  if (reason !== undefined) {
    console.log(
      `NOT RUN: npm run test:browser, because ${reason}. It needs Chromium: install the package ${PACKAGE} of Debian, ` +
        'or name the program of another Chromium by the environment variable CHROMIUM.',
    );
  }
}

/** Returns why it could not install Chromium, or undefined. */
function installChromium(): string | undefined {
  if (process.env.CHROMIUM) return `CHROMIUM names no program: ${process.env.CHROMIUM}`;
  if (process.getuid?.() !== 0) return 'this machine has no Chromium, and only root can install it';
  if (aptGet(['--version']).error) return 'this machine has neither Chromium nor apt-get';
  aptGet([...APT, 'update']); // if it fails, the lists of packages on this machine may do
  const { status, stderr } = aptGet([...APT, 'install', '-y', '--no-install-recommends', PACKAGE]);
  if (status !== 0) return `apt-get failed (${stderr.trim().split('\n').at(-1) ?? ''})`;
  return findChromium() ? undefined : `the package ${PACKAGE} has put no program into PATH`;
}

function aptGet(args: string[]) {
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  return spawnSync('apt-get', args, { env, timeout: APT_TIMEOUT_MS, encoding: 'utf8' });
}
