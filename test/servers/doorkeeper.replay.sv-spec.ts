import { expect, it } from '@jest/globals';

import { ENDINGS, startDoorkeeper } from './doorkeeper.js';
import { isAccepted } from './oauth-server.js';
import { describeServer } from './server-suite.js';

describeServer(
  {
    name: 'Doorkeeper with previous_refresh_token',
    start: () => startDoorkeeper({ hasPreviousRefreshToken: true }),
    entry: () => ({ policy: { replayWindowMs: 86_400_000 } }),
    behaviour: {
      oldAccessToken: 'dies at the first use of the new one',
      spentToken: '200',
      isSamePairAgain: false,
      spentTokenAfterUse: '400 invalid_grant',
      survivesReplays: true,
      tokenOfAnotherClient: '400 invalid_grant',
      unknownClient: '401 invalid_client',
      wrongSecret: '401 invalid_client',
      refreshAfterMistakes: '200',
      revocation: '200',
      accessTokenAfterRevocation: 'dies',
      refreshAfterRevocation: '400 invalid_grant',
      revocationOfSpentToken: '200',
      revocationAfterExpiry: '200',
      refreshAfterRevocationAfterExpiry: '200',
    },
    endings: ENDINGS,
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
      await expect(isAccepted(server, stored.accessToken)).resolves.toBe(true);
      await expect(isAccepted(server, next)).resolves.toBe(true);
      await expect(isAccepted(server, stored.accessToken)).resolves.toBe(false);
      await rig.expireIn(stored.userId, -10);
      await expect(isAccepted(server, await rig.ask(stored.userId))).resolves.toBe(true);
    });
  },
);
