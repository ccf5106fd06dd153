import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import type { INestApplication } from '@nestjs/common';
import { generateKeyPair } from 'jose';

import { AccountLinks, LinkRefusedError, type LinkRefusalReason, TokenManager } from '../src/index.js';
import { CodeFlowProvider } from './support/code-flow-provider.js';
import { createTestDatabase, type TestDatabase } from './support/test-database.js';
import { createTokensApp } from './support/tokens-app.js';
import { until } from './support/until.js';

const REDIRECT_URI = 'https://host.example/connections';
const ALICE = 'alice';
const MALLORY = 'mallory';

let database: TestDatabase;
let honest: CodeFlowProvider;
/** Another server, which the host also trusts to link accounts, and which Mallory controls. */
let malicious: CodeFlowProvider;
let apps: INestApplication[];
let links: AccountLinks;
let linksOfOther: AccountLinks;

beforeAll(async () => {
  database = await createTestDatabase();
  [honest, malicious] = await Promise.all([CodeFlowProvider.start(), CodeFlowProvider.start()]);
  const entry = (provider: CodeFlowProvider, name: string) => ({
    ...provider.client,
    issuer: provider.issuer,
    redirectUri: `${REDIRECT_URI}/${name}/callback`,
    scopes: ['openid'],
  });
  const identityProviders = {
    honest: entry(honest, 'honest'),
    malicious: entry(malicious, 'malicious'),
    plain: {
      ...honest.client,
      authorizationEndpoint: `${honest.issuer}/authorize`,
      tokenEndpoint: `${honest.issuer}/token`,
      redirectUri: `${REDIRECT_URI}/plain/callback`,
    },
  };
  const created = await Promise.all(
    [1, 2].map(() => createTokensApp({ databaseUrl: database.url, options: { identityProviders } })),
  );
  apps = created.map(({ app }) => app);
  [links, linksOfOther] = apps.map((app) => app.get(AccountLinks)) as [AccountLinks, AccountLinks];
});

afterAll(async () => {
  await Promise.all(apps.map((app) => app.close()));
  await Promise.all([honest.close(), malicious.close()]);
  await database.drop();
});

let exchangesBefore: number;

beforeEach(() => {
  exchangesBefore = honest.exchangeCount + malicious.exchangeCount;
});

afterEach(async () => {
  for (const provider of [honest, malicious]) {
    provider.instead.clear();
    provider.metadata = provider.tokens = provider.claims = (given) => given;
  }
  for (const table of ['auth_tokens', 'link_attempts', 'token_revocations'])
    await database.query(`DELETE FROM ${table}`);
});

/** How many codes were sent since the test began. */
function exchanges(): number {
  return honest.exchangeCount + malicious.exchangeCount - exchangesBefore;
}

/** Expects a refusal after which nothing is stored. */
async function expectRefused(finished: Promise<unknown>, reason: LinkRefusalReason): Promise<void> {
  const error: unknown = await finished.then(
    (linked) => linked,
    (failure: unknown) => failure,
  );
  expect(error).toBeInstanceOf(LinkRefusedError);
  expect(error).toMatchObject({ reason });
  expect(await database.query('SELECT FROM auth_tokens')).toHaveLength(0);
}

