import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';

import { afterAll, beforeAll, describe, expect, it, jest } from '@jest/globals';

import { TokenManager } from '../src/index.js';
import { configText, fillTables, openApplication, SECRETS } from './support/command-line-fixture.js';
import { type CommandLineHost, createCommandLineHost, type TypedAnswer } from './support/command-line.js';
import { createTestDatabase, type TestDatabase } from './support/test-database.js';
import { newKey } from './support/tokens-app.js';

/** Every test starts processes. */
jest.setTimeout(300_000);

const older = { id: 'older', secret: newKey() };
const newer = { id: 'newer', secret: newKey() };

let database: TestDatabase;
let host: CommandLineHost;

beforeAll(async () => {
  database = await createTestDatabase();
  const app = await openApplication(database, [older]);
  await fillTables(database, app);
  await app.close();
  await database.query('ANALYZE');
  const noteProcess = "import { writeFileSync } from 'node:fs';\nwriteFileSync('pid', String(process.pid));\n";
  host = await createCommandLineHost({
    'idp-tokens.config.mjs': noteProcess + configText(database.url, [newer, older]),
  });
});

afterAll(async () => {
  await host.remove();
  await database.drop();
});

/** Returns the lines that a terminal was sent, without what moves the cursor. */
function linesOf(text: string): string[] {
  return text.replace(/\u001b\[[0-9;?]*[A-Za-z]/g, '\n').split(/\r?\n/);
}

/** Returns the users whose tokens at acme are stored. */
async function usersAtAcme(...users: string[]): Promise<unknown[]> {
  const rows = await database.query(
    `SELECT keycloak_user_id AS user FROM auth_tokens WHERE identity_provider = 'acme' AND keycloak_user_id = ANY ($1) ORDER BY 1`,
    [users],
  );
  return rows.map(({ user }) => user);
}

describe('On a terminal', () => {
  const sigterm = async () => {
    process.kill(Number(await readFile(`${host.folder}/pid`, 'utf8')), 'SIGTERM');
    return undefined;
  };

  it.each<[string, string[], () => TypedAnswer]>([
    ['"no"', ['revoke', 'bob', 'acme'], () => 'n\n'],
    ['an empty line', ['revoke', 'bob', 'acme'], () => '\n'],
    ['a line that only begins with "y"', ['forget', 'bob'], () => 'yesterday\n'],
    ['Ctrl-C', ['forget', 'bob'], () => '\u0003'],
    ['Ctrl-C in the middle of "yes"', ['revoke', 'bob', 'acme'], () => 'y\u0003'],
    ['Ctrl-D', ['revoke', 'bob', 'acme'], () => '\u0004'],
    ['SIGTERM', ['forget', 'bob'], sigterm],
  ])('asks before it deletes, and changes nothing at %s', async (_, words, answer) => {
    const { exitCode, stdout, isInOrder } = await host.runOnTerminal(words, 80, answer);
    expect(stdout).toMatch(/This deletes (the tokens|everything) of user "bob"/);
    expect(linesOf(stdout)).toContain(`idp-tokens ${words[0] ?? ''}: Nothing was changed.`);
    expect(stdout).not.toContain('Error');
    expect({ exitCode, isInOrder }).toEqual({ exitCode: 1, isInOrder: true });
    await expect(usersAtAcme('bob')).resolves.toEqual(['bob']);
  });

  it('deletes after "yes"', async () => {
    const { exitCode, isInOrder } = await host.runOnTerminal(['revoke', 'bob', 'acme'], 80, () => 'y\n');
    expect({ exitCode, isInOrder }).toEqual({ exitCode: 0, isInOrder: true });
    await expect(usersAtAcme('bob')).resolves.toEqual([]);
  });

  it('forgets what was stored since the question too, with a pool of one connection', async () => {
    const text = configText(database.url, [newer, older]).replace(
      '"type":"postgres"',
      '"type":"postgres","poolSize":1',
    );
    await host.write('one.config.mjs', text);
    const storeMeanwhile = async () => {
      const app = await openApplication(database, [older]);
      await app.get(TokenManager).storeIdpTokens('ivan', 'acme', { accessToken: SECRETS.accessToken });
      await app.close();
      return 'yes\n';
    };
    const words = ['forget', 'ivan', '--config', 'one.config.mjs'];
    const { exitCode, stdout } = await host.runOnTerminal(words, 80, storeMeanwhile);
    expect(stdout).toContain('This deletes everything of user "ivan": initech.');
    expect(stdout).toContain('Everything of user "ivan" is deleted: acme, initech.');
    expect(exitCode).toBe(0);
    await expect(database.query("SELECT FROM auth_tokens WHERE keycloak_user_id = 'ivan'")).resolves.toEqual([]);
  });

  it('asks before it makes grants active again, with their number', async () => {
    const words = ['reactivate', 'acme', '--error', 'invalid_grant'];
    const ended = "SELECT FROM auth_tokens WHERE status <> 'active' AND last_error_code = 'invalid_grant'";
    const no = await host.runOnTerminal(words, 80, () => 'n\n');
    expect(no.stdout).toContain('This makes 1 grant at "acme" active again.');
    expect(no.exitCode).toBe(1);
    await expect(database.query(ended)).resolves.toHaveLength(1);
    const yes = await host.runOnTerminal(words, 80, () => 'y\n');
    expect(yes.exitCode).toBe(0);
    await expect(database.query(ended)).resolves.toEqual([]);
  });

  it.each([40, 80])('draws a bar of a reseal that fits %i columns', async (columns) => {
    const keys = columns === 40 ? [newer, older] : [older, newer];
    await host.write('bar.config.mjs', configText(database.url, keys));
    const { exitCode, stdout, isInOrder } = await host.runOnTerminal(
      ['keys', 'reseal', '--batch', '1', '--config', 'bar.config.mjs'],
      columns,
    );
    const lines = linesOf(stdout);
    expect(lines.filter((line) => line.length > columns)).toEqual([]);
    expect(stdout).toMatch(/auth_tokens: \d+ of about \d+ rows/);
    if (columns === 80) expect(stdout).toMatch(/█+░* \d+%/);
    expect({ exitCode, isInOrder }).toEqual({ exitCode: 0, isInOrder: true });
  });
});

describe('A reader that goes away', () => {
  it('gets no stack, and the command ends with its own exit code', async () => {
    const main = new URL('../dist/cli/main.js', import.meta.url).pathname;
    const command = `"${process.execPath}" "${main}" status --json 2>errors | true; echo "\${PIPESTATUS[0]}"; cat errors`;
    const child = spawn('bash', ['-c', command], { cwd: host.folder, stdio: ['ignore', 'pipe', 'inherit'] });
    let printed = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => (printed += text));
    await once(child, 'close');
    expect(printed).toBe('0\n');
  });
});
