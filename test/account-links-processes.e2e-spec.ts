import { once } from 'node:events';
import type { ServerResponse } from 'node:http';

import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';

import type { LinkAuthorization } from '../src/index.js';
import { CodeFlowProvider } from './support/code-flow-provider.js';
import { Fleet } from './support/fleet.js';
import { createTestDatabase, type TestDatabase } from './support/test-database.js';
import { newKey } from './support/tokens-app.js';
import { type TokensWorker, startTokensWorker } from './support/tokens-worker.js';
import { until } from './support/until.js';

const IDP = 'acme';
const ROUNDS = 20;
const NO_ATTEMPT =
  'LinkRefusedError: The account at identity provider "acme" was not linked, because there is no such attempt';

let database: TestDatabase;
let provider: CodeFlowProvider;
let settings: Parameters<typeof startTokensWorker>[0];
let fleet: Fleet;
let users = 0;
let user: string;

beforeAll(async () => {
  database = await createTestDatabase();
  provider = await CodeFlowProvider.start();
  settings = {
    databaseUrl: database.url,
    poolSize: 4,
    options: {
      encryption: { keys: [{ id: 'test', secret: newKey() }] },
      identityProviders: {
        [IDP]: {
          ...provider.client,
          issuer: provider.issuer,
          redirectUri: 'https://host.example/connections/acme/callback',
          scopes: ['openid'],
        },
      },
    },
  };
  fleet = await Fleet.start(2, settings);
}, 60_000);

afterAll(async () => {
  await fleet.close();
  await provider.close();
  await database.drop();
});

beforeEach(() => {
  user = `user-${++users}`;
});

afterEach(() => {
  provider.instead.clear();
});

/** Begins in one process, and logs in at the provider. Returns the URL to which the browser is sent back. */
async function begin(worker: TokensWorker): Promise<string> {
  const { authorizationUrl } = (await worker.request('AccountLinks', 'begin', user, IDP)) as LinkAuthorization;
  return provider.authorize(authorizationUrl, `${user}-at-acme`).href;
}

function finish(worker: TokensWorker, callback: string, of = user): Promise<unknown> {
  return worker.request('AccountLinks', 'finish', of, callback, { idp: IDP });
}

describe('An attempt in a fleet of processes', () => {
  it('that one process began is finished by another one', async () => {
    const callback = await begin(fleet.at(0));
    await expect(finish(fleet.at(1), callback)).resolves.toMatchObject({ idp: IDP, subject: `${user}-at-acme` });
    await expect(fleet.at(0).request('AccountLinks', 'list', user)).resolves.toMatchObject([
      { subject: `${user}-at-acme` },
    ]);
  });

  it('is finished once if its callback comes to two processes at the same time', async () => {
    for (let round = 0; round < ROUNDS; round++) {
      const callback = await begin(fleet.at(round % 2));
      const before = provider.exchangeCount;
      const ends = await Promise.allSettled([0, 1, 0, 1].map((position) => finish(fleet.at(position), callback)));
      expect(ends.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
      for (const end of ends) {
        if (end.status === 'rejected') expect((end.reason as Error).message).toContain(NO_ATTEMPT);
      }
      expect(provider.exchangeCount).toBe(before + 1);
    }
  });

  it('is not finished by another user in any process, also at the same time as by its own', async () => {
    const callback = await begin(fleet.at(0));
    const before = provider.exchangeCount;
    const [own, ...others] = await Promise.allSettled([
      finish(fleet.at(0), callback),
      finish(fleet.at(1), callback, 'mallory'),
      finish(fleet.at(1), callback, 'mallory'),
    ]);
    expect(own).toMatchObject({ status: 'fulfilled' });
    for (const end of others) expect(end).toMatchObject({ status: 'rejected' });
    expect(provider.exchangeCount).toBe(before + 1);
    await expect(fleet.at(1).request('AccountLinks', 'list', 'mallory')).resolves.toEqual([]);
  });

  it('whose process was killed while the provider answered is over, and the user begins again', async () => {
    const worker = await startTokensWorker(settings);
    const callback = await begin(worker);
    const withheld: ServerResponse[] = [];
    provider.instead.set('/token', (response) => withheld.push(response));
    const lost = finish(worker, callback);
    await Promise.all([
      expect(lost).rejects.toThrow('The worker process has ended.'),
      until(() => withheld.length === 1).then(async () => {
        const exit = once(worker.child, 'exit');
        worker.kill('SIGKILL');
        await exit;
      }),
    ]);
    provider.instead.clear();
    for (const position of [0, 1]) await expect(finish(fleet.at(position), callback)).rejects.toThrow(NO_ATTEMPT);
    await expect(fleet.at(0).request('AccountLinks', 'list', user)).resolves.toEqual([]);
    await expect(finish(fleet.at(0), await begin(fleet.at(1)))).resolves.toMatchObject({ idp: IDP });
  });
});
