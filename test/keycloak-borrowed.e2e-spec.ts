import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, jest } from '@jest/globals';

import {
  InvalidTokenInputError,
  KeycloakMisconfiguredError,
  KeycloakSessionExpiredError,
  KeycloakUnavailableError,
  ReauthenticationRequiredError,
  type RefreshOwner,
  TokensConfigurationError,
  TokensNotFoundError,
} from '../src/index.js';
import { RefreshFlights } from '../src/refresh/refresh-flights.js';
import { DisconnectedAccountsTable } from '../src/storage/disconnected-accounts/disconnected-accounts.table.js';
import { OfflineTokensTable } from '../src/storage/offline-tokens/offline-tokens.table.js';
import { failureOf, type KeycloakHost, KeycloakSurroundings } from './support/keycloak-host.js';
import { everythingPrinted } from './support/secrets.js';
import { until } from './support/until.js';

const around = new KeycloakSurroundings();
const { keycloak } = around;
const ada = () => keycloak.users.ada.id;
const adaAtAcme = () => keycloak.users.ada.acmeId ?? '';
let host: KeycloakHost;

type ErrorClass = new (...parameters: never[]) => Error;

beforeAll(async () => {
  await around.start();
  host = await around.startHost();
});

afterAll(async () => {
  await around.stop();
});

beforeEach(async () => {
  await around.reset();
});

/** Waits until so many callers have looked whether the account is disconnected, and have joined an import or begun one. */
async function haveLooked(looks: jest.Spied<DisconnectedAccountsTable['has']>, callers: number): Promise<void> {
  await until(() => looks.mock.calls.length === callers);
  await Promise.all(looks.mock.results.map(({ value }) => value));
  await new Promise((resolve) => setImmediate(resolve));
}

async function expectNothingStored(): Promise<void> {
  await expect(around.database.query('SELECT FROM offline_tokens')).resolves.toEqual([]);
  await expect(around.database.query('SELECT FROM auth_tokens')).resolves.toEqual([]);
  expect(keycloak.redemptions).toBe(0);
  expect(around.asked('/broker/')).toBe(0);
}

describe.each([true, false])(
  'With a Keycloak that lets every client introspect every token: %s',
  (introspectsForAll) => {
    beforeEach(() => {
      keycloak.introspectsForAll = introspectsForAll;
    });

    it('the offline token of another client is refused, and nothing is stored or redeemed', async () => {
      const { refreshToken } = await around.logIn('ada', 'openid offline_access', 'other');
      const failure = await failureOf(host.manager.getIdpTokenFromOfflineToken(refreshToken, 'acme'));
      expect(failure).toBeInstanceOf(KeycloakSessionExpiredError);
      expect(everythingPrinted(failure)).not.toContain(refreshToken);
      if (introspectsForAll) expect(String(failure)).toMatch(/issued to another client, not to client "backend"/);
      await expectNothingStored();
    });

    it('the refresh token of another client is refused as well', async () => {
      const { refreshToken } = await around.logIn('ada', 'openid', 'other');
      const call = host.manager.getIdpTokenFromOfflineToken(refreshToken, 'acme');
      await expect(call).rejects.toThrow(KeycloakSessionExpiredError);
      await expectNothingStored();
    });

    it('the offline token of another client does not open tokens that are stored here', async () => {
      await host.manager.storeIdpTokens(ada(), 'acme', { accessToken: 'stored' });
      const { refreshToken } = await around.logIn('ada', 'openid offline_access', 'other');
      const call = host.manager.getIdpTokenFromOfflineToken(refreshToken, 'acme');
      await expect(call).rejects.toThrow(KeycloakSessionExpiredError);
    });
  },
);

describe('The stored offline token of another client', () => {
  it('is a fault of the options, and not an active token', async () => {
    keycloak.introspectsForAll = true;
    const { refreshToken } = await around.logIn('ada', 'openid offline_access', 'other');
    await host.manager.storeOfflineToken(ada(), refreshToken);
    const failure = await failureOf(host.manager.checkOfflineTokenIsActive(ada()));
    expect(failure).toBeInstanceOf(KeycloakMisconfiguredError);
    expect(String(failure)).toMatch(/was issued to client "other", but the options name client "backend"/);
    expect(keycloak.redemptions).toBe(0);
  });
});

