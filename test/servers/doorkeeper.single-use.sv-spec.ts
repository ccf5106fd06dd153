import { expect, it } from '@jest/globals';

import { ENDINGS, SPECIAL_CLIENT, startDoorkeeper } from './doorkeeper.js';
import { isAccepted, newGrant } from './oauth-server.js';
import { IDP } from './server-rig.js';
import { describeServer } from './server-suite.js';

describeServer(
  {
    name: 'Doorkeeper without previous_refresh_token',
    start: () => startDoorkeeper(),
    entry: ({ resourceEndpoint }) => ({
      userinfoEndpoint: resourceEndpoint,
      policy: { refreshEndsAccessToken: true },
    }),
    behaviour: {
      oldAccessToken: 'dies at the refresh',
      spentToken: '400 invalid_grant',
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
    it('has the user reconnect as soon as the lease of a process that was killed after the rotation is over', async () => {
      const { rig, server } = current();
      const stored = await rig.storeStale(600);
      await rig.killAfterRotation(stored);
      await rig.leaseOver(stored.userId);
      await expect(rig.ask(stored.userId)).rejects.toMatchObject({ code: 'ERR_TOKENS_REAUTHENTICATION_REQUIRED' });
      await expect(rig.row(stored.userId)).resolves.toMatchObject({
        status: 'reauthentication_required',
        last_error_code: 'ACCESS_TOKEN_DEAD',
      });
      await expect(isAccepted(server, stored.accessToken)).resolves.toBe(false);
      expect(rig.proxy.answersTo(stored.refreshToken)).toEqual([200]);
    });

    it.each(['client_secret_post', 'client_secret_basic_unencoded'] as const)(
      'refuses form-encoded credentials by HTTP Basic, and takes the same ones by %s',
      async (clientAuthentication) => {
        const { rig, server } = current();
        const { accessToken, refreshToken } = await newGrant({ ...server, client: SPECIAL_CLIENT });
        const encoding = await rig.startApp(SPECIAL_CLIENT);
        const userId = `special-${clientAuthentication}`;
        await encoding.storeIdpTokens(userId, IDP, { accessToken, refreshToken, accessTokenExpiresAt: 1 });
        await expect(encoding.getIdpToken(userId, IDP)).rejects.toMatchObject({ providerCode: 'invalid_client' });
        const other = await rig.startApp({ ...SPECIAL_CLIENT, clientAuthentication });
        await rig.backoffOver(userId);
        const { accessToken: next } = await other.getIdpToken(userId, IDP);
        await expect(isAccepted(server, next)).resolves.toBe(true);
        expect(rig.proxy.answersTo(refreshToken)).toEqual([401, 200]);
      },
    );
  },
);
