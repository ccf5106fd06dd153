import { setTimeout as delay } from 'node:timers/promises';

import { afterAll, beforeAll, beforeEach, describe, expect, it, jest } from '@jest/globals';

import { QueryRunnerScope, type RefreshOwner, TokensNotFoundError } from '../src/index.js';
import { StatementExecutor } from '../src/postgres/statement-executor.js';
import { type KeycloakHost, KeycloakSurroundings } from './support/keycloak-host.js';
import { until } from './support/until.js';

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

  it('is not replaced by the only named account, because imports are of the default account', async () => {
    await host.manager.storeIdpTokens(ada(), 'acme', { accessToken: 'of work' }, { account: 'work' });
    await expectConnected(keycloak.brokered.accessToken);
    await host.manager.revokeIdpTokens(ada(), 'acme');
    for (const call of automatic()) await expect(call()).rejects.toThrow(TokensNotFoundError);
    await expect(host.manager.getIdpToken(ada(), 'acme')).resolves.toMatchObject({ accessToken: 'of work' });
  });

  it('is connected again by an import that the host asks for, and by a login', async () => {
    await host.manager.revokeIdpTokens(ada(), 'acme');
    await keycloak.logInAtProvider(3600);
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
      await keycloak.logInAtProvider(3600);
      await expect(host.manager.importIdpTokens(ada(), 'acme', accessToken)).resolves.toBe(true);
      await expect(host.manager.getIdpTokenForAccessToken(accessToken, 'acme')).resolves.toBeDefined();
      throw new Error('rolled back on purpose');
    });
    await expect(run).rejects.toThrow('rolled back on purpose');
    await expectDisconnected();
  });

  const pendingRevocations = async (): Promise<number> =>
    (await around.database.query('SELECT FROM token_revocations')).length;

  it('is not connected by an import of the very tokens that wait for their revocation', async () => {
    await expectConnected(keycloak.brokered.accessToken);
    around.endpoint.answerRevocation = () => ({ status: 503 });
    await host.manager.revokeIdpTokens(ada(), 'acme');
    await expect(host.manager.importIdpTokens(ada(), 'acme', accessToken)).resolves.toBe(false);
    await expectDisconnected();
    await expect(pendingRevocations()).resolves.toBe(1);

    await keycloak.logInAtProvider(3600);
    await expect(host.manager.importIdpTokens(ada(), 'acme', accessToken)).resolves.toBe(true);
    await expectConnected(keycloak.brokered.accessToken);
  });

  it('is not connected in the transaction that disconnects it by an import of the same tokens', async () => {
    await expectConnected(keycloak.brokered.accessToken);
    await host.app.get(QueryRunnerScope).run(async () => {
      await host.manager.revokeIdpTokens(ada(), 'acme');
      await expect(host.manager.importIdpTokens(ada(), 'acme', accessToken)).resolves.toBe(false);
    });
    await expectDisconnected();
  });

  it('is connected by an import if the tokens that wait cannot be opened, or are of another user', async () => {
    await expectConnected(keycloak.brokered.accessToken);
    around.endpoint.answerRevocation = () => ({ status: 503 });
    await host.manager.revokeIdpTokens(ada(), 'acme');
    await until(
      async () => (await around.database.query('SELECT FROM token_revocations WHERE attempts > 0')).length > 0,
    );
    await around.database.query("UPDATE token_revocations SET keycloak_user_id = 'bob'");
    await expect(host.manager.importIdpTokens(ada(), 'acme', accessToken)).resolves.toBe(true);
    await host.deleteTokens(ada(), 'acme');
    await around.database.query(
      'UPDATE token_revocations SET keycloak_user_id = $1, access_token = $2, refresh_token = $2',
      [ada(), 'v1.unknown.text'],
    );
    await expect(host.manager.importIdpTokens(ada(), 'acme', accessToken)).resolves.toBe(true);
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

it('An account is not connected by an import whose refresh token waits for its revocation', async () => {
  const { manager } = await around.startHost();
  const { accessToken } = await around.logIn('ada');
  await manager.importIdpTokens(ada(), 'acme', accessToken);
  around.endpoint.answerRevocation = () => ({ status: 503 });
  await manager.revokeIdpTokens(ada(), 'acme');
  const { refreshToken } = keycloak.brokered;
  await keycloak.logInAtProvider(3600);
  Object.assign(keycloak.brokered, { refreshToken }); // Keycloak got only a new access token by it
  await expect(manager.importIdpTokens(ada(), 'acme', accessToken)).resolves.toBe(false);
  await expect(around.database.query('SELECT FROM auth_tokens')).resolves.toEqual([]);
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

it('An account that a process without Keycloak disconnects is disconnected in the others', async () => {
  const { manager } = await around.startHost(null);
  const host = await around.startHost();
  const { accessToken } = await around.logIn('ada');
  await host.manager.getIdpTokenForAccessToken(accessToken, 'acme');
  await expect(manager.revokeIdpTokens(ada(), 'acme')).resolves.toBe(true);
  await expect(host.manager.getIdpTokenForAccessToken(accessToken, 'acme')).rejects.toThrow(TokensNotFoundError);
});

describe('A disconnection and an automatic import at the same time', () => {
  let host: KeycloakHost;
  let accessToken: string;

  beforeAll(async () => {
    host = await around.startHost();
  });

  beforeEach(async () => {
    ({ accessToken } = await around.logIn('ada'));
  });

  it('leave no pair when the transaction of the disconnection is open meanwhile', async () => {
    const other = await around.startHost();
    await host.app.get(QueryRunnerScope).run(async () => {
      await expect(host.manager.revokeIdpTokens(ada(), 'acme')).resolves.toBe(false);
      const imported = other.manager.getIdpTokenForAccessToken(accessToken, 'acme');
      await expect(imported).rejects.toThrow(TokensNotFoundError);
    });
    await expect(around.database.query('SELECT FROM auth_tokens')).resolves.toEqual([]);
    await expect(other.manager.getIdpTokenForAccessToken(accessToken, 'acme')).rejects.toThrow(TokensNotFoundError);
  });

  it('leave no pair when the transaction of the import is open meanwhile', async () => {
    const other = await around.startHost();
    let revoked: Promise<boolean> | undefined;
    await host.manager.storeIdpTokens(ada(), 'acme', { accessToken: 'before' });
    await host.app.get(QueryRunnerScope).run(async () => {
      await host.deleteTokens(ada(), 'acme'); // now only this transaction can import
      await host.manager.getIdpTokenForAccessToken(accessToken, 'acme');
      revoked = other.manager.revokeIdpTokens(ada(), 'acme');
      await expect(Promise.race([revoked, delay(300, 'waits')])).resolves.toBe('waits');
    });
    await expect(revoked).resolves.toBe(true);
    await expect(around.database.query('SELECT FROM auth_tokens')).resolves.toEqual([]);
  });

  it('leave no pair when the note is committed right after the import looked for it', async () => {
    const executor = host.app.get(StatementExecutor, { strict: false });
    const execute = executor.execute.bind(executor);
    const spy = jest.spyOn(executor, 'execute').mockImplementation(async (statement, params) => {
      const rows = await execute(statement, params);
      if (statement.action === 'import tokens') await note();
      return rows;
    });
    const note = () =>
      around.database.query('INSERT INTO disconnected_accounts (keycloak_user_id, identity_provider) VALUES ($1, $2)', [
        ada(),
        'acme',
      ]);
    try {
      await expect(host.manager.getIdpTokenForAccessToken(accessToken, 'acme')).rejects.toThrow(TokensNotFoundError);
    } finally {
      spy.mockRestore();
    }
    await expect(around.database.query('SELECT FROM auth_tokens')).resolves.toEqual([]);
  });
});