describe('A token that is bound to a key of its holder', () => {
  const BINDINGS = [{ jkt: 'thumbprint' }, { 'x5t#S256': 'thumbprint' }];

  it.each(BINDINGS)('is no bearer token for getIdpTokenForAccessToken and importIdpTokens: %j', async (cnf) => {
    const { accessToken } = await around.logIn('ada', 'openid', 'backend', cnf);
    for (const call of [
      () => host.manager.getIdpTokenForAccessToken(accessToken, 'acme'),
      () => host.manager.importIdpTokens(ada(), 'acme', accessToken),
    ]) {
      const failure = await failureOf(call());
      expect(failure).toBeInstanceOf(KeycloakSessionExpiredError);
      expect(String(failure)).toMatch(/bound to a key of its holder \(claim "cnf"\)/);
    }
    await expectNothingStored();
  });

  it.each(BINDINGS)('is refused as an offline token: %j', async (cnf) => {
    const { refreshToken } = await around.logIn('ada', 'openid offline_access', 'backend', cnf);
    const failure = await failureOf(host.manager.getIdpTokenFromOfflineToken(refreshToken, 'acme'));
    expect(failure).toBeInstanceOf(KeycloakSessionExpiredError);
    expect(String(failure)).toMatch(/offline token is bound to a key of its holder/);
    await expectNothingStored();
  });
});

describe('A stored offline token that no import can use', () => {
  it.each([{ jkt: 'thumbprint' }, { 'x5t#S256': 'thumbprint' }])(
    'because it is bound to a key, is neither redeemed nor active: %j',
    async (cnf) => {
      const { refreshToken } = await around.logIn('ada', 'openid offline_access', 'backend', cnf);
      await host.manager.storeOfflineToken(ada(), refreshToken);
      for (let call = 0; call < 3; call++) {
        const failure = await failureOf(host.manager.getIdpTokenFromIdpUserId(adaAtAcme(), 'acme'));
        expect(failure).toBeInstanceOf(KeycloakSessionExpiredError);
        expect(String(failure)).toMatch(/offline token .*bound to a key of its holder/);
      }
      await expect(host.manager.validateOfflineToken(ada())).resolves.toBe(false);
      await expect(host.manager.checkOfflineTokenIsActive(ada())).resolves.toBe(false);
      expect(keycloak.redemptions).toBe(0);
      expect(around.asked('/broker/')).toBe(0);
    },
  );

  it('because it is bound to a key, gives way to a given one that is not', async () => {
    const bound = await around.logIn('ada', 'openid offline_access', 'backend', { jkt: 'thumbprint' });
    await host.manager.storeOfflineToken(ada(), bound.refreshToken);
    const { refreshToken } = await around.logIn('ada', 'openid offline_access');
    await expect(host.manager.getIdpTokenFromOfflineToken(refreshToken, 'acme')).resolves.toBeDefined();
    await expect(host.manager.checkOfflineTokenIsActive(ada())).resolves.toBe(true);
    expect(keycloak.redemptions).toBe(1);
  });

  it('because its own claims bind it to a key, is not active, although the introspection does not say so', async () => {
    const { accessToken, refreshToken } = await around.logIn('ada', 'openid offline_access', 'backend', { jkt: 'a' });
    await host.sessions.getUserInfo(accessToken); // fetches the metadata
    await host.manager.storeOfflineToken(ada(), refreshToken);
    const body = JSON.stringify({ active: true, client_id: 'backend' });
    const fetches = jest.spyOn(globalThis, 'fetch').mockResolvedValueOnce(new Response(body));
    await expect(host.manager.checkOfflineTokenIsActive(ada())).resolves.toBe(false);
    fetches.mockRestore();
  });

  it.each([
    ['names no client', { active: true }],
    ['says that it is bound to a key', { active: true, client_id: 'backend', cnf: { jkt: 'thumbprint' } }],
  ])('because the introspection %s, is not active', async (_, introspected) => {
    await host.sessions.getUserInfo((await around.logIn('ada')).accessToken); // fetches the metadata
    await host.manager.storeOfflineToken(ada(), 'no JWT');
    const fetches = jest.spyOn(globalThis, 'fetch').mockResolvedValueOnce(new Response(JSON.stringify(introspected)));
    await expect(host.manager.checkOfflineTokenIsActive(ada())).resolves.toBe(false);
    fetches.mockRestore();
  });
});

