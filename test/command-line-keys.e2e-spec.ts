import { afterAll, beforeAll, beforeEach, describe, expect, it, jest } from '@jest/globals';

import { TokenManager } from '../src/index.js';
import { configText, everySecret, openApplication, SECRETS } from './support/command-line-fixture.js';
import { type CommandLineHost, createCommandLineHost } from './support/command-line.js';
import { DatabaseProxy } from './support/database-proxy.js';
import { createTestDatabase, type TestDatabase } from './support/test-database.js';
import { newKey } from './support/tokens-app.js';
import { until } from './support/until.js';

/** Every test starts processes. */
jest.setTimeout(300_000);

const older = { id: 'older', secret: newKey() };
const newer = { id: 'newer', secret: newKey(), algorithm: 'aes-256-gcm' as const };
const RING = `${newer.id}:${newer.secret}:aes-256-gcm,${older.id}:${older.secret}`;
const ROWS = 300;

let database: TestDatabase;
let host: CommandLineHost;
let proxy: DatabaseProxy;

beforeAll(async () => {
  database = await createTestDatabase();
  host = await createCommandLineHost();
  const app = await openApplication(database, [older]);
  const pair = { accessToken: SECRETS.accessToken, refreshToken: SECRETS.refreshToken };
  for (let user = 0; user < ROWS; user++) await app.get(TokenManager).storeIdpTokens(`user-${user}`, 'acme', pair);
  await app.get(TokenManager).storeOfflineToken('user-0', SECRETS.offlineToken);
  await app.close();
  await database.query('CREATE TABLE saved_pairs AS SELECT * FROM auth_tokens');
  await database.query('CREATE TABLE saved_offline_tokens AS SELECT * FROM offline_tokens');
  await database.query('CREATE TABLE saved_keys AS SELECT * FROM token_keys');
});

/** Every test begins with texts of the older key. */
beforeEach(async () => {
  await database.query('TRUNCATE auth_tokens, offline_tokens, token_keys');
  await database.query('INSERT INTO auth_tokens SELECT * FROM saved_pairs');
  await database.query('INSERT INTO offline_tokens SELECT * FROM saved_offline_tokens');
  await database.query('INSERT INTO token_keys SELECT * FROM saved_keys');
});

afterAll(async () => {
  await host.remove();
  await database.drop();
});

/** Counts the rows whose two texts are of a key. */
async function rowsOf(keyId: string): Promise<number> {
  const [count] = await database.query(
    `SELECT count(*)::integer AS rows FROM auth_tokens WHERE access_token LIKE 'v1.' || $1 || '.%' AND refresh_token LIKE 'v1.' || $1 || '.%'`,
    [keyId],
  );
  return Number(count?.rows);
}

const withRing = (url = database.url) => ({ DATABASE_URL: url, TOKENS_KEYS: RING });

describe('keys generate', () => {
  it('prints a key of the algorithm in both forms, and needs no configuration', async () => {
    const generated = await host.json(['keys', 'generate', '--algorithm', 'aes-256-gcm']);
    const { id, secret, environment } = generated.answer.result as Record<string, string>;
    expect(environment).toBe(`${id}:${secret}:aes-256-gcm`);
    const { answer } = await host.json(['keys', 'status'], {
      ...withRing(),
      TOKENS_KEYS: `${environment},${older.id}:${older.secret}`,
    });
    expect(answer.result).toMatchObject({
      faults: [],
      keys: [{ id, isSealing: true, isRegistered: false }, { id: 'older' }],
    });
    await expect(database.query('SELECT id FROM token_keys')).resolves.toEqual([{ id: 'older' }]);
  });
});

