import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import type { INestApplication } from '@nestjs/common';
import pg from 'pg';

import {
  AccountLinks,
  type EncryptionKeyOptions,
  KeyInUseError,
  type TextsByTable,
  TokenKeyRotation,
  TokenManager,
} from '../src/index.js';
import { TextSealer } from '../src/key-rotation/text-sealer.js';
import { SealedTextsTable } from '../src/storage/sealed-texts/sealed-texts.table.js';
import { CodeFlowProvider } from './support/code-flow-provider.js';
import { createTestDatabase, type TestDatabase } from './support/test-database.js';
import { createTokensApp, newKey } from './support/tokens-app.js';
import { until } from './support/until.js';

const NOW = { pauseMs: 10 };
const older = { id: 'older', secret: newKey() };
const newer = { id: 'newer', secret: newKey(), algorithm: 'aes-256-gcm' as const };

let database: TestDatabase;
let provider: CodeFlowProvider;
let apps: INestApplication[];
/** The application before the rotation. */
let before: INestApplication;
/** The application that has the new key in first place. */
let after: INestApplication;
let rotation: TokenKeyRotation;

async function open(keys: readonly EncryptionKeyOptions[]): Promise<INestApplication> {
  const { issuer, client } = provider;
  const acme = {
    ...client,
    authorizationEndpoint: `${issuer}/authorize`,
    tokenEndpoint: `${issuer}/token`,
    redirectUri: 'https://host.example/connections/acme/callback',
  };
  const options = { encryption: { keys }, identityProviders: { acme } };
  const { app } = await createTokensApp({ databaseUrl: database.url, options });
  apps.push(app);
  return app;
}

beforeAll(async () => {
  provider = await CodeFlowProvider.start();
});

afterAll(async () => {
  await provider.close();
});

beforeEach(async () => {
  database = await createTestDatabase();
  apps = [];
  before = await open([older, newer]);
  after = await open([newer, older]);
  rotation = after.get(TokenKeyRotation);
});

afterEach(async () => {
  await Promise.all(apps.map((app) => app.close()));
  await database.drop();
});

/** Begins to link the account "work" of ada, and returns the URL to which the provider sends the browser back. */
async function begin(app: INestApplication): Promise<URL> {
  const { authorizationUrl } = await app.get(AccountLinks).begin('ada', 'acme', { account: 'work' });
  return provider.authorize(authorizationUrl, 'ada-at-acme');
}

async function textsOf(key: string): Promise<TextsByTable | undefined> {
  return (await rotation.status()).keys.find(({ id }) => id === key)?.texts;
}

/** Returns every column of the attempts but the sealed text. */
async function otherColumns(): Promise<unknown[]> {
  return (await database.query('SELECT * FROM link_attempts')).map(({ code_verifier, ...others }) => {
    expect(code_verifier).toMatch(/^v1\./);
    return others;
  });
}

