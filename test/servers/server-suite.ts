import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';

import { until } from '../support/until.js';
import { type Grant, isAccepted, type OAuthServer, outcomeOf, redeem } from './oauth-server.js';
import { observe, type ServerBehaviour } from './server-behaviour.js';
import { type Entry, IDP, ServerRig } from './server-rig.js';

const REAUTHENTICATION = 'ERR_TOKENS_REAUTHENTICATION_REQUIRED';
const MISCONFIGURED = 'ERR_TOKENS_PROVIDER_MISCONFIGURED';
const CALLERS = 200;
const ROUNDS = 10;

/** A way in which a grant ends at the server. */
export interface Ending<Server> {
  readonly name: string;
  readonly end: (server: Server, grant: Grant) => Promise<unknown>;
  /** The OAuth error code of the answer to a refresh afterwards. */
  readonly code: string;
  /** Further options that the module needs to understand the code. */
  readonly entry?: Entry;
}

/** A server with one of its settings, and the options that fit it. */
export interface ServerSetting<Server extends OAuthServer> {
  readonly name: string;
  readonly start: () => Promise<Server>;
  /** The options of the provider, without its client and its endpoints of OAuth. */
  readonly entry: (server: OAuthServer) => Entry;
  readonly behaviour: ServerBehaviour;
  readonly endings: readonly Ending<Server>[];
}

/**
 * Runs the tests that every server must pass, and then those of its setting.
 *
 * @param further registers the tests of the setting. `current` returns the server and its rig inside a test.
 */
