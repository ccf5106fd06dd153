import { spawn } from 'node:child_process';
import { once } from 'node:events';

import { afterAll, beforeAll, describe, expect, it, jest } from '@jest/globals';

import { configText, fillTables, openApplication } from './support/command-line-fixture.js';
import { type CommandLineHost, createCommandLineHost } from './support/command-line.js';
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
  host = await createCommandLineHost({ 'idp-tokens.config.mjs': configText(database.url, [newer, older]) });
});

afterAll(async () => {
  await host.remove();
  await database.drop();
});

/** Returns the lines that a terminal was sent, without what moves the cursor. */
function linesOf(text: string): string[] {
  return text.replace(/\u001b\[[0-9;?]*[A-Za-z]/g, '\n').split(/\r?\n/);
}

describe('On a terminal', () => {
  it('asks before it deletes, and does nothing for "no"', async () => {
    const { exitCode, stdout } = await host.runOnTerminal(['revoke', 'bob', 'acme'], 80, 'n');
    expect(stdout).toContain('This deletes the tokens of user "bob" at "acme".');
    expect(stdout).toContain('Nothing was changed.');
    expect(exitCode).toBe(1);
    await expect(database.query("SELECT FROM auth_tokens WHERE keycloak_user_id = 'bob'")).resolves.toHaveLength(1);
  });

  it('does nothing at Ctrl-C', async () => {
    const { exitCode, stdout } = await host.runOnTerminal(['forget', 'bob'], 80, '\u0003');
    expect(stdout).toContain('Nothing was changed.');
    expect(exitCode).toBe(1);
    await expect(database.query("SELECT FROM auth_tokens WHERE keycloak_user_id = 'bob'")).resolves.toHaveLength(1);
  });

  it('deletes after "yes"', async () => {
    const { exitCode } = await host.runOnTerminal(['revoke', 'bob', 'acme'], 80, 'y');
    expect(exitCode).toBe(0);
    await expect(database.query("SELECT FROM auth_tokens WHERE keycloak_user_id = 'bob'")).resolves.toEqual([]);
  });

  it.each([40, 80])('draws a bar of a reseal that fits %i columns', async (columns) => {
    const keys = columns === 40 ? [newer, older] : [older, newer];
    await host.write('bar.config.mjs', configText(database.url, keys));
    const { exitCode, stdout } = await host.runOnTerminal(
      ['keys', 'reseal', '--batch', '1', '--config', 'bar.config.mjs'],
      columns,
    );
    const lines = linesOf(stdout);
    expect(lines.filter((line) => line.length > columns)).toEqual([]);
    expect(stdout).toMatch(/auth_tokens: \d+ of about \d+ rows/);
    if (columns === 80) expect(stdout).toMatch(/█+░* \d+%/);
    expect(exitCode).toBe(0);
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
