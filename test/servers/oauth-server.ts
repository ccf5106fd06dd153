import { createHash, randomBytes } from 'node:crypto';

/** No process listens there, because the suite reads the code from the redirect and does not follow it. */
export const REDIRECT_URI = 'https://app.example/callback';

export interface Client {
  readonly clientId: string;
  readonly clientSecret: string;
}

/** A user of an OAuth server, with the headers of the browser in which the user is logged in. */
export interface ServerUser {
  readonly headers: Record<string, string>;
  delete(): Promise<void>;
}

/** What an authorization server has issued to its client for a user. */
export interface Grant {
  readonly user: ServerUser;
  readonly accessToken: string;
  readonly refreshToken: string;
  /** Seconds. */
  readonly expiresIn: number;
}

/** An OAuth server that other people wrote, on the loopback interface. */
export interface OAuthServer {
  /** Names and versions of its parts. */
  readonly version: string;
  readonly authorizationEndpoint: string;
  readonly tokenEndpoint: string;
  readonly revocationEndpoint: string;
  /** Serves a GET with a working access token, and answers 401 to one that does not work. */
  readonly resourceEndpoint: string;
  readonly client: Client;
  readonly otherClient: Client;
  /** The scope of a grant with a refresh token. Together with the scope `brief`, access tokens live a few seconds. */
  readonly scope: string;
  newUser(): Promise<ServerUser>;
  /** Ends the server and deletes its data. It also ends when this process ends in any way. */
  stop(): Promise<void>;
}

/** The answer to a request with client authentication. */
export interface Answer {
  readonly status: number;
  readonly fields: Record<string, unknown>;
}

/**
 * Gets a new grant by the authorization code flow with PKCE.
 *
 * @param demand `isBrief`: the access token lives a few seconds. `of`: the user. Default: a new user.
 * @see RFC 6749 section 4.1, RFC 7636
 */
export async function newGrant(
  server: OAuthServer,
  { isBrief = false, of }: { isBrief?: boolean; of?: ServerUser } = {},
): Promise<Grant> {
  const user = of ?? (await server.newUser());
  const verifier = randomBytes(32).toString('base64url');
  const url = new URL(server.authorizationEndpoint);
  url.search = new URLSearchParams({
    client_id: server.client.clientId,
    redirect_uri: REDIRECT_URI,
    response_type: 'code',
    scope: isBrief ? `${server.scope} brief` : server.scope,
    state: 'state',
    code_challenge: createHash('sha256').update(verifier).digest('base64url'),
    code_challenge_method: 'S256',
  }).toString();
  const code = await codeFrom(await fetch(url, { redirect: 'manual', headers: user.headers }));
  const parameters = { grant_type: 'authorization_code', code, redirect_uri: REDIRECT_URI, code_verifier: verifier };
  const { status, fields } = await send(server.tokenEndpoint, server.client, parameters);
  const { access_token: accessToken, refresh_token: refreshToken, expires_in: expiresIn } = fields;
  if (typeof accessToken !== 'string' || typeof refreshToken !== 'string' || typeof expiresIn !== 'number') {
    throw new Error(`The token endpoint answered ${status} to the code, without a pair: ${Object.keys(fields).join()}`);
  }
  return { user, accessToken, refreshToken, expiresIn };
}

/** Sends a refresh token without the module. */
export function redeem(server: OAuthServer, refreshToken: string, client = server.client): Promise<Answer> {
  return send(server.tokenEndpoint, client, { grant_type: 'refresh_token', refresh_token: refreshToken });
}

/** Revokes a refresh token without the module. @see RFC 7009 */
export function revoke(server: OAuthServer, refreshToken: string, client = server.client): Promise<Answer> {
  return send(server.revocationEndpoint, client, { token: refreshToken, token_type_hint: 'refresh_token' });
}

/** Whether the resource endpoint accepts an access token. */
export async function isAccepted(server: OAuthServer, accessToken: string): Promise<boolean> {
  const response = await fetch(server.resourceEndpoint, { headers: { authorization: `Bearer ${accessToken}` } });
  await response.arrayBuffer();
  if (response.status !== 200 && response.status !== 401) {
    throw new Error(`${server.resourceEndpoint} answered ${response.status}.`);
  }
  return response.status === 200;
}

/** The OAuth error code of an answer, or else its status. */
export function outcomeOf({ status, fields: { error } }: Answer): string {
  return typeof error === 'string' ? `${status} ${error}` : String(status);
}

async function send(url: string, { clientId, clientSecret }: Client, form: Record<string, string>): Promise<Answer> {
  const response = await fetch(url, {
    method: 'POST',
    body: new URLSearchParams(form),
    headers: { authorization: `Basic ${Buffer.from(`${clientId}:${clientSecret}`).toString('base64')}` },
  });
  const text = await response.text();
  return { status: response.status, fields: Object(text ? JSON.parse(text) : {}) as Record<string, unknown> };
}

/** Reads the code from a redirect. better-auth answers a client that is no browser with the URL in JSON. */
async function codeFrom(response: Response): Promise<string> {
  const text = await response.text();
  const location = response.headers.get('location') ?? (JSON.parse(text) as { url?: string }).url ?? '';
  const code = URL.canParse(location) ? new URL(location).searchParams.get('code') : null;
  if (!code) throw new Error(`The authorization endpoint answered ${response.status} without a code: ${location}`);
  return code;
}
