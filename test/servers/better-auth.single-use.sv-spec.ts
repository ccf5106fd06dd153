import { expect, it } from '@jest/globals';

import { startBetterAuth } from './better-auth.js';
import { isAccepted, newGrant, outcomeOf, redeem, revoke } from './oauth-server.js';
import { IDP } from './server-rig.js';
import { describeServer } from './server-suite.js';

describeServer(
  {
    name: 'better-auth with refreshTokenReuseInterval 0',
    start: () => startBetterAuth({ reuseIntervalSeconds: 0 }),
    entry: () => ({ policy: { oldAccessTokenSurvives: true } }),
    behaviour: {
      oldAccessToken: 'lives on',
      spentToken: '400 invalid_grant',
      isSamePairAgain: false,
      spentTokenAfterUse: '400 invalid_grant',
      survivesReplays: false,
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
      {
        name: 'the deletion of the user',
        end: (_, { user }) => user.delete(),
        code: 'invalid_request',
        entry: { terminalErrorCodes: ['invalid_request'] },
      },
    ],
  },
  (current) => {
    it('serves the old access token of a process that was killed after the rotation, until it expires', async () => {
      const { rig, server } = current();
      const stored = await rig.storeStale(600);
      await rig.killAfterRotation(stored);
      await rig.leaseOver(stored.userId);
      await expect(rig.tokens.getIdpToken(stored.userId, IDP)).resolves.toMatchObject({
        accessToken: stored.accessToken,
      });
      await expect(isAccepted(server, stored.accessToken)).resolves.toBe(true);
      expect(rig.proxy.answersTo(stored.refreshToken)).toEqual([200]);

      await rig.expireIn(stored.userId, -10);
      await expect(rig.ask(stored.userId)).rejects.toMatchObject({ code: 'ERR_TOKENS_REAUTHENTICATION_REQUIRED' });
      expect(rig.proxy.answersTo(stored.refreshToken).slice(1)).not.toContain(200);
      await expect(rig.row(stored.userId)).resolves.toMatchObject({
        status: 'reauthentication_required',
        last_error_code: 'invalid_grant',
      });
      await expect(isAccepted(server, stored.accessToken)).resolves.toBe(false);
    });

    it('ends every grant of a user with the client when it gets a spent token', async () => {
      const { server } = current();
      const spent = await newGrant(server);
      const other = await newGrant(server, { of: spent.user });
      await redeem(server, spent.refreshToken);
      await expect(isAccepted(server, other.accessToken)).resolves.toBe(true);
      await redeem(server, spent.refreshToken);
      await expect(isAccepted(server, other.accessToken)).resolves.toBe(false);
      expect(outcomeOf(await redeem(server, other.refreshToken))).toBe('400 invalid_grant');
    });

    it('has the operator act after the deletion of a user, if terminalErrorCodes does not have its code', async () => {
      const { rig } = current();
      const { userId, user } = await rig.storeStale();
      await user.delete();
      await expect(rig.tokens.getIdpToken(userId, IDP)).rejects.toMatchObject({
        code: 'ERR_TOKENS_PROVIDER_MISCONFIGURED',
        providerCode: 'invalid_request',
      });
      await expect(rig.row(userId)).resolves.toMatchObject({ status: 'active' });
    });
  },
);