describe('keys status', () => {
  it('ends with exit code 1 for a ring with which no process boots, and registers nothing', async () => {
    const TOKENS_KEYS = `newer:${newer.secret},older:${newKey()}`;
    const { exitCode, answer } = await host.json(['keys', 'status'], { DATABASE_URL: database.url, TOKENS_KEYS });
    expect(exitCode).toBe(1);
    expect(answer).toMatchObject({ ok: false, result: { faults: [expect.stringContaining('another secret')] } });
    await expect(database.query('SELECT id FROM token_keys')).resolves.toEqual([{ id: 'older' }]);
  });

  it('ends with exit code 1 for texts of a key that is not in the ring, registered or not', async () => {
    await database.query('TRUNCATE token_keys');
    const status = (TOKENS_KEYS: string) => host.json(['keys', 'status'], { DATABASE_URL: database.url, TOKENS_KEYS });
    const { exitCode, answer } = await status(`newer:${newer.secret}`);
    expect(exitCode).toBe(1);
    expect(answer.result?.faults).toEqual([
      `${2 * ROWS + 1} stored texts name the key "older", which is not in encryption.keys, so they do not open. Add the ` +
        'key again, after the first one. If its secret is lost, these users connect their accounts again.',
    ]);
    await expect(status(RING)).resolves.toMatchObject({ exitCode: 0, answer: { result: { faults: [] } } });
  });

  it('ends with exit code 1 for texts that name a retired key, and names the command that moves them', async () => {
    await database.query(`UPDATE token_keys SET retired_at = now() WHERE id = 'older'`);
    const behind = await host.json(['keys', 'status'], withRing());
    expect(behind).toMatchObject({ exitCode: 1, answer: { ok: false } });
    expect(behind.answer.result?.faults).toEqual([
      expect.stringMatching(
        /^601 stored texts name the key "older", which is retired since .* idp-tokens keys reseal\./,
      ),
    ]);
    const text = await host.run(['status'], { ...withRing(), COLUMNS: '500' });
    expect(text.stdout).toContain('Something is wrong with the keys:\n- 601 stored texts name the key "older"');
    expect(text.exitCode).toBe(1);
    await expect(host.json(['keys', 'reseal'], withRing())).resolves.toMatchObject({ exitCode: 0 });
    await expect(host.json(['keys', 'status'], withRing())).resolves.toMatchObject({ exitCode: 0 });
  });

  it('ends with exit code 1 for texts that name no key without the secret that opens them', async () => {
    await database.query(`UPDATE auth_tokens SET access_token = 'gAAAAAB-text' WHERE keycloak_user_id = 'user-7'`);
    const { exitCode, answer } = await host.json(['keys', 'status'], withRing());
    expect(exitCode).toBe(1);
    expect(answer.result?.faults).toEqual([
      expect.stringMatching(/^1 stored text names no key, .* no legacyFernetSecret/),
    ]);
  });
});