describe('An open attempt to link an account', () => {
  it('is counted, sealed anew by a reseal, and finished by a process that has only the new key', async () => {
    const callback = await begin(before);
    await expect(textsOf('older')).resolves.toMatchObject({ auth_tokens: 0, link_attempts: 1 });
    const columns = await otherColumns();
    const done = { unreadable: [], isComplete: true };
    await expect(rotation.reseal()).resolves.toEqual({ ...done, resealed: 1, unchanged: 0 });
    await expect(rotation.reseal()).resolves.toEqual({ ...done, resealed: 0, unchanged: 1 });
    await expect(otherColumns()).resolves.toEqual(columns);
    await expect(textsOf('older')).resolves.toMatchObject({ link_attempts: 0 });
    await expect(textsOf('newer')).resolves.toMatchObject({ link_attempts: 1 });
    await rotation.retire('older', NOW);
    const alone = await open([newer]);
    await expect(alone.get(AccountLinks).finish('ada', callback)).resolves.toMatchObject({ account: 'work' });
    await expect(alone.get(TokenManager).getIdpToken('ada', 'acme', { account: 'work' })).resolves.toMatchObject({
      accessToken: expect.any(String),
    });
  });

  it('keeps its key from retirement, and can be finished all the same', async () => {
    const callback = await begin(before);
    const error = await rotation.retire('older', NOW).catch((refusal: unknown) => refusal);
    expect(error).toBeInstanceOf(KeyInUseError);
    expect(error).toMatchObject({
      texts: { auth_tokens: 0, offline_tokens: 0, token_revocations: 0, link_attempts: 1 },
      message: expect.stringMatching(/name it: 1 of link_attempts\. Call reseal\(\)/),
    });
    await after.get(AccountLinks).finish('ada', callback);
    await rotation.retire('older', NOW);
    await expect(textsOf('newer')).resolves.toMatchObject({ link_attempts: 0 });
  });

  it('does not count once it has expired, because no call opens its text', async () => {
    await begin(before);
    await database.query("UPDATE link_attempts SET expires_at = now() - interval '1 second'");
    await expect(textsOf('older')).resolves.toMatchObject({ link_attempts: 0 });
    await expect(rotation.reseal()).resolves.toMatchObject({ resealed: 0, unchanged: 0, isComplete: true });
    await rotation.retire('older', NOW);
  });

  it('stays finished if it is finished during a reseal', async () => {
    const callback = await begin(before);
    const texts = after.get(SealedTextsTable, { strict: false });
    const sealer = after.get(TextSealer, { strict: false });
    const page = { after: null, limit: 10, sealedPrefix: sealer.sealedPrefix };
    const [row] = await texts.page('link_attempts', page);
    if (!row) throw new Error('The page has no attempt.');
    const { toReplace } = sealer.seal('link_attempts', row);
    if (!toReplace) throw new Error('The attempt needs nothing.');
    await before.get(AccountLinks).finish('ada', callback);
    await expect(texts.replace('link_attempts', [toReplace])).resolves.toEqual(new Set());
    await expect(database.query('SELECT FROM link_attempts')).resolves.toEqual([]);
  });

  it('is finished by its new text if a reseal has its row at that moment', async () => {
    const callback = await begin(before);
    const texts = after.get(SealedTextsTable, { strict: false });
    const sealer = after.get(TextSealer, { strict: false });
    const [row] = await texts.page('link_attempts', { after: null, limit: 10, sealedPrefix: sealer.sealedPrefix });
    const { toReplace } = row ? sealer.seal('link_attempts', row) : { toReplace: null };
    const reseal = new pg.Client(database.url);
    await reseal.connect();
    await reseal.query('BEGIN');
    await reseal.query('UPDATE link_attempts SET code_verifier = $1', [toReplace?.newFirst]);
    const finished = after.get(AccountLinks).finish('ada', callback);
    await until(async () => {
      const waiting = await database.query(
        "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'",
      );
      return waiting.length > 0;
    }).finally(async () => {
      await reseal.query('COMMIT');
      await reseal.end();
    });
    await expect(finished).resolves.toMatchObject({ idp: 'acme', account: 'work' });
  });

  it('whose text does not open is named with its account, and left as it is', async () => {
    await begin(before);
    await database.query("UPDATE link_attempts SET code_verifier = 'v1.gone.x'");
    const [attempt] = await database.query('SELECT state_hash FROM link_attempts');
    await expect(rotation.reseal()).resolves.toMatchObject({
      resealed: 0,
      unreadable: [
        {
          table: 'link_attempts',
          id: attempt?.state_hash,
          keycloakUserId: 'ada',
          idp: 'acme',
          account: 'work',
          column: 'code_verifier',
          keyId: 'gone',
        },
      ],
    });
    await expect(database.query('SELECT code_verifier FROM link_attempts')).resolves.toEqual([
      { code_verifier: 'v1.gone.x' },
    ]);
  });
});
