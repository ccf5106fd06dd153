import { expect, it } from '@jest/globals';

import { createTestDatabase } from '../support/test-database.js';
import { startBetterAuth } from './better-auth.js';
import { isAccepted, type OAuthServer, revoke } from './oauth-server.js';
import { describeServer } from './server-suite.js';

const REUSE_INTERVAL_SECONDS = 30;

async function start(): Promise<OAuthServer> {
  const database = await createTestDatabase({ empty: true });
  const settings = { reuseIntervalSeconds: REUSE_INTERVAL_SECONDS, databaseUrl: database.url };
  const server = await startBetterAuth(settings).catch(async (error: unknown) => {
    await database.drop();
    throw error;
  });
  return {
    ...server,
    async stop() {
      await server.stop();
      await database.drop();
    },
  };
}

describeServer(
  {
    name: `better-auth with refreshTokenReuseInterval ${REUSE_INTERVAL_SECONDS}`,
    start,
    entry: () => ({
      // Two seconds less, because the server counts in whole seconds and the request takes its time.
      policy: { replayWindowMs: (REUSE_INTERVAL_SECONDS - 2) * 1000, oldAccessTokenSurvives: true },
    }),
    behaviour: {
      oldAccessToken: 'lives on',
      spentToken: '200',
      isSamePairAgain: true,
      spentTokenAfterUse: '200',
      survivesReplays: true,
      tokenOfAnotherClient: '400 invalid_grant',
      unknownClient: '400 invalid_grant',
      wrongSecret: '401 invalid_client',
      refreshAfterMistakes: '200',
      revocation: '200',
      accessTokenAfterRevocation: 'dies',
      refreshAfterRevocation: '400 invalid_grant',
      revocationOfSpentToken: '400 invalid_request',
      revocationAfterExpiry: '200',
      refreshAfterRevocationAfterExpiry: '400 invalid_grant',
    },
    endings: [
      {
        name: 'the revocation of the token',
        end: (server, { refreshToken }) => revoke(server, refreshToken),
        code: 'invalid_grant',
      },
      { name: 'the deletion of the user', end: (_, { user }) => user.delete(), code: 'invalid_grant' },
    ],
  },
  (current) => {
    it('serves a process that takes over from one that was killed after the rotation', async () => {
      const { rig, server } = current();
      const stored = await rig.storeStale(600);
      await rig.killAfterRotation(stored);
      await rig.leaseOver(stored.userId);
      const next = await rig.ask(stored.userId);
      expect(next).not.toBe(stored.accessToken);
      expect(rig.proxy.answersTo(stored.refreshToken)).toEqual([200, 200]);
      await expect(rig.row(stored.userId)).resolves.toMatchObject({ status: 'active', open_leases: 0 });
      await expect(isAccepted(server, next)).resolves.toBe(true);
      await expect(isAccepted(server, stored.accessToken)).resolves.toBe(true);
      await rig.expireIn(stored.userId, -10);
      await expect(isAccepted(server, await rig.ask(stored.userId))).resolves.toBe(true);
    });
  },
);
