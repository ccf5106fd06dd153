import { afterAll, beforeAll, beforeEach, describe, expect, it, jest } from '@jest/globals';

import { TokenManager } from '../src/index.js';
import { configText, openApplication, SECRETS } from './support/command-line-fixture.js';
import { type CommandLineHost, createCommandLineHost } from './support/command-line.js';
import { createTestDatabase, type TestDatabase } from './support/test-database.js';
import { newKey } from './support/tokens-app.js';

/** Every test starts processes. */
jest.setTimeout(300_000);

const key = { id: '2026-11', secret: newKey() };
const TABLES = ['auth_tokens', 'token_revocations', 'disconnected_accounts', 'link_attempts'];
/** ESC [ 2 J clears a terminal. */
const NAME_THAT_CLEARS = 'ada\u001b[2J-at-work';

let database: TestDatabase;
let host: CommandLineHost;

beforeAll(async () => {
  database = await createTestDatabase();
  host = await createCommandLineHost({ 'idp-tokens.config.mjs': configText(database.url, [key]) });
  const app = await openApplication(database, [key]);
  const tokens = app.get(TokenManager);
  const pair = { accessToken: SECRETS.accessToken, refreshToken: SECRETS.refreshToken };
  const accounts = [
    ['acme', ''],
    ['acme', 'old'],
    ['acme', 'work'],
    ['initech', 'home'],
  ] as const;
  for (const [idp, account] of accounts) await tokens.storeIdpTokens('ada', idp, pair, { account });
  await tokens.revokeIdpTokens('ada', 'acme', { account: 'old' });
  await app.close();
  await database.query(
    `UPDATE auth_tokens SET subject = '42', account_name = $1, scopes = 'repo user', last_error_code = 'http_503',
       updated_at = now() - interval '1 hour' WHERE account = 'work'`,
    [NAME_THAT_CLEARS],
  );
  await database.query(`INSERT INTO link_attempts
      (state_hash, keycloak_user_id, identity_provider, account, scopes, code_verifier, expires_at)
    SELECT 'attempt of ' || who, who, 'acme', 'new', '', 'v1.2026-11.x', now() + interval '10 minutes'
      FROM unnest(ARRAY['ada', 'bob']) AS who`);
  for (const table of TABLES) await database.query(`CREATE TABLE saved_${table} AS SELECT * FROM ${table}`);
});

/** Every test begins with the same rows. */
beforeEach(async () => {
  for (const table of TABLES) {
    await database.query(`DELETE FROM ${table}`);
    await database.query(`INSERT INTO ${table} SELECT * FROM saved_${table}`);
  }
});

afterAll(async () => {
  await host.remove();
  await database.drop();
});

/** Returns the accounts of ada that a table has. */
async function accountsIn(table: string): Promise<string[]> {
  const rows = await database.query(
    `SELECT identity_provider || ' ' || account AS name FROM ${table} WHERE keycloak_user_id = 'ada' ORDER BY 1`,
  );
  return rows.map(({ name }) => String(name));
}