describe('An attacker', () => {
  it('cannot finish a link that a victim began', async () => {
    const { authorizationUrl } = await links.begin(ALICE, 'honest');
    const callback = honest.authorize(authorizationUrl, 'alice-at-honest');
    await expectRefused(links.finish(MALLORY, callback), 'other_user');
    expect(exchanges()).toBe(0);
    // The attempt stays, so the attacker cannot end it either.
    await expect(links.finish(ALICE, callback)).resolves.toMatchObject({ subject: 'alice-at-honest' });
  });

  it('cannot make a victim finish the link that the attacker began', async () => {
    const { authorizationUrl } = await links.begin(MALLORY, 'honest');
    const callback = honest.authorize(authorizationUrl, 'mallory-at-honest');
    await expectRefused(links.finish(ALICE, callback), 'other_user');
    expect(exchanges()).toBe(0);
    await expect(links.list(ALICE)).resolves.toEqual([]);
  });

  it('cannot replay a callback', async () => {
    const { authorizationUrl } = await links.begin(ALICE, 'honest');
    const callback = honest.authorize(authorizationUrl, 'alice-at-honest');
    await links.finish(ALICE, callback);
    for (const replayedAt of [links, linksOfOther]) {
      await expect(replayedAt.finish(ALICE, callback)).rejects.toMatchObject({ reason: 'unknown_attempt' });
    }
    expect(exchanges()).toBe(1);
  });

  it('cannot replay a callback in several applications at once', async () => {
    const { authorizationUrl } = await links.begin(ALICE, 'honest');
    const callback = honest.authorize(authorizationUrl, 'alice-at-honest');
    const ends = await Promise.allSettled(
      Array.from({ length: 20 }, (_, index) => (index % 2 ? links : linksOfOther).finish(ALICE, callback)),
    );
    expect(ends.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
    for (const end of ends)
      if (end.status === 'rejected') expect(end.reason).toMatchObject({ reason: 'unknown_attempt' });
    expect(exchanges()).toBe(1);
  });

  it('cannot use a state that nobody began with, a state twice, or none', async () => {
    const { authorizationUrl } = await links.begin(ALICE, 'honest');
    const callback = honest.authorize(authorizationUrl, 'alice-at-honest');
    const twice = new URL(callback);
    twice.searchParams.append('state', 'another');
    const none = new URL(callback);
    none.searchParams.delete('state');
    const other = new URL(callback);
    other.searchParams.set('state', 'x'.repeat(43));
    for (const forged of [twice, none, other, {}, { state: ['a', 'b'] }, { state: {} }, 'nonsense', '']) {
      await expectRefused(links.finish(ALICE, forged), 'unknown_attempt');
    }
    expect(exchanges()).toBe(0);
  });

  it('cannot bring the state of another provider to a callback', async () => {
    const { authorizationUrl } = await links.begin(ALICE, 'honest');
    const callback = honest.authorize(authorizationUrl, 'alice-at-honest');
    await expectRefused(links.finish(ALICE, callback, { idp: 'malicious' }), 'issuer_mismatch');
    expect(exchanges()).toBe(0);
  });

  it('cannot mix the servers up: an answer of another issuer is refused', async () => {
    const { authorizationUrl } = await links.begin(ALICE, 'malicious');
    const callback = malicious.authorize(authorizationUrl, 'any');
    callback.searchParams.set('iss', honest.issuer);
    await expectRefused(links.finish(ALICE, callback), 'issuer_mismatch');
    expect(exchanges()).toBe(0);
  });

  it('cannot leave the issuer out of the answer of a server that names itself, nor name two', async () => {
    for (const change of [
      (parameters: URLSearchParams) => {
        parameters.delete('iss');
      },
      (parameters: URLSearchParams) => {
        parameters.append('iss', malicious.issuer);
      },
    ]) {
      const { authorizationUrl } = await links.begin(ALICE, 'honest');
      const callback = honest.authorize(authorizationUrl, 'alice-at-honest');
      change(callback.searchParams);
      await expectRefused(links.finish(ALICE, callback), 'issuer_mismatch');
    }
    expect(exchanges()).toBe(0);
  });

  it('cannot inject the code of another attempt, because the code verifier does not fit', async () => {
    const ofMallory = await links.begin(MALLORY, 'honest');
    const stolen = honest.authorize(ofMallory.authorizationUrl, 'mallory-at-honest').searchParams.get('code') ?? '';
    const { authorizationUrl } = await links.begin(ALICE, 'honest');
    const callback = honest.authorize(authorizationUrl, 'alice-at-honest');
    callback.searchParams.set('code', stolen);
    await expectRefused(links.finish(ALICE, callback), 'provider_error');
    expect(exchanges()).toBe(1);
  });

  it.each<[string, (claims: Record<string, unknown>) => Record<string, unknown>, LinkRefusalReason]>([
    ['another client', (claims) => ({ ...claims, aud: 'client-of-mallory' }), 'provider_error'],
    ['another client beside ours', (claims) => ({ ...claims, aud: [claims.aud, 'x'], azp: 'x' }), 'provider_error'],
    ['another nonce', (claims) => ({ ...claims, nonce: 'of-another-attempt' }), 'provider_error'],
    ['no nonce', (claims) => ({ ...claims, nonce: undefined }), 'provider_error'],
    ['another issuer', (claims) => ({ ...claims, iss: 'https://evil.example' }), 'issuer_mismatch'],
    ['the past', (claims) => ({ ...claims, exp: 1 }), 'provider_error'],
    ['nobody', (claims) => ({ ...claims, sub: undefined }), 'provider_error'],
  ])('cannot bring an ID token of %s, and its tokens are revoked', async (_, change, reason) => {
    honest.claims = change;
    const { authorizationUrl } = await links.begin(ALICE, 'honest');
    await expectRefused(links.finish(ALICE, honest.authorize(authorizationUrl, 'alice-at-honest')), reason);
    const issued = [...honest.subjects.keys()].at(-1)?.replace('access', 'refresh') ?? '-';
    await until(() => honest.revoked.includes(issued));
  });

  it('cannot bring an ID token with a signature of another key', async () => {
    const { signingKeys } = honest;
    honest.signingKeys = await generateKeyPair('ES256');
    const { authorizationUrl } = await links.begin(ALICE, 'honest');
    await expectRefused(links.finish(ALICE, honest.authorize(authorizationUrl, 'alice-at-honest')), 'provider_error');
    honest.signingKeys = signingKeys;
  });

  it.each([
    ['no ID token', undefined],
    ['a text', 'no.jwt'],
    ['an unsigned one', `${btoa('{"alg":"none"}')}.${btoa('{}')}.`],
  ])('cannot leave the ID token out: %s', async (_, idToken) => {
    honest.tokens = (fields) => ({ ...fields, id_token: idToken });
    const { authorizationUrl } = await links.begin(ALICE, 'honest');
    await expectRefused(links.finish(ALICE, honest.authorize(authorizationUrl, 'alice-at-honest')), 'provider_error');
  });

  it('cannot make the module follow a redirect of the token endpoint with the code and the secret', async () => {
    honest.instead.set('/token', (response) =>
      response.writeHead(307, { location: `${malicious.issuer}/token` }).end(),
    );
    const { authorizationUrl } = await links.begin(ALICE, 'honest');
    const before = malicious.paths.length;
    await expect(links.finish(ALICE, honest.authorize(authorizationUrl, 'alice-at-honest'))).rejects.toMatchObject({
      code: 'ERR_TOKENS_PROVIDER_MISCONFIGURED',
      providerCode: 'http_307',
    });
    expect(malicious.paths).toHaveLength(before);
    await expect(links.list(ALICE)).resolves.toEqual([]);
  });

  it('cannot bring markup into an error', async () => {
    const markup = '<img src=x onerror=alert(1)>';
    const { authorizationUrl } = await links.begin(ALICE, 'honest');
    const callback = honest.refuse(authorizationUrl, markup, markup);
    const error: unknown = await links.finish(ALICE, callback).catch((failure: unknown) => failure);
    expect(error).toMatchObject({ reason: 'provider_error', providerCode: 'unknown_error' });
    expect(JSON.stringify({ ...(error as object), message: String(error) })).not.toContain('<');

    const second = await links.begin(ALICE, 'honest');
    const forged = honest.authorize(second.authorizationUrl, 'alice-at-honest');
    forged.searchParams.set('code', markup);
    const refused: unknown = await links.finish(ALICE, forged).catch((failure: unknown) => failure);
    expect(JSON.stringify({ ...(refused as object), message: String(refused) })).not.toContain('<');
  });

  it('cannot read a token or a secret in an error', async () => {
    honest.claims = (claims) => ({ ...claims, nonce: 'other' });
    const { authorizationUrl } = await links.begin(ALICE, 'honest');
    const error: unknown = await links
      .finish(ALICE, honest.authorize(authorizationUrl, 'alice-at-honest'))
      .catch((failure: unknown) => failure);
    const text = JSON.stringify({ ...(error as object), message: String(error), stack: (error as Error).stack });
    for (const secret of ['access-of-', 'refresh-of-', honest.client.clientSecret, 'eyJ']) {
      expect(text).not.toContain(secret);
    }
    expect(error).not.toHaveProperty('cause');
  });

  it('cannot fill the table by 10,000 attempts, nor lock the user out', async () => {
    for (let round = 0; round < 500; round++) {
      await Promise.all(
        Array.from({ length: 20 }, (_, index) => (index % 2 ? links : linksOfOther).begin(ALICE, 'plain')),
      );
    }
    const { authorizationUrl } = await links.begin(ALICE, 'plain');
    const [{ open } = { open: 0 }] = await database.query('SELECT count(*)::integer AS open FROM link_attempts');
    expect(open).toBeLessThanOrEqual(20);
    await expect(links.finish(ALICE, honest.authorize(authorizationUrl, 'any'))).resolves.toMatchObject({
      idp: 'plain',
    });
  }, 300_000);

  it('cannot end the attempts of other users by own ones', async () => {
    const { authorizationUrl } = await links.begin(ALICE, 'honest');
    for (let count = 0; count < 40; count++) await links.begin(MALLORY, 'honest');
    const callback = honest.authorize(authorizationUrl, 'alice-at-honest');
    await expect(links.finish(ALICE, callback)).resolves.toMatchObject({ subject: 'alice-at-honest' });
    const manager = apps[0]?.get(TokenManager);
    await expect(manager?.getIdpToken(ALICE, 'honest')).resolves.toBeDefined();
  });

  it('cannot name endpoints at other hosts without TLS by the metadata', async () => {
    const lying = await CodeFlowProvider.start();
    lying.metadata = (metadata) => ({ ...metadata, token_endpoint: 'http://evil.example/token' });
    const { app } = await createTokensApp({
      databaseUrl: database.url,
      options: { identityProviders: { lying: { ...lying.client, issuer: lying.issuer, redirectUri: REDIRECT_URI } } },
    });
    await expect(app.get(AccountLinks).begin(ALICE, 'lying')).rejects.toMatchObject({
      providerCode: 'UNUSABLE_TOKEN_ENDPOINT',
    });
    lying.metadata = (metadata) => ({ ...metadata, issuer: honest.issuer });
    await expect(app.get(AccountLinks).begin(ALICE, 'lying')).rejects.toMatchObject({ providerCode: 'OTHER_ISSUER' });
    await app.close();
    await lying.close();
  });
});