describe('The user of a webhook', () => {
  it('is the one whose account is linked, whatever the attributes say', async () => {
    const { local } = keycloak.users;
    Object.assign(keycloak.attributes, { [local.id]: { acme_id: [adaAtAcme()] } });
    await expect(host.users.getUserIdFromIdpUserId(adaAtAcme(), 'acme')).resolves.toBe(ada());
    await expect(host.users.getUserIdFromIdpUserId(adaAtAcme(), 'nope')).resolves.toBeNull();
    await expect(host.users.getUserIdFromIdpUserId('nobody', 'acme')).resolves.toBeNull();
    const asked = keycloak.searches.filter((search) => search.includes('idpUserId='));
    expect(asked).toHaveLength(3);
    for (const search of asked) expect(search).toMatch(/idpAlias=\w+&idpUserId=/);
  });

  it('is found by an attribute only if the options name one, and then not if two users have it', async () => {
    const { local, unreadable } = keycloak.users;
    const byAttribute = (await around.startHost({ idpUserIdAttribute: '{idp}_id' })).users;
    Object.assign(keycloak.attributes, { [local.id]: { acme_id: ['7'] } });
    await expect(byAttribute.getUserIdFromIdpUserId('7', 'acme')).resolves.toBe(local.id);
    await expect(host.users.getUserIdFromIdpUserId('7', 'acme')).resolves.toBeNull();
    Object.assign(keycloak.attributes, { [unreadable.id]: { acme_id: ['7'] } });
    await expect(byAttribute.getUserIdFromIdpUserId('7', 'acme')).resolves.toBeNull();
  });

  it.each(['a" or "b', 'domain\\', '"', 'domain\\"'])(
    'is found by the id %j through the link, which needs no quotes, and not through an attribute',
    async (idpUserId) => {
      Object.assign(keycloak.links, { [keycloak.users.local.id]: idpUserId });
      await expect(host.users.getUserIdFromIdpUserId(idpUserId, 'acme')).resolves.toBe(keycloak.users.local.id);
      const byAttribute = (await around.startHost({ idpUserIdAttribute: '{idp}_id' })).users;
      await expect(byAttribute.getUserIdFromIdpUserId(idpUserId, 'acme')).rejects.toThrow(InvalidTokenInputError);
    },
  );

  it('is not found by an attribute among more users than an answer may have', async () => {
    const byAttribute = (await around.startHost({ idpUserIdAttribute: '{idp}_id' })).users;
    await expect(byAttribute.getUserIdFromIdpUserId(adaAtAcme(), 'acme')).resolves.toBe(ada());
    const [search = ''] = keycloak.searches.slice(-1);
    const max = Number(new URLSearchParams(search).get('max'));
    expect(max).toBeGreaterThan(1);
    // Keycloak also finds other spellings. The answer is full, so there may be a second user with this very id.
    const other = (id: number) => ({ id: String(id), attributes: { acme_id: ['x7'] } });
    const full = [
      ...Array.from({ length: max - 1 }, (_, id) => other(id)),
      { id: 'u', attributes: { acme_id: ['X7'] } },
    ];
    const search7 = async (found: object[]): Promise<string | null> => {
      const fetches = jest.spyOn(globalThis, 'fetch').mockResolvedValueOnce(new Response(JSON.stringify(found)));
      const id = await byAttribute.getUserIdFromIdpUserId('X7', 'acme');
      fetches.mockRestore();
      return id;
    };
    await expect(search7(full)).resolves.toBeNull();
    await expect(search7(full.slice(1))).resolves.toBe('u');
  });

  it.each(['acme_id', '', 7])(
    'is not found by the attribute %j, which names no provider',
    async (idpUserIdAttribute) => {
      const boot = around.startHost({ idpUserIdAttribute: idpUserIdAttribute as string });
      await expect(boot).rejects.toThrow(TokensConfigurationError);
      await expect(boot).rejects.toThrow(/keycloak\.idpUserIdAttribute must contain \{idp\}/);
    },
  );

  it('is none if two accounts have the link', async () => {
    Object.assign(keycloak.links, { [keycloak.users.local.id]: adaAtAcme() });
    await expect(host.users.getUserIdFromIdpUserId(adaAtAcme(), 'acme')).resolves.toBeNull();
  });

  it.each([false, true])(
    'is found where the links are hidden, unless the search ignores the parameters (%s)',
    async (ignoresLinks) => {
      Object.assign(keycloak, { hidesLinks: true, ignoresLinks, realmSize: 1 });
      const found = host.users.getUserIdFromIdpUserId(adaAtAcme(), 'acme');
      await expect(found).resolves.toBe(ignoresLinks ? null : ada());
    },
  );

  it.each(['idpAlias', 'idpUserId'])(
    'is not found where the links are hidden and the search ignores %s',
    async (ignoredParameter) => {
      Object.assign(keycloak, { hidesLinks: true, ignoredParameter });
      await expect(host.users.getUserIdFromIdpUserId(adaAtAcme(), 'nope')).resolves.toBeNull();
      await expect(host.users.getUserIdFromIdpUserId('nobody', 'acme')).resolves.toBeNull();
      await expect(host.users.getUserIdFromIdpUserId(adaAtAcme(), 'acme')).resolves.toBeNull();
    },
  );

  it.each([1, 2, 3])(
    'is not any user of a server that ignores the parameters, in a realm of %d users',
    async (size) => {
      keycloak.ignoresLinks = true;
      keycloak.realmSize = size;
      await expect(host.users.getUserIdFromIdpUserId('nobody', 'acme')).resolves.toBeNull();
      await expect(host.users.getUserIdFromIdpUserId(adaAtAcme(), 'nope')).resolves.toBeNull();
      await expect(host.manager.getIdpTokenFromIdpUserId('nobody', 'acme')).rejects.toThrow(TokensNotFoundError);
    },
  );
});

