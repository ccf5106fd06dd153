import { EventEmitter } from 'node:events';
import { Writable } from 'node:stream';

import { describe, expect, it } from '@jest/globals';

import { DEFAULT_ROWS_PER_SECOND } from '../key-rotation/reseal-walk.js';
import { COMMANDS } from './commands.js';
import { run } from './program.js';
import { Signals } from './signals.js';

/** Runs a call that needs neither a file nor a database. */
async function call(...words: string[]): Promise<{ exitCode: number; stdout: string; stderr: string }> {
  const printed = { stdout: '', stderr: '' };
  const streamOf = (name: keyof typeof printed) =>
    new Writable({
      decodeStrings: false,
      write: (text: string, _, done) => {
        printed[name] += text;
        done();
      },
    });
  const exitCode = await run(words, {
    stdout: streamOf('stdout'),
    stderr: streamOf('stderr'),
    environment: {},
    folder: '/nowhere',
    signals: new Signals(new EventEmitter() as NodeJS.Process),
  });
  return { exitCode, ...printed };
}

const NAMES = COMMANDS.map(({ name }) => name);

describe('The program', () => {
  it.each(NAMES)('has help with examples for "%s"', async (name) => {
    const { exitCode, stdout } = await call(...name.split(' '), '--help');
    expect(stdout).toMatch(new RegExp(`Examples:\n  \\$ (\\w+=… )*idp-tokens ${name}`));
    for (const option of ['--json', '--config', '--debug']) expect(stdout).toContain(option);
    expect(exitCode).toBe(0);
  });

  it('lists every command and the exit codes', async () => {
    const { stdout, exitCode } = await call('--help');
    for (const name of NAMES) expect(stdout).toMatch(new RegExp(`^  ${name.split(' ')[0] ?? ''} `, 'm'));
    expect(stdout).toContain('0 done, 1 something was found or failed, 2 wrong use, 3 no database');
    expect(exitCode).toBe(0);
  });

  it.each([
    ['an unknown command', ['statuss']],
    ['an unknown command of a group', ['keys', 'lose']],
    ['an unknown option', ['status', '--al']],
    ['a missing argument', ['revoke', 'ada']],
    ['an argument too many', ['status', 'ada']],
    ['a wrong time', ['reactivate', 'acme', '--since', 'yesterday']],
    ['a time without a zone', ['reactivate', 'acme', '--since', '2026-11-24T09:00:00']],
    ['a wrong batch', ['keys', 'reseal', '--batch', '0']],
    ['a wrong rate', ['keys', 'reseal', '--rate', 'fast']],
    ['a wrong algorithm', ['keys', 'generate', '--algorithm', 'des']],
    ['a wrong key id', ['keys', 'generate', '--id', 'a.b']],
    ['no configuration', ['status']],
  ])('answers %s with exit code 2, as text and as JSON', async (_, words) => {
    const text = await call(...words);
    expect(text).toMatchObject({ exitCode: 2, stdout: '', stderr: expect.stringMatching(/\w/) });
    const json = await call(...words, '--json');
    expect(json).toMatchObject({ exitCode: 2, stderr: '' });
    expect(JSON.parse(json.stdout)).toMatchObject({
      ok: false,
      error: { name: 'CliError', message: expect.stringMatching(/\w/) },
    });
  });

  it.each([
    '2026-11-24',
    '2026-11-24T09:00:00',
    '2026-02-30T00:00:00Z',
    '2026-13-01T00:00:00Z',
    '2026-11-24T25:00:00Z',
    '2026-11-24T09:00:00+99:00',
    '24 Nov 2026 09:00 UTC',
  ])('refuses the time %s', async (time) => {
    const { exitCode, stderr } = await call('reactivate', 'acme', '--since', time);
    expect(stderr).toContain('Give a time in ISO 8601 with a time zone');
    expect(exitCode).toBe(2);
  });

  it.each(['2026-11-24T09:00Z', '2026-11-24T09:00:00.5+05:30', '2028-02-29T00:00:00-08:00'])(
    'takes the time %s',
    async (time) => {
      const { stderr } = await call('reactivate', 'acme', '--since', time);
      expect(stderr.replace(/\s+/g, ' ')).toContain('there is no configuration file here');
    },
  );

  it('has the default rate of the module for a reseal, and "unlimited" to lift it', async () => {
    const { stdout } = await call('keys', 'reseal', '--help');
    expect(stdout.replace(/\s+/g, ' ')).toContain(`or "unlimited" (default: ${DEFAULT_ROWS_PER_SECOND})`);
    const unlimited = await call('keys', 'reseal', '--rate', 'unlimited');
    expect(unlimited.stderr).toContain('does not know the database');
    for (const rate of ['0', '-1', 'Infinity', 'fast']) {
      const { exitCode, stderr } = await call('keys', 'reseal', '--rate', rate);
      expect(stderr).toContain('Give a number above 0, or "unlimited".');
      expect(exitCode).toBe(2);
    }
  });

  it('ends with exit code 2 and the help if no command is given', async () => {
    const { exitCode, stderr } = await call();
    expect(stderr).toContain('Usage: idp-tokens');
    expect(exitCode).toBe(2);
  });
});
