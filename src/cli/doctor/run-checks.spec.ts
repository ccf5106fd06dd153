import { describe, expect, it } from '@jest/globals';

import type { DoctorContext } from './doctor-context.js';
import type { Finding } from './finding.js';
import { type Check, runChecks } from './run-checks.js';

const fine = (check: string): Finding => ({ check, level: 'ok', message: 'Fine.' });
const check = (name: string, run: Check['run'], more: Partial<Check> = {}): Check => ({
  name,
  run,
  needsDatabase: true,
  deadlineMs: 50,
  ...more,
});
const good = (name: string, more?: Partial<Check>) => check(name, () => Promise.resolve([fine(name)]), more);

/** Runs checks that do not look at their context. */
function run(checks: Check[], { hasDatabase = true, knows = { keys: true, options: true } } = {}) {
  const faults: string[] = [];
  const context = { knows } as DoctorContext;
  const onProgramFault = (name: string, error: Error) => faults.push(`${name}: ${error.name}`);
  return { findings: runChecks(checks, context, { hasDatabase, onProgramFault }), faults };
}

const levels = async (findings: Promise<Finding[]>) =>
  (await findings).map(({ check: name, level }) => `${name} ${level}`);

describe('runChecks', () => {
  it('makes a check that hangs, one that rejects and one that throws a fault, and runs the others', async () => {
    const { findings, faults } = run([
      check('hangs', () => new Promise(() => undefined)),
      check('rejects', () => Promise.reject(new TypeError('secret'))),
      check('throws', () => {
        throw new RangeError('secret');
      }),
      good('last'),
      check('hangs outside', () => new Promise(() => undefined), { needsDatabase: false }),
    ]);
    expect(await levels(findings)).toEqual([
      'hangs fault',
      'rejects fault',
      'throws fault',
      'last ok',
      'hangs outside fault',
    ]);
    expect(JSON.stringify(await findings)).not.toContain('secret');
    expect(faults).toEqual(['rejects: TypeError', 'throws: RangeError']);
  });

  it('keeps the order of the checks, and runs those on the database one after the other', async () => {
    let running = 0;
    let most = 0;
    const counted = (name: string, needsDatabase: boolean) =>
      check(
        name,
        async () => {
          if (needsDatabase) most = Math.max(most, ++running);
          await Promise.resolve();
          if (needsDatabase) running--;
          return [fine(name)];
        },
        { needsDatabase },
      );
    const { findings } = run([counted('a', true), counted('b', false), counted('c', true), counted('d', false)]);
    expect((await findings).map(({ check: name }) => name)).toEqual(['a', 'b', 'c', 'd']);
    expect(most).toBe(1);
  });

  it('leaves checks out that need the database, the keys or the options, if there are none', async () => {
    const checks = [good('database'), good('nothing', { needsDatabase: false }), good('keys', { needs: 'keys' })];
    expect(await levels(run(checks, { hasDatabase: false }).findings)).toEqual(['nothing ok']);
    const knows = { keys: false, options: true };
    expect(await levels(run(checks, { knows }).findings)).toEqual(['database ok', 'nothing ok']);
  });
});