describe.each<RefreshOwner>(['module', 'keycloak'])('A stored token, with the refresh owner %s', (refreshOwner) => {
  let owned: KeycloakHost;

  beforeAll(async () => {
    owned = await around.startHost({ refreshOwner });
  });

  it('is returned to every webhook call without a redemption', async () => {
    const { refreshToken } = await around.logIn('ada', 'openid offline_access');
    await owned.manager.storeOfflineToken(ada(), refreshToken);
    await owned.manager.storeIdpTokens(ada(), 'acme', { accessToken: 'stored' });
    for (let call = 0; call < 5; call++) {
      await expect(owned.manager.getIdpTokenFromIdpUserId(adaAtAcme(), 'acme')).resolves.toMatchObject({
        accessToken: 'stored',
      });
      const stored = (await owned.manager.loadOfflineToken(ada())) ?? '';
      await expect(owned.manager.getIdpTokenFromOfflineToken(stored, 'acme')).resolves.toMatchObject({
        accessToken: 'stored',
      });
    }
    expect(keycloak.redemptions).toBe(0);
    expect(around.asked('/introspect')).toBe(5); // this authenticates the caller
  });

  it('is imported by one redemption, and then returned without one', async () => {
    const { refreshToken } = await around.logIn('ada', 'openid offline_access');
    await owned.manager.storeOfflineToken(ada(), refreshToken);
    for (let call = 0; call < 5; call++) await owned.manager.getIdpTokenFromIdpUserId(adaAtAcme(), 'acme');
    expect({ redemptions: keycloak.redemptions, broker: around.asked('/broker/') }).toEqual({
      redemptions: 1,
      broker: 1,
    });
  });

  it('is imported by one redemption for callers that come at the same time', async () => {
    const { refreshToken } = await around.logIn('ada', 'openid offline_access');
    await owned.manager.storeOfflineToken(ada(), refreshToken);
    const calls = Array.from({ length: 20 }, () => owned.manager.getIdpTokenFromIdpUserId(adaAtAcme(), 'acme'));
    const versions = (await Promise.all(calls)).map(({ version }) => version);
    expect(new Set(versions).size).toBe(1);
    expect(around.asked('/broker/')).toBe(1);
  });

  it('is imported by one redemption also for a caller that looked before the import and goes on after it', async () => {
    const { refreshToken } = await around.logIn('ada', 'openid offline_access');
    await owned.manager.storeOfflineToken(ada(), refreshToken);
    const call = () => owned.manager.getIdpTokenFromIdpUserId(adaAtAcme(), 'acme');
    let first: Promise<unknown> | undefined;
    const looks = jest.spyOn(owned.app.get(DisconnectedAccountsTable), 'has').mockImplementationOnce(async () => {
      first = call();
      await first;
      return false;
    });
    await expect(call()).resolves.toMatchObject({ accessToken: keycloak.brokered.accessToken });
    expect(looks).toHaveBeenCalledTimes(2);
    looks.mockRestore();
    expect({ redemptions: keycloak.redemptions, broker: around.asked('/broker/') }).toEqual({
      redemptions: 1,
      broker: 1,
    });
  });

  it('is imported by one redemption also for a caller that comes while the offline token is redeemed', async () => {
    const { refreshToken } = await around.logIn('ada', 'openid offline_access');
    await owned.manager.storeOfflineToken(ada(), refreshToken);
    const call = () => owned.manager.getIdpTokenFromIdpUserId(adaAtAcme(), 'acme');
    const table = owned.app.get(OfflineTokensTable);
    const load = table.loadCommitted.bind(table);
    const looks = jest.spyOn(owned.app.get(DisconnectedAccountsTable), 'has');
    let isFirst = true;
    const loads = jest.spyOn(table, 'loadCommitted').mockImplementation(async (userId) => {
      if (!isFirst) await first; // the second caller sees the successor, if it looks at the offline token at all
      isFirst = false;
      return load(userId);
    });
    const redeeming = around.pausedAt('/token refresh_token');
    const first = call();
    await redeeming.reached;
    const second = call();
    await haveLooked(looks, 2);
    redeeming.goOn();
    await expect(Promise.all([first, second])).resolves.toHaveLength(2);
    for (const spy of [loads, looks]) spy.mockRestore();
    expect(keycloak.redemptions).toBe(1);
  });

  it('is imported for a caller whose own credential is good, when that of an earlier caller is not', async () => {
    const issued = await around.logIn('ada', 'openid offline_access');
    const ended = await around.logIn('ada', 'openid offline_access');
    await owned.manager.storeOfflineToken(ada(), ended.refreshToken);
    await owned.sessions.logout(ended.refreshToken);
    const looks = jest.spyOn(owned.app.get(DisconnectedAccountsTable), 'has');
    const redeeming = around.pausedAt('/token refresh_token');
    const bad = Promise.allSettled(
      Array.from({ length: 3 }, () => owned.manager.getIdpTokenFromIdpUserId(adaAtAcme(), 'acme')),
    );
    await redeeming.reached;
    const good = owned.manager.getIdpTokenForAccessToken(issued.accessToken, 'acme');
    await haveLooked(looks, 4);
    looks.mockRestore();
    redeeming.goOn();
    await expect(good).resolves.toMatchObject({ accessToken: keycloak.brokered.accessToken });
    const rejected = { status: 'rejected', reason: expect.any(KeycloakSessionExpiredError) };
    await expect(bad).resolves.toEqual([rejected, rejected, rejected]);
    expect({ redemptions: keycloak.redemptions, broker: around.asked('/broker/') }).toEqual({
      redemptions: 1,
      broker: 1,
    });
  });

  it('that has ended is asked for at Keycloak by one of several webhooks, if nothing comes of it', async () => {
    const issued = await around.logIn('ada', 'openid offline_access');
    await owned.manager.storeOfflineToken(ada(), issued.refreshToken);
    await owned.manager.importIdpTokens(ada(), 'acme', issued.accessToken);
    await around.database.query("UPDATE auth_tokens SET status = 'reauthentication_required'");
    keycloak.requests.length = 0;
    const webhooks = async (number: number): Promise<void> => {
      for (let call = 0; call < number; call++) {
        const failure = owned.manager.getIdpTokenFromIdpUserId(adaAtAcme(), 'acme');
        await expect(failure).rejects.toThrow(ReauthenticationRequiredError);
      }
    };
    const asked = () => ({ redemptions: keycloak.redemptions, broker: around.asked('/broker/') });
    await webhooks(5);
    expect(asked()).toEqual({ redemptions: 1, broker: 1 });

    const now = performance.now();
    const clock = jest.spyOn(performance, 'now').mockReturnValue(now + 31_000);
    await webhooks(2);
    clock.mockRestore();
    expect(asked()).toEqual({ redemptions: 2, broker: 2 });

    // The user is there, so the module asks for this caller.
    await keycloak.logInAtProvider(3601);
    const found = { accessToken: keycloak.brokered.accessToken };
    await expect(owned.manager.getIdpTokenForAccessToken(issued.accessToken, 'acme')).resolves.toMatchObject(found);
    await expect(owned.manager.getIdpTokenFromIdpUserId(adaAtAcme(), 'acme')).resolves.toMatchObject(found);
  });

  it('that Keycloak does not have is asked for by one call with an offline token, and for every new one', async () => {
    const calls = async (): Promise<void> => {
      const { refreshToken } = await around.logIn('local', 'openid offline_access');
      await owned.manager.storeOfflineToken(keycloak.users.local.id, refreshToken);
      for (let call = 0; call < 3; call++) {
        const failure = owned.manager.getIdpTokenFromOfflineToken(refreshToken, 'acme');
        await expect(failure).rejects.toThrow(TokensNotFoundError);
      }
    };
    await calls();
    expect({ redemptions: keycloak.redemptions, broker: around.asked('/broker/') }).toEqual({
      redemptions: 1,
      broker: 1,
    });
    await calls();
    expect(around.asked('/broker/')).toBe(2);
  });

  it('does not keep a given offline token from being stored', async () => {
    await owned.manager.storeIdpTokens(ada(), 'acme', { accessToken: 'stored' });
    const { refreshToken } = await around.logIn('ada', 'openid offline_access');
    await owned.manager.getIdpTokenFromOfflineToken(refreshToken, 'acme');
    await expect(owned.manager.loadOfflineToken(ada())).resolves.toBe(refreshToken);
    expect(keycloak.redemptions).toBe(0);
  });

  it('is not given to a caller whose offline token is not active', async () => {
    await owned.manager.storeIdpTokens(ada(), 'acme', { accessToken: 'stored' });
    const call = owned.manager.getIdpTokenFromOfflineToken('garbage', 'acme');
    await expect(call).rejects.toThrow(KeycloakSessionExpiredError);
  });

  it('that is stale is refreshed by its owner', async () => {
    const issued = await around.logIn('ada', 'openid offline_access');
    await owned.manager.storeOfflineToken(ada(), issued.refreshToken);
    await owned.manager.importIdpTokens(ada(), 'acme', issued.accessToken);
    await around.database.query('UPDATE auth_tokens SET access_token_expires_at = 1');
    await keycloak.logInAtProvider(3601);
    keycloak.requests.length = 0;
    const { accessToken } = await owned.manager.getIdpTokenFromIdpUserId(adaAtAcme(), 'acme');
    const isByKeycloak = refreshOwner === 'keycloak';
    expect(accessToken === keycloak.brokered.accessToken).toBe(isByKeycloak);
    expect(keycloak.redemptions).toBe(isByKeycloak ? 1 : 0);
    expect(around.asked('/broker/')).toBe(isByKeycloak ? 1 : 0);
  });
});