describe('show', () => {
  it('tells the account, its subject, its name and its scopes', async () => {
    const { exitCode, answer } = await host.json(['show', 'ada']);
    expect(exitCode).toBe(0);
    const unknown = { subject: null, name: null, scopes: null };
    expect(answer.result).toMatchObject({
      connections: [
        { idp: 'acme', account: '', ...unknown },
        { idp: 'acme', account: 'work', subject: '42', name: NAME_THAT_CLEARS, scopes: ['repo', 'user'] },
        { idp: 'initech', account: 'home', ...unknown },
      ],
      disconnected: [{ idp: 'acme', account: 'old' }],
      waitingRevocations: [{ idp: 'acme', account: 'old', rows: 1 }],
    });
    const one = await host.json(['show', 'ada', 'initech']);
    expect(one.answer.result).toMatchObject({ connections: [{ account: 'home' }], disconnected: [] });
  });

  it('prints them, and no control character of a name', async () => {
    const { stdout } = await host.run(['show', 'ada']);
    const work = /^account {2,}work\nsubject {2,}42\nname {2,}ada\\u001b\[2J-at-work\nscopes {2,}repo user$/m;
    expect(stdout).toMatch(work);
    expect(stdout.match(/^account .*/gm)).toHaveLength(2); // the default account has no name
    expect(stdout).toMatch(/^acme \(old\): the user disconnected the account at/m);
    expect(stdout).toMatch(/^acme \(old\): 1 deleted pair waits to be revoked since/m);
    expect(stdout).not.toContain('\u001b');
  });
});

describe('status', () => {
  it('counts the accounts by provider, and names the account of the oldest failure', async () => {
    const { answer } = await host.json(['status']);
    expect(answer.result).toMatchObject({
      oldestFailure: { user: 'ada', idp: 'acme', account: 'work', cause: 'http_503' },
      outbox: [{ idp: 'acme', rows: 1 }],
      keys: { keys: [{ id: '2026-11', texts: { auth_tokens: 6, link_attempts: 2 } }] },
    });
    const rows = (answer.result?.pairs as { idp: string; rows: number }[]).filter(({ idp }) => idp === 'acme');
    expect(rows.reduce((sum, each) => sum + each.rows, 0)).toBe(2);
    const { stdout } = await host.run(['status']);
    expect(stdout.replace(/\s+/g, ' ')).toContain('user "ada" at acme (work): http_503.');
  });
});

describe('keys status', () => {
  it('has a column of the open attempts only if there is one', async () => {
    const columns = async () => (await host.run(['keys', 'status'], { COLUMNS: '200' })).stdout;
    await expect(columns()).resolves.toMatch(/ token_revocations {2}link_attempts\n/);
    await database.query('DELETE FROM link_attempts');
    await expect(columns()).resolves.toMatch(/ token_revocations\n/);
  });
});

describe('keys reseal', () => {
  it('names the account of a text that does not open', async () => {
    await database.query("UPDATE auth_tokens SET access_token = 'v1.gone.x' WHERE account = 'work'");
    const { exitCode, stdout } = await host.run(['keys', 'reseal'], { COLUMNS: '200' });
    expect(exitCode).toBe(1);
    expect(stdout).toMatch(/^auth_tokens +ada +acme \(work\) +access_token +gone$/m);
  });
});

describe('revoke', () => {
  it('ends the default account without --account, and another one with it', async () => {
    const named = await host.json(['revoke', 'ada', 'acme', '--account', 'work', '--yes']);
    expect(named).toMatchObject({
      exitCode: 0,
      answer: { result: { user: 'ada', idp: 'acme', account: 'work', isDeleted: true, isNotedForRevocation: true } },
    });
    await expect(accountsIn('auth_tokens')).resolves.toEqual(['acme ', 'initech home']);
    await expect(accountsIn('token_revocations')).resolves.toEqual(['acme old', 'acme work']);
    const other = await host.json(['revoke', 'ada', 'acme', '--yes']);
    expect(other.answer.result).toMatchObject({ account: '', isDeleted: true });
    await expect(accountsIn('auth_tokens')).resolves.toEqual(['initech home']);
  });

  it('names the account in its question', async () => {
    const { exitCode, answer } = await host.json(['revoke', 'ada', 'acme', '--account', 'work']);
    expect(exitCode).toBe(2);
    expect(answer.error?.message).toMatch(/^This deletes the tokens of user "ada" at "acme", account "work"\./);
    await expect(accountsIn('auth_tokens')).resolves.toHaveLength(3);
  });

  it('deletes nothing if there is no such account, and names the other ones', async () => {
    const { exitCode, stdout } = await host.run(['revoke', 'ada', 'initech', '--yes'], { COLUMNS: '200' });
    expect(exitCode).toBe(0);
    expect(stdout).toBe(
      'No tokens of user "ada" at "initech" were stored. The user has other accounts there: "home".\n',
    );
    const wrong = await host.run(['revoke', 'ada', 'acme', '--account', 'none', '--yes'], { COLUMNS: '200' });
    expect(wrong.stdout).toContain('The user has other accounts there: the default one (without --account), "work".');
    await expect(accountsIn('auth_tokens')).resolves.toHaveLength(3);
  });

  it('ends with exit code 2 for what is no account', async () => {
    const { exitCode, answer } = await host.json(['revoke', 'ada', 'acme', '--account', 'x'.repeat(300), '--yes']);
    expect({ exitCode, name: answer.error?.name }).toEqual({ exitCode: 2, name: 'InvalidTokenInputError' });
  });
});

describe('forget', () => {
  it('deletes all accounts and attempts of a user, and those of no other user', async () => {
    const { exitCode, answer } = await host.json(['forget', 'ada', '--yes']);
    const acme = ['', 'work'].map((account) => ({ idp: 'acme', account }));
    expect({ exitCode, result: answer.result }).toEqual({
      exitCode: 0,
      result: {
        user: 'ada',
        deleted: [...acme, { idp: 'initech', account: 'home' }],
        notedForRevocation: acme,
        hasDeletedOfflineToken: false,
      },
    });
    for (const table of ['auth_tokens', 'disconnected_accounts', 'link_attempts']) {
      await expect(accountsIn(table)).resolves.toEqual([]);
    }
    await expect(accountsIn('token_revocations')).resolves.toEqual(['acme ', 'acme old', 'acme work']);
    await expect(database.query('SELECT keycloak_user_id FROM link_attempts')).resolves.toEqual([
      { keycloak_user_id: 'bob' },
    ]);
  });

  it('prints the accounts', async () => {
    const { stdout } = await host.run(['forget', 'ada', '--yes'], { COLUMNS: '200' });
    expect(stdout).toMatch(/^Everything of user "ada" is deleted: acme, acme \(work\), initech \(home\)\.$/m);
    expect(stdout).toContain('revokes the tokens of acme, acme (work). Until then they are sealed in');
    expect(stdout).toContain('Nothing revokes the tokens of initech (home): they end when they expire.');
  });
});

describe('reactivate', () => {
  it('counts the grants of all accounts with --dry-run, and then makes them active', async () => {
    await database.query(
      `UPDATE auth_tokens SET status = 'reauthentication_required', last_error_code = 'invalid_grant'
         WHERE identity_provider = 'acme'`,
    );
    const dry = await host.json(['reactivate', 'acme', '--dry-run']);
    expect(dry.answer.result).toMatchObject({ grants: 2, byCause: [{ cause: 'invalid_grant', rows: 2 }] });
    const done = await host.json(['reactivate', 'acme', '--yes']);
    expect(done.answer.result).toMatchObject({ grants: 2 });
    await expect(database.query("SELECT FROM auth_tokens WHERE status <> 'active'")).resolves.toEqual([]);
  });
});