describe('keys reseal', () => {
  it('seals every text by the first key, shows its progress in lines, and skips what is done', async () => {
    const { exitCode, stdout, stderr } = await host.run(['keys', 'reseal', '--batch', '100'], withRing());
    expect(stdout).toContain(`${ROWS + 1} rows are sealed anew, 0 rows needed nothing.`);
    expect(stderr).toContain(`auth_tokens: looked at ${ROWS} rows`);
    expect(exitCode).toBe(0);
    await expect(rowsOf('newer')).resolves.toBe(ROWS);
    const again = await host.json(['keys', 'reseal'], withRing());
    expect(again.answer.result).toMatchObject({ resealed: 0, unchanged: ROWS + 1, isComplete: true });
    await expect(database.query('SELECT id FROM token_keys ORDER BY id')).resolves.toEqual([
      { id: 'newer' },
      { id: 'older' },
    ]);
  });

  it('does not begin with a ring that does not fit', async () => {
    const TOKENS_KEYS = `newer:${newer.secret},older:${newKey()}`;
    const { exitCode, answer } = await host.json(['keys', 'reseal'], { DATABASE_URL: database.url, TOKENS_KEYS });
    expect({ exitCode, message: answer.error?.message }).toEqual({
      exitCode: 2,
      message: expect.stringContaining('another secret'),
    });
    await expect(rowsOf('older')).resolves.toBe(ROWS);
    await expect(database.query('SELECT id FROM token_keys')).resolves.toEqual([{ id: 'older' }]);
  });

  it('ends with exit code 1 for texts of an unknown key, and lists them', async () => {
    await database.query(
      `UPDATE auth_tokens SET access_token = replace(access_token, 'v1.older.', 'v1.unknown.') WHERE keycloak_user_id = 'user-7'`,
    );
    const { exitCode, answer } = await host.json(['keys', 'reseal'], withRing());
    expect(answer.result).toMatchObject({
      unreadable: [
        { table: 'auth_tokens', keycloakUserId: 'user-7', idp: 'acme', column: 'access_token', keyId: 'unknown' },
      ],
    });
    expect(exitCode).toBe(1);
    const text = await host.run(['keys', 'reseal'], withRing());
    expect(text.stdout).toMatch(/that do not open, and stay as they are: [12]$/m);
    const status = await host.run(['keys', 'status'], { ...withRing(), COLUMNS: '120' });
    expect(status.stdout).toMatch(/^unknown +not in the ring, not registered +1 /m);
  });

  it.each(['SIGINT', 'SIGTERM'] as const)(
    'ends after a batch at %s, says how many, and goes on later',
    async (signal) => {
      const running = host.start(['keys', 'reseal', '--batch', '10', '--rate', '100'], withRing());
      await until(async () => (await rowsOf('newer')) >= 20, 150_000);
      running.child.kill(signal);
      const { exitCode, stdout, stderr } = await running.outcome;
      const [, resealed] = /^(\d+) rows are sealed anew/m.exec(stdout) ?? [];
      expect(Number(resealed)).toBeGreaterThanOrEqual(20);
      expect(Number(resealed)).toBeLessThan(ROWS);
      expect(Number(resealed)).toBe(await rowsOf('newer'));
      expect(stdout).toContain('Run it again to go on');
      expect(stderr).not.toMatch(/^ {4}at /m);
      expect(exitCode).toBe(1);
      await expect(host.json(['keys', 'reseal'], withRing())).resolves.toMatchObject({ exitCode: 0 });
      await expect(rowsOf('newer')).resolves.toBe(ROWS);
    },
  );

  it('resumes after the database went away in the middle', async () => {
    proxy = new DatabaseProxy(database.url);
    const url = await proxy.open();
    const running = host.start(['keys', 'reseal', '--batch', '10', '--rate', '100'], withRing(url));
    await until(async () => (await rowsOf('newer')) >= 20, 150_000);
    await proxy.close();
    const { exitCode, stderr } = await running.outcome;
    expect(stderr.replace(/\s+/g, ' ')).toContain('Run the command again: it resumes');
    expect(exitCode).toBe(3);
    await expect(rowsOf('older')).resolves.toBeGreaterThan(0);
    await expect(host.json(['keys', 'reseal'], withRing())).resolves.toMatchObject({ exitCode: 0 });
    await expect(rowsOf('newer')).resolves.toBe(ROWS);
  });

  it('runs twice at once beside a retirement, which is refused while a text names the key', async () => {
    await host.write('quick.config.mjs', configText(database.url, [newer, older], { connectionTimeoutMs: 500 }));
    const config = ['--config', 'quick.config.mjs'];
    const retire = ['keys', 'retire', 'older', ...config];
    const refused = { exitCode: 1, answer: { error: { name: 'KeyInUseError' } } };
    await expect(host.json(retire)).resolves.toMatchObject(refused);
    const slow = ['keys', 'reseal', '--batch', '10', '--rate', '50', ...config];
    const [one, other, retirement] = await Promise.all([host.json(slow), host.json(slow), host.json(retire)]);
    expect([one.exitCode, other.exitCode]).toEqual([0, 0]);
    const resealed = [one, other].map(({ answer }) => Number(answer.result?.resealed));
    expect(resealed.reduce((sum, each) => sum + each)).toBe(ROWS + 1);
    await expect(rowsOf('newer')).resolves.toBe(ROWS);
    // The retirement may have begun after the last text was sealed anew.
    const last = retirement.exitCode === 0 ? retirement : await host.json(retire);
    if (retirement.exitCode !== 0) expect(retirement).toMatchObject(refused);
    expect(last).toMatchObject({ exitCode: 0, answer: { result: { id: 'older' } } });
    const again = await host.json(retire);
    expect(again).toMatchObject({ exitCode: 2, answer: { error: { name: 'TokensUsageError' } } });
  });
});

describe('keys retire', () => {
  it('says that every process must have another key first', async () => {
    const { stderr } = await host.run(['keys', 'retire', 'nowhere'], { ...withRing(), COLUMNS: '500' });
    expect(stderr).toContain('Make sure that every process has another key first');
    const help = await host.run(['keys', 'retire', '--help']);
    expect(help.stdout.replace(/\s+/g, ' ')).toContain('Make sure before that every process has another key first.');
  });

  it.each([
    ['an id that does not exist', 'nowhere', /No encryption key has the id "nowhere"/],
    ['the key that seals', 'newer', /is the first of encryption.keys/],
  ])('ends with exit code 2 for %s', async (_, id, message) => {
    const { exitCode, answer } = await host.json(['keys', 'retire', id], withRing());
    expect(answer.error?.message).toMatch(message);
    expect(exitCode).toBe(2);
  });
});

describe('Every stream', () => {
  it('has had no secret', async () => {
    const secrets = await everySecret(database, [older, newer]);
    expect(secrets.length).toBeGreaterThan(ROWS);
    expect(secrets.filter((secret) => host.printed().includes(secret))).toEqual([]);
  });
});
