import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';

import { QueryRunnerScope, type RefreshOwner, TokensNotFoundError } from '../src/index.js';
import { type KeycloakHost, KeycloakSurroundings } from './support/keycloak-host.js';

const OWNERS: RefreshOwner[] = ['module', 'keycloak'];

const around = new KeycloakSurroundings();
const { keycloak } = around;
const ada = () => keycloak.users.ada.id;

beforeAll(async () => {
  await around.start();
});

afterAll(async () => {
  await around.stop();
});

beforeEach(async () => {
  await around.reset();
});

describe.each(OWNERS)('An account that its user disconnected, with the refresh owner %s', (refreshOwner) => {
  let host: KeycloakHost;
  let accessToken: string;
  let offlineToken: string;

  beforeAll(async () => {
    host = await around.startHost({ refreshOwner });
  });

  beforeEach(async () => {
    ({ accessToken, refreshToken: offlineToken } = await around.logIn('ada', 'openid offline_access'));
    await host.manager.storeOfflineToken(ada(), offlineToken);
    keycloak.requests.length = 0;
  });

  const automatic = () => [
    () => host.manager.getIdpTokenForAccessToken(accessToken, 'acme'),
    () => host.manager.getIdpTokenFromOfflineToken(offlineToken, 'acme'),
    () => host.manager.getIdpTokenFromIdpUserId(keycloak.users.ada.acmeId ?? '', 'acme'),
  ];

  async function expectDisconnected(): Promise<void> {
    const before = { broker: around.asked('/broker/'), redemptions: keycloak.redemptions };
    for (const call of automatic()) await expect(call()).rejects.toThrow(TokensNotFoundError);
    await expect(around.database.query('SELECT FROM auth_tokens')).resolves.toEqual([]);
    expect({ broker: around.asked('/broker/'), redemptions: keycloak.redemptions }).toEqual(before);
  }

  async function expectConnected(token: string): Promise<void> {
    for (const call of automatic()) await expect(call()).resolves.toMatchObject({ accessToken: token });
  }

  it('is not connected again by an automatic import', async () => {
    await expectConnected(keycloak.brokered.accessToken);
    await expect(host.manager.revokeIdpTokens(ada(), 'acme')).resolves.toBe(true);
    await expectDisconnected();
    await expect(host.manager.revokeIdpTokens(ada(), 'acme')).resolves.toBe(false);
    await expectDisconnected();
  });

  it('is not connected again by an automatic import if no tokens were stored', async () => {
    await expect(host.manager.revokeIdpTokens(ada(), 'acme')).resolves.toBe(false);
    await expectDisconnected();
  });

  it('is connected again by an import that the host asks for, and by a login', async () => {
    await host.manager.revokeIdpTokens(ada(), 'acme');
    await expect(host.manager.importIdpTokens(ada(), 'acme', accessToken)).resolves.toBe(true);
    await expect(around.database.query('SELECT FROM disconnected_accounts')).resolves.toEqual([]);
    await expectConnected(keycloak.brokered.accessToken);
    await host.manager.revokeIdpTokens(ada(), 'acme');
    await host.manager.storeIdpTokens(ada(), 'acme', { accessToken: 'from a login' });
    await expectConnected('from a login');
    await host.manager.revokeIdpTokens(ada(), 'acme');
    await expectDisconnected();
  });

  it('is connected by a login also when the tokens of this login are no longer usable', async () => {
    await host.manager.revokeIdpTokens(ada(), 'acme');
    await host.manager.storeIdpTokens(ada(), 'acme', { accessToken: 'from a login', accessTokenExpiresAt: 1 });
    await around.database.query(
      "UPDATE auth_tokens SET status = 'reauthentication_required', issued_at = now() - interval '1 day'",
    );
    await expectConnected(keycloak.brokered.accessToken);
  });

  it('stays connected for another user and another provider', async () => {
    await host.manager.revokeIdpTokens('bob', 'acme');
    await expectConnected(keycloak.brokered.accessToken);
  });

  it('stores nothing of an automatic import that was asking the broker meanwhile', async () => {
    const asking = around.pausedAt('/broker/');
    const call = host.manager.getIdpTokenForAccessToken(accessToken, 'acme');
    await asking.reached;
    await host.manager.revokeIdpTokens(ada(), 'acme');
    asking.goOn();
    await expect(call).rejects.toThrow(TokensNotFoundError);
    await expectDisconnected();
  });

  it('is disconnected in the transaction that disconnects it, and not any more after its rollback', async () => {
    await expectConnected(keycloak.brokered.accessToken);
    const run = host.app.get(QueryRunnerScope).run(async () => {
      await host.manager.revokeIdpTokens(ada(), 'acme');
      for (const call of automatic()) await expect(call()).rejects.toThrow(TokensNotFoundError);
      throw new Error('rolled back on purpose');
    });
    await expect(run).rejects.toThrow('rolled back on purpose');
    await expectConnected(keycloak.brokered.accessToken);
    await around.database.query('DELETE FROM auth_tokens');
    await expectConnected(keycloak.brokered.accessToken);
  });

  it('stays disconnected when the transaction of an import is rolled back', async () => {
    await host.manager.revokeIdpTokens(ada(), 'acme');
    const run = host.app.get(QueryRunnerScope).run(async () => {
      await host.manager.importIdpTokens(ada(), 'acme', accessToken);
      await expect(host.manager.getIdpTokenForAccessToken(accessToken, 'acme')).resolves.toBeDefined();
      throw new Error('rolled back on purpose');
    });
    await expect(run).rejects.toThrow('rolled back on purpose');
    await expectDisconnected();
  });

  it('is imported by itself again after tokens were stored and then only deleted', async () => {
    await host.manager.revokeIdpTokens(ada(), 'acme');
    await host.manager.storeIdpTokens(ada(), 'acme', { accessToken: 'from a login' });
    await host.deleteTokens(ada(), 'acme');
    await expectConnected(keycloak.brokered.accessToken);
  });

  it('stays disconnected when tokens are deleted that are not there', async () => {
    await host.manager.revokeIdpTokens(ada(), 'acme');
    await host.deleteTokens(ada(), 'acme');
    await expectDisconnected();
  });
});

it('An account at a provider that cannot revoke is disconnected too', async () => {
  const { manager } = await around.startHost();
  const { accessToken } = await around.logIn('ada');
  await manager.storeIdpTokens(ada(), 'plain', { accessToken: 'a' });
  await expect(manager.revokeIdpTokens(ada(), 'plain')).resolves.toBe(true);
  await expect(around.database.query('SELECT FROM token_revocations')).resolves.toEqual([]);
  keycloak.requests.length = 0;
  await expect(manager.getIdpTokenForAccessToken(accessToken, 'plain')).rejects.toThrow(TokensNotFoundError);
  expect(around.asked('/broker/')).toBe(0);
});

it('A host without Keycloak notes no disconnected account', async () => {
  const { manager } = await around.startHost(null);
  await manager.storeIdpTokens('ada', 'acme', { accessToken: 'a' });
  await expect(manager.revokeIdpTokens('ada', 'acme')).resolves.toBe(true);
  await expect(manager.revokeIdpTokens('ada', 'plain')).resolves.toBe(false);
  await expect(around.database.query('SELECT FROM disconnected_accounts')).resolves.toEqual([]);
});
