import { until } from '../support/until.js';
import { type Answer, isAccepted, newGrant, type OAuthServer, outcomeOf, redeem, revoke } from './oauth-server.js';

/** What a server does, as a client sees it without the module. Answers are a status and the OAuth error code. */
export interface ServerBehaviour {
  /** The old access token after a refresh. */
  readonly oldAccessToken: 'dies at the refresh' | 'dies at the first use of the new one' | 'lives on';
  /** The answer to a refresh token that was redeemed before, and whose successor is not used. */
  readonly spentToken: string;
  /** Whether this second answer has the same access token as the first one. */
  readonly isSamePairAgain: boolean;
  /** The answer to a refresh token that was redeemed before, after the first use of the new access token. */
  readonly spentTokenAfterUse: string;
  /** Whether the newest access token works after these replays. */
  readonly survivesReplays: boolean;
  readonly tokenOfAnotherClient: string;
  readonly unknownClient: string;
  readonly wrongSecret: string;
  /** The answer to the right client, after these three requests. */
  readonly refreshAfterMistakes: string;
  readonly revocation: string;
  readonly accessTokenAfterRevocation: 'dies' | 'lives on';
  readonly refreshAfterRevocation: string;
  readonly revocationOfSpentToken: string;
  /** The answer when the access token of the pair has expired, and the answer to a refresh afterwards. */
  readonly revocationAfterExpiry: string;
  readonly refreshAfterRevocationAfterExpiry: string;
}

/** Finds out what a server does. */
export async function observe(server: OAuthServer): Promise<ServerBehaviour> {
  return {
    ...(await observeRefreshes(server)),
    ...(await observeClients(server)),
    ...(await observeRevocations(server)),
  };
}

async function observeRefreshes(server: OAuthServer) {
  const grant = await newGrant(server);
  const next = accessTokenOf(await redeem(server, grant.refreshToken));
  const replay = await redeem(server, grant.refreshToken);
  const isServed = replay.status === 200;
  const newest = isServed ? accessTokenOf(replay) : next;
  const survivesReplay = await isAccepted(server, newest);
  return {
    oldAccessToken: await oldAccessTokenOf(server),
    spentToken: outcomeOf(replay),
    isSamePairAgain: isServed && newest === next,
    spentTokenAfterUse: outcomeOf(await redeem(server, grant.refreshToken)),
    survivesReplays: survivesReplay && (await isAccepted(server, newest)),
  };
}

async function oldAccessTokenOf(server: OAuthServer): Promise<ServerBehaviour['oldAccessToken']> {
  const grant = await newGrant(server);
  const next = accessTokenOf(await redeem(server, grant.refreshToken));
  if (!(await isAccepted(server, grant.accessToken))) return 'dies at the refresh';
  if (!(await isAccepted(server, next))) throw new Error('The server does not accept the access token that it issued.');
  return (await isAccepted(server, grant.accessToken)) ? 'lives on' : 'dies at the first use of the new one';
}

async function observeClients(server: OAuthServer) {
  const { client, otherClient } = server;
  const { refreshToken } = await newGrant(server);
  return {
    tokenOfAnotherClient: outcomeOf(await redeem(server, refreshToken, otherClient)),
    unknownClient: outcomeOf(await redeem(server, refreshToken, { ...client, clientId: 'unknown' })),
    wrongSecret: outcomeOf(await redeem(server, refreshToken, { ...client, clientSecret: 'wrong' })),
    refreshAfterMistakes: outcomeOf(await redeem(server, refreshToken)),
  };
}

async function observeRevocations(server: OAuthServer) {
  const grant = await newGrant(server);
  const revocation = outcomeOf(await revoke(server, grant.refreshToken));
  const accessTokenAfterRevocation = (await isAccepted(server, grant.accessToken)) ? 'lives on' : 'dies';
  const spent = await newGrant(server);
  await redeem(server, spent.refreshToken);
  const brief = await newGrant(server, { isBrief: true });
  await until(async () => !(await isAccepted(server, brief.accessToken)));
  return {
    revocation,
    accessTokenAfterRevocation,
    refreshAfterRevocation: outcomeOf(await redeem(server, grant.refreshToken)),
    revocationOfSpentToken: outcomeOf(await revoke(server, spent.refreshToken)),
    revocationAfterExpiry: outcomeOf(await revoke(server, brief.refreshToken)),
    refreshAfterRevocationAfterExpiry: outcomeOf(await redeem(server, brief.refreshToken)),
  } as const;
}

function accessTokenOf(answer: Answer): string {
  const { access_token: accessToken } = answer.fields;
  if (typeof accessToken === 'string') return accessToken;
  throw new Error(`The server answered ${outcomeOf(answer)} to a refresh.`);
}