export function describeServer<Server extends OAuthServer>(
  { name, start, entry, behaviour, endings }: ServerSetting<Server>,
  further: (current: () => { rig: ServerRig; server: Server }) => void,
): void {
  let server: Server;
  let rig: ServerRig;
  let stop: (() => Promise<void>) | undefined;

  beforeAll(async () => {
    server = await start();
    stop = () => server.stop();
    process.stdout.write(`${server.version}\n`);
    rig = await ServerRig.start(server, entry);
    stop = () => rig.stop();
  }, 120_000);

  afterAll(async () => {
    await stop?.();
  });

  describe(name, () => {
    it('behaves as the table of servers says', async () => {
      await expect(observe(server)).resolves.toEqual(behaviour);
    });

    it('accepts the token that the module got when the old one had expired there', async () => {
      const { userId, accessToken } = await rig.store({ isBrief: true });
      await until(async () => !(await isAccepted(server, accessToken)));
      const next = await rig.ask(userId);
      expect(next).not.toBe(accessToken);
      await expect(isAccepted(server, next)).resolves.toBe(true);
    });

    it(`gets one refresh for ${CALLERS} concurrent callers of one process`, async () => {
      const stored = await rig.storeStale();
      const calls = Array.from({ length: CALLERS }, () => rig.tokens.getIdpToken(stored.userId, IDP));
      const answers = new Set((await Promise.all(calls)).map((answer) => answer.accessToken));
      await expectOneRefresh([...answers], stored);
    });

    it(`gets one refresh for ${CALLERS} concurrent callers of two processes`, async () => {
      const stored = await rig.storeStale();
      const workers = [await rig.startWorker(), await rig.startWorker()];
      const outcomes = await Promise.all(
        workers.map((worker) => worker.get([stored.userId], { callers: CALLERS / 2 })),
      );
      expect(outcomes.flat()).toHaveLength(CALLERS);
      expect(outcomes.flat().flatMap(({ error }) => error ?? [])).toEqual([]);
      const answers = new Set(outcomes.flat().map((outcome) => outcome.accessToken ?? ''));
      await expectOneRefresh([...answers], stored);
    });

    it(`accepts the token of each of ${ROUNDS} refreshes in a row`, async () => {
      const { userId, accessToken } = await rig.store();
      const before = rig.proxy.redemptions.length;
      const seen = new Set([accessToken]);
      for (let round = 0; round < ROUNDS; round++) {
        await rig.expireIn(userId, -10);
        const next = await rig.ask(userId);
        await expect(isAccepted(server, next)).resolves.toBe(true);
        seen.add(next);
      }
      expect(seen.size).toBe(1 + ROUNDS);
      expect(rig.proxy.redemptions.slice(before).map(({ status }) => status)).toEqual(Array(ROUNDS).fill(200));
    });

    it('issues another token for a version that its resource endpoint refused', async () => {
      const stored = await rig.store();
      const { version } = await rig.tokens.getIdpToken(stored.userId, IDP);
      const { accessToken } = await rig.tokens.getIdpToken(stored.userId, IDP, { rejectedVersion: version });
      await expectOneRefresh([accessToken], stored);
    });

    it('refuses both tokens of a pair that the module revoked', async () => {
      const { userId, accessToken, refreshToken } = await rig.store();
      await expect(rig.tokens.revokeIdpTokens(userId, IDP)).resolves.toBe(true);
      await until(async () => !(await isAccepted(server, accessToken)));
      await outboxEmpty();
      expect(outcomeOf(await redeem(server, refreshToken))).toBe('400 invalid_grant');
    });

    it('treats a revocation after the expiry of the access token as the table of servers says', async () => {
      const { userId, accessToken, refreshToken } = await rig.store({ isBrief: true });
      await until(async () => !(await isAccepted(server, accessToken)));
      await rig.tokens.revokeIdpTokens(userId, IDP);
      await outboxEmpty();
      const outcome = outcomeOf(await redeem(server, refreshToken));
      expect(outcome).toBe(behaviour.refreshAfterRevocationAfterExpiry);
    });

    it.each(endings)('has the user reconnect after $name', async ({ end, code, entry: changes }) => {
      const stored = await rig.storeStale();
      await end(server, stored);
      const tokens = changes ? await rig.startApp(changes) : rig.tokens;
      await expect(tokens.getIdpToken(stored.userId, IDP)).rejects.toMatchObject({ code: REAUTHENTICATION });
      await expect(rig.row(stored.userId)).resolves.toMatchObject({
        status: 'reauthentication_required',
        last_error_code: code,
      });
    });

    it('loses no grant to a wrong client secret', async () => {
      const stored = await rig.storeStale();
      const { userId } = stored;
      const mistaken = await rig.startApp({ clientSecret: 'wrong' });
      const providerCode = 'invalid_client';
      await expect(mistaken.getIdpToken(userId, IDP)).rejects.toMatchObject({ code: MISCONFIGURED, providerCode });
      await expect(rig.row(userId)).resolves.toMatchObject({ status: 'active', last_error_code: providerCode });
      await rig.backoffOver(userId);
      await expectOneRefresh([await rig.ask(userId)], stored, [401, 200]);
    });

    it("loses no grant to another client's id", async () => {
      const stored = await rig.storeStale();
      const { userId } = stored;
      const mistaken = await rig.startApp({ ...server.otherClient });
      const providerCode = 'OTHER_CLIENT';
      await expect(mistaken.getIdpToken(userId, IDP)).rejects.toMatchObject({ code: MISCONFIGURED, providerCode });
      await expect(rig.row(userId)).resolves.toMatchObject({ status: 'active' });
      await expectOneRefresh([await rig.ask(userId)], stored);
    });

    further(() => ({ rig, server }));
  });

  /** Expects that all callers got one new token, that the server accepts it, and that it got one refresh for it. */
  async function expectOneRefresh(
    answers: string[],
    { accessToken, refreshToken }: Grant,
    statuses = [200],
  ): Promise<void> {
    expect(answers).toHaveLength(1);
    const [next = ''] = answers;
    expect(next).not.toBe(accessToken);
    await expect(isAccepted(server, next)).resolves.toBe(true);
    expect(rig.proxy.answersTo(refreshToken)).toEqual(statuses);
  }

  async function outboxEmpty(): Promise<void> {
    await until(async () => (await rig.database.query('SELECT FROM token_revocations')).length === 0);
  }
}