describe('A token that the module is refreshing', () => {
  it('is waited for, and not imported from the broker', async () => {
    const { accessToken } = await around.logIn('ada');
    const stale = { accessToken: 'stale', refreshToken: 'unspent', accessTokenExpiresAt: 1 };
    await host.manager.storeIdpTokens(ada(), 'acme', stale);
    let answer: (() => void) | undefined;
    const asked = new Promise<void>((resolve) => {
      around.endpoint.answer = () => {
        resolve();
        return new Promise((ended) => {
          answer = () => {
            ended({ body: { access_token: 'refreshed', expires_in: 3600 } });
          };
        });
      };
    });
    const first = host.manager.getIdpToken(ada(), 'acme');
    await asked;
    const joins = jest.spyOn(RefreshFlights.prototype, 'join');
    const second = host.manager.getIdpTokenForAccessToken(accessToken, 'acme');
    await until(() => joins.mock.calls.length > 0 || around.asked('/broker/') > 0);
    joins.mockRestore();
    answer?.();
    await expect(Promise.all([first, second])).resolves.toMatchObject([
      { accessToken: 'refreshed' },
      { accessToken: 'refreshed' },
    ]);
    expect(around.asked('/broker/')).toBe(0);
  });
});

describe('A stored access token that will be stale soon, where Keycloak refreshes', () => {
  let owned: KeycloakHost;
  let accessToken: string;

  beforeAll(async () => {
    owned = await around.startHost({ refreshOwner: 'keycloak' });
  });

  beforeEach(async () => {
    ({ accessToken } = await around.logIn('ada'));
    await owned.manager.importIdpTokens(ada(), 'acme', accessToken);
    // Of its hour 60 s are left, which is less than every leeway.
    await around.database.query(
      `UPDATE auth_tokens SET access_token_expires_at = extract(epoch FROM now())::bigint + 60,
         issued_at = now() - interval '59 minutes'`,
    );
    keycloak.requests.length = 0;
  });

  const failing: [what: string, fail: () => Promise<void> | void, call: () => Promise<unknown>, error: ErrorClass][] = [
    [
      'Keycloak cannot refresh it at the provider',
      () => keycloak.endSessionAtProvider(),
      () => owned.manager.getIdpTokenForAccessToken(accessToken, 'acme'),
      ReauthenticationRequiredError,
    ],
    [
      'Keycloak is away',
      () => {
        keycloak.beforeAnswering = (path) => {
          if (path.endsWith('/userinfo')) keycloak.faults.push(503);
          return Promise.resolve();
        };
      },
      () => owned.manager.getIdpTokenForAccessToken(accessToken, 'acme'),
      KeycloakUnavailableError,
    ],
    [
      'the user has no offline token',
      () => undefined,
      () => owned.manager.getIdpTokenFromIdpUserId(adaAtAcme(), 'acme'),
      KeycloakSessionExpiredError,
    ],
    [
      'the user may not read it',
      () => {
        Object.assign(keycloak.users.ada, { mayReadTokens: false });
      },
      () => owned.manager.getIdpTokenForAccessToken(accessToken, 'acme'),
      KeycloakMisconfiguredError,
    ],
  ];

  afterEach(() => {
    Object.assign(keycloak.users.ada, { mayReadTokens: true });
  });

  it.each(failing)('is returned until it expires when %s', async (_, fail, call, error) => {
    const [before] = await around.database.query('SELECT * FROM auth_tokens');
    const expiresAt = Number(before?.access_token_expires_at);
    await fail();
    await expect(call()).resolves.toMatchObject({ expiresAt });
    await expect(around.database.query('SELECT * FROM auth_tokens')).resolves.toEqual([before]);
    await around.database.query("UPDATE auth_tokens SET status = 'reauthentication_required'");
    await expect(call()).rejects.toThrow(error);
    await around.database.query("UPDATE auth_tokens SET status = 'active', access_token_expires_at = 1");
    await expect(call()).rejects.toThrow(error);
  });
});

describe("A refresh of Keycloak's broker that fails at the provider", () => {
  it('asks the user to connect the account again, and changes nothing', async () => {
    const owned = await around.startHost({ refreshOwner: 'keycloak' });
    const { accessToken } = await around.logIn('ada');
    await owned.manager.getIdpTokenForAccessToken(accessToken, 'acme');
    await around.database.query('UPDATE auth_tokens SET access_token_expires_at = 1');
    const before = await around.database.query('SELECT * FROM auth_tokens');
    await keycloak.endSessionAtProvider();
    const failure = await failureOf(owned.manager.getIdpTokenForAccessToken(accessToken, 'acme'));
    expect(failure).toBeInstanceOf(ReauthenticationRequiredError);
    expect(failure).toMatchObject({ reason: 'broker_refresh_failed', subject: { keycloakUserId: ada(), idp: 'acme' } });
    await expect(around.database.query('SELECT * FROM auth_tokens')).resolves.toEqual(before);
    await keycloak.logInAtProvider(3600);
    await expect(owned.manager.getIdpTokenForAccessToken(accessToken, 'acme')).resolves.toMatchObject({
      accessToken: keycloak.brokered.accessToken,
    });
  });
});
