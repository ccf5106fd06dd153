import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { INestApplication } from '@nestjs/common';
import type { DataSource } from 'typeorm';

import { TokenManager, TokensNotFoundError } from '../src/index.js';
import { connectionsInUse, createTestDatabase, type TestDatabase } from './support/test-database.js';
import { createTokensApp, newKey } from './support/tokens-app.js';
import { until } from './support/until.js';

let database: TestDatabase;
let apps: INestApplication[];
let dataSource: DataSource;
let reader: TokenManager;
let writer: TokenManager;

beforeAll(async () => {
  database = await createTestDatabase();
  const options = {
    encryption: { keys: [{ id: 'test', secret: newKey() }] },
    identityProviders: { github: { clientId: 'client', clientSecret: 'secret' } },
  };
  const [first, second] = await Promise.all([
    createTokensApp({ databaseUrl: database.url, options }),
    createTokensApp({ databaseUrl: database.url, options }),
  ]);
  apps = [first.app, second.app];
  dataSource = first.dataSource;
  reader = first.app.get(TokenManager);
  writer = second.app.get(TokenManager);
});

afterAll(async () => {
  await Promise.all(apps.map((app) => app.close()));
  await database.drop();
});

/** The committed state: the number of the last token, and whether the row still exists. */
interface Committed {
  readonly number: number;
  readonly isThere: boolean;
}

describe('reads under load', () => {
  it('never give a token that another instance replaced or deleted before they began', async () => {
    let committed: Committed = { number: 0, isThere: false };
    let isOver = false;
    const write = async (next: Committed) => {
      if (next.isThere) await writer.storeIdpTokens('ada', 'github', { accessToken: String(next.number) });
      else await writer.revokeIdpTokens('ada', 'github');
      committed = next;
    };

    const stale: string[] = [];
    let reads = 0;
    const read = async () => {
      while (!isOver) {
        const before = committed;
        const found = await reader.getIdpToken('ada', 'github').then(
          ({ accessToken }) => Number(accessToken),
          (error: unknown) => {
            if (error instanceof TokensNotFoundError) return Infinity; // a missing row counts as newer than every token
            throw error;
          },
        );
        reads++;
        if (found < before.number || (found === before.number && !before.isThere)) {
          stale.push(`${found} after ${JSON.stringify(before)}`);
        }
      }
    };
    const readers = Array.from({ length: 32 }, read);
    for (let number = 1; number <= 150; number++) {
      await write({ number, isThere: true });
      await write({ number, isThere: false });
    }
    isOver = true;
    await Promise.all(readers);
    expect(stale).toEqual([]);
    expect(reads).toBeGreaterThan(1000);
  });

  it('leave no connection checked out', async () => {
    const users = Array.from({ length: 600 }, (_, n) => `reader-${n}`);
    await Promise.all(users.map((user) => writer.storeIdpTokens(user, 'github', { accessToken: `of ${user}` })));
    const found = await Promise.all([...users, ...users].map((user) => reader.getIdpToken(user, 'github')));
    expect(found.map(({ accessToken }) => accessToken)).toEqual([...users, ...users].map((user) => `of ${user}`));
    await until(() => connectionsInUse(dataSource) === 0);
  });

  it('end for the caller who gives up, and for nobody else', async () => {
    await writer.storeIdpTokens('bob', 'github', { accessToken: 'of bob' });
    const patience = new AbortController();
    const impatient = reader.getIdpToken('bob', 'github', { signal: patience.signal });
    const patient = reader.getIdpToken('bob', 'github');
    patience.abort(new Error('enough'));
    await expect(impatient).rejects.toThrow('enough');
    await expect(patient).resolves.toMatchObject({ accessToken: 'of bob' });
  });
});
