import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { cp, mkdir, mkdtemp, rename, rm, stat, writeFile } from 'node:fs/promises';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';

import { freePort } from './free-port.js';

const run = promisify(execFile);

const VERSION = '26.7.3';
const STARTED_WITHIN_MS = 180_000;
const ADMIN = { username: 'admin', password: 'admin' };

/** A Keycloak in development mode, on the loopback interface. */
export interface KeycloakServer {
  readonly url: string;
  /** Calls the administration as its first administrator, and returns the body of the answer if there is one. */
  admin(method: 'GET' | 'POST' | 'PUT' | 'DELETE', path: string, body?: object): Promise<unknown>;
  /** Ends the server and keeps its data. {@link resume} starts it again on the same port. */
  halt(): Promise<void>;
  resume(): Promise<void>;
  /** Ends the server and deletes its data. */
  stop(): Promise<void>;
}

/** No Keycloak can run on this machine. The message says what is missing. */
export class KeycloakMissing extends Error {}

/**
 * Starts a Keycloak of its own. The release is the one in `KEYCLOAK_HOME`, or the one that Maven fetches once into the
 * user's cache. It runs with the Java in `JAVA_HOME`, or with the `java` on the path.
 *
 * @param realms returns the realm representations to import, for the URL of the server
 * @param port default: any free one
 * @param hostname the fixed public URL of the server; default: the URL of each request
 * @throws {@link KeycloakMissing} without Keycloak and Maven, or without Java
 */
export async function startKeycloak(
  realms: (url: string) => { realm: string }[],
  port?: number,
  hostname?: string,
): Promise<KeycloakServer> {
  await assertJava();
  const release = process.env.KEYCLOAK_HOME ?? (await fetchedRelease());
  // A copy, because the server writes into its own directory when it starts.
  const home = await mkdtemp(join(tmpdir(), 'idp-tokens-keycloak-'));
  await cp(release, home, { recursive: true, filter: (path) => path !== join(release, 'data') });
  const usedPort = port ?? (await freePort());
  const url = `http://127.0.0.1:${usedPort}`;
  await mkdir(join(home, 'data', 'import'), { recursive: true });
  for (const realm of realms(url)) {
    await writeFile(join(home, 'data', 'import', `${realm.realm}-realm.json`), JSON.stringify(realm));
  }

  let server = await launch(home, usedPort, url, hostname).catch(async (error: unknown) => {
    await rm(home, { recursive: true, force: true });
    throw error;
  });
  return {
    url,
    admin: async (method, path, body) => administer(url, method, path, body),
    halt: () => end(server),
    async resume() {
      server = await launch(home, usedPort, url, hostname);
    },
    async stop() {
      await end(server);
      await rm(home, { recursive: true, force: true });
    },
  };
}

async function assertJava(): Promise<void> {
  const java = process.env.JAVA_HOME ? join(process.env.JAVA_HOME, 'bin', 'java') : 'java';
  await run(java, ['-version']).catch(() => {
    throw new KeycloakMissing('Keycloak needs Java 17 or newer. Set JAVA_HOME or install a JDK.');
  });
}

/**
 * Returns the directory of the release, which Maven fetches if it is missing. Several processes may do this at the same
 * time.
 */
async function fetchedRelease(): Promise<string> {
  const cache = join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'nestjs-idp-tokens');
  const release = join(cache, `keycloak-${VERSION}`);
  if (await exists(join(release, 'bin', 'kc.sh'))) return release;

  for (const [tool, option] of [
    ['mvn', '--version'],
    ['jar', '--version'],
  ] as const) {
    await run(tool, [option]).catch(() => {
      throw new KeycloakMissing(
        `Maven fetches Keycloak and a JDK's jar unpacks it, but this machine has no "${tool}". Install it, or set ` +
          'KEYCLOAK_HOME to an unpacked release.',
      );
    });
  }
  await mkdir(cache, { recursive: true });
  const unpacking = await mkdtemp(join(cache, 'unpacking-'));
  try {
    const artifact = `org.keycloak:keycloak-quarkus-dist:${VERSION}:zip`;
    await run('mvn', [
      '--batch-mode',
      '--quiet',
      'dependency:copy',
      `-Dartifact=${artifact}`,
      `-DoutputDirectory=${unpacking}`,
    ]);
    await run('jar', ['xf', `keycloak-quarkus-dist-${VERSION}.zip`], { cwd: unpacking });
    await rename(join(unpacking, `keycloak-${VERSION}`), release).catch(async (error: unknown) => {
      if (!(await exists(release))) throw error;
    });
    return release;
  } finally {
    await rm(unpacking, { recursive: true, force: true });
  }
}

/** Executes a script, and ends its process group when the standard input ends, as it does when this process dies. */
const UNTIL_INPUT_ENDS = 'exec 3<&0; (cat <&3; kill 0) >/dev/null 2>&1 & exec sh "$@" 3<&-';

async function launch(home: string, port: number, url: string, hostname?: string): Promise<ChildProcess> {
  const args = ['start-dev', '--import-realm', '--http-host=127.0.0.1', `--http-port=${port}`, '--log-level=warn'];
  if (hostname !== undefined) args.push(`--hostname=${hostname}`);
  const child = spawn('sh', ['-c', UNTIL_INPUT_ENDS, 'sh', join(home, 'bin', 'kc.sh'), ...args], {
    detached: true, // a process group of its own, so that end() ends all of its processes
    stdio: ['pipe', 'pipe', 'pipe'],
    env: {
      ...process.env,
      KC_BOOTSTRAP_ADMIN_USERNAME: ADMIN.username,
      KC_BOOTSTRAP_ADMIN_PASSWORD: ADMIN.password,
      JAVA_OPTS_APPEND: '-Xmx512m -XX:TieredStopAtLevel=1',
    },
  });
  const log: Buffer[] = [];
  child.stdout.on('data', (chunk: Buffer) => log.push(chunk));
  child.stderr.on('data', (chunk: Buffer) => log.push(chunk));
  const deadline = performance.now() + STARTED_WITHIN_MS;
  while (!(await answers(url))) {
    if (child.exitCode !== null || performance.now() > deadline) {
      await end(child);
      throw new Error(`Keycloak did not start:\n${Buffer.concat(log).toString()}`);
    }
    await delay(250);
  }
  return child;
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return;
  const exit = once(child, 'exit');
  process.kill(-child.pid, 'SIGTERM');
  await exit;
}

async function answers(url: string): Promise<boolean> {
  try {
    const response = await fetch(`${url}/realms/master`);
    await response.arrayBuffer();
    return response.ok;
  } catch {
    return false;
  }
}

async function administer(url: string, method: string, path: string, body?: object): Promise<unknown> {
  const login = await fetch(`${url}/realms/master/protocol/openid-connect/token`, {
    method: 'POST',
    body: new URLSearchParams({ grant_type: 'password', client_id: 'admin-cli', ...ADMIN }),
  });
  const { access_token: token } = (await login.json()) as { access_token: string };
  const response = await fetch(`${url}/admin/realms/${path}`, {
    method,
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
    body: body && JSON.stringify(body),
  });
  const text = await response.text();
  if (!response.ok) throw new Error(`${method} ${path} answered ${response.status}: ${text}`);
  return text ? (JSON.parse(text) as unknown) : undefined;
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}
