import { setImmediate as nextTurn, setTimeout as delay } from 'node:timers/promises';

import { describe, expect, it } from '@jest/globals';

import type { TokenKey } from '../token-key.js';
import { TokenStoreUnavailableError } from '../tokens.errors.js';
import { BatchedStatement } from './batched-statement.js';

/** A database that answers when the test says so, with a row for each user but "nobody". */
function database() {
  const statements: { users: string[]; answer(): void; fail(error: Error): void }[] = [];
  const lookup = new BatchedStatement<TokenKey, string>((keys) => {
    const { promise, resolve, reject } = deferred<(string | undefined)[]>();
    const users = keys.map(({ keycloakUserId }) => keycloakUserId);
    const answer = () => {
      resolve(keys.map(({ keycloakUserId: user, idp }) => (user === 'nobody' ? undefined : `${user} at ${idp}`)));
    };
    statements.push({ users, answer, fail: reject });
    return promise;
  });
  const load = (keycloakUserId: string, idp = 'github') => lookup.run({ keycloakUserId, idp });
  return { statements, load };
}

function deferred<T>() {
  let resolve!: (value: T) => void;
  let reject!: (error: Error) => void;
  const promise = new Promise<T>((onResolve, onReject) => {
    resolve = onResolve;
    reject = onReject;
  });
  return { promise, resolve, reject };
}

function names(count: number, prefix = 'user'): string[] {
  return Array.from({ length: count }, (_, index) => `${prefix}-${index}`);
}

describe('BatchedStatement', () => {
  it('sends a single lookup at the end of its tick', async () => {
    const { statements, load } = database();
    const row = load('ada');
    await nextTurn();
    expect(statements.map(({ users }) => users)).toEqual([['ada']]);
    statements[0]?.answer();
    await expect(row).resolves.toBe('ada at github');
  });

  it('shares the lookups of one tick between two statements', async () => {
    const { statements, load } = database();
    const rows = names(32).map((name) => load(name));
    await nextTurn();
    expect(statements.map(({ users }) => users.length)).toEqual([16, 16]);
    for (const statement of statements) statement.answer();
    await expect(Promise.all(rows)).resolves.toEqual(names(32).map((name) => `${name} at github`));
  });

  it('gathers what comes while both statements are under way, and sends it when one is done', async () => {
    const { statements, load } = database();
    const first = [load('a'), load('b')];
    await nextTurn();
    const later = [];
    for (const name of names(5)) {
      later.push(load(name));
      await nextTurn();
    }
    expect(statements).toHaveLength(2);
    statements[0]?.answer();
    await first[0];
    await nextTurn();
    expect(statements.map(({ users }) => users.length)).toEqual([1, 1, 5]);
    statements[1]?.answer();
    statements[2]?.answer();
    await expect(Promise.all(later)).resolves.toHaveLength(5);
  });

  it('lets lookups of one turn of the event loop share a statement, though each comes alone', async () => {
    const { statements, load } = database();
    const rows = [load('first')];
    await new Promise<void>((resolve) => {
      for (const name of names(5)) setImmediate(() => rows.push(load(name)));
      setImmediate(resolve);
    });
    while (statements.length < 2) await nextTurn();
    expect(statements.map(({ users }) => users.length)).toEqual([1, 5]);
    for (const statement of statements) statement.answer();
    await expect(Promise.all(rows)).resolves.toHaveLength(6);
  });

  it('never puts more than 256 lookups into a statement', async () => {
    const { statements, load } = database();
    const rows = names(1000).map((name) => load(name));
    while (statements.length < 4) {
      await nextTurn();
      for (const statement of statements) statement.answer();
    }
    await Promise.all(rows);
    expect(Math.max(...statements.map(({ users }) => users.length))).toBe(256);
  });

  it('keeps providers apart that share a statement', async () => {
    const { statements, load } = database();
    const rows = ['github', 'gitlab', 'github', 'bitbucket'].map((idp) => load('ada', idp));
    await nextTurn();
    expect(statements).toHaveLength(2);
    for (const statement of statements) statement.answer();
    await expect(Promise.all(rows)).resolves.toEqual([
      'ada at github',
      'ada at gitlab',
      'ada at github',
      'ada at bitbucket',
    ]);
  });

  it('asks again one by one when a value is at fault, so that it fails its own caller only', async () => {
    const { statements, load } = database();
    const rows = [load('a'), load('b'), load('bad'), load('c')];
    await nextTurn();
    statements[0]?.answer();
    statements[1]?.fail(new TokenStoreUnavailableError('not in this encoding', '22P05'));
    await rows[0];
    while (statements.length < 4) await nextTurn();
    for (const statement of statements.slice(2)) {
      if (statement.users.includes('bad'))
        statement.fail(new TokenStoreUnavailableError('not in this encoding', '22P05'));
      else statement.answer();
    }
    const outcomes = await Promise.allSettled(rows);
    expect(outcomes.map(({ status }) => status)).toEqual(['fulfilled', 'fulfilled', 'rejected', 'fulfilled']);
  });

  it('gives null to those whose row is not there', async () => {
    const { statements, load } = database();
    const rows = [load('nobody'), load('ada')];
    await nextTurn();
    for (const statement of statements) statement.answer();
    await expect(Promise.all(rows)).resolves.toEqual([null, 'ada at github']);
  });

  it('rejects those whose statement failed, and nobody else', async () => {
    const { statements, load } = database();
    const rows = [load('ada'), load('bob')];
    await nextTurn();
    statements[0]?.fail(new Error('gone'));
    statements[1]?.answer();
    await expect(Promise.allSettled(rows)).resolves.toMatchObject([{ status: 'rejected' }, { value: 'bob at github' }]);
    const next = load('ada');
    await nextTurn();
    statements[2]?.answer();
    await expect(next).resolves.toBe('ada at github');
  });

  it('overtakes statements that hang: they keep nobody else from reading', async () => {
    const { statements, load } = database();
    const hanging = [load('a'), load('b')];
    await nextTurn();
    const row = load('ada');
    while (statements.length < 3) await delay(10);
    statements[2]?.answer();
    await expect(row).resolves.toBe('ada at github');
    for (const statement of statements) statement.answer();
    await expect(Promise.all(hanging)).resolves.toHaveLength(2);
  });

  it('overtakes again and again, so that nobody waits behind what hangs without an end', async () => {
    const { statements, load } = database();
    const rows = names(1300).map((name) => load(name));
    while (statements.length < 6) await delay(10);
    expect(statements.reduce((sum, { users }) => sum + users.length, 0)).toBe(1300);
    for (const statement of statements) statement.answer();
    await expect(Promise.all(rows)).resolves.toHaveLength(1300);
  });
});
