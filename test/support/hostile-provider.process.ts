/**
 * A token endpoint in a process of its own that has the faults of real ones. It rotates refresh tokens, ends a grant
 * after a reuse, does not answer, or sends broken answers. It logs requests, so that a test can count them.
 *
 * POST /grants            makes a grant and returns its first pair
 * POST /token             redeems a refresh token
 * POST /revoke            ends the grant of a token
 * GET  /userinfo          answers 200 if the bearer token works, else 401
 * POST /introspect        returns whether an access token is active, with the status of PUT /introspection
 * PUT  /introspection     sets the status of the next introspections
 * GET  /introspections    returns the access tokens of all introspections
 * PUT  /faults            sets the faults of the next requests with a refresh token of a grant
 * GET  /redemptions       returns all requests to POST /token
 */
import { randomBytes } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';

import type { Fault, HostileProviderSettings, Redemption } from './hostile-provider.js';

interface Grant {
  readonly id: string;
  isRevoked: boolean;
  /** The redeemed refresh tokens, each with the time and the answer of the first request. */
  readonly spent: Map<string, { at: number; answer: Record<string, unknown> }>;
  liveRefreshTokens: Set<string>;
  liveAccessTokens: Set<string>;
}

const settings = JSON.parse(process.argv[2] ?? '{}') as HostileProviderSettings;
const grants = new Map<string, Grant>();
const redemptions: Redemption[] = [];
const faults = new Map<string, Fault[]>();
const introspections: string[] = [];
let introspectionStatus = 200;

const server = createServer((request, response) => void route(request, response));
server.listen(0, '127.0.0.1', () => {
  process.send?.({ url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` });
});
process.on('disconnect', () => process.exit(0));

async function route(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const body = await text(request);
  switch (`${request.method ?? ''} ${request.url ?? ''}`) {
    case 'POST /grants':
      json(response, 200, issue(newGrant()));
      return;
    case 'POST /token':
      await redeem(new URLSearchParams(body).get('refresh_token') ?? '', response);
      return;
    case 'POST /revoke': {
      const grant = grantOf(new URLSearchParams(body).get('token') ?? '');
      if (grant) revoke(grant);
      json(response, 200, {});
      return;
    }
    case 'GET /userinfo': {
      const accessToken = request.headers.authorization?.replace('Bearer ', '') ?? '';
      json(response, grantOf(accessToken)?.liveAccessTokens.has(accessToken) ? 200 : 401, {});
      return;
    }
    case 'POST /introspect': {
      const accessToken = new URLSearchParams(body).get('token') ?? '';
      introspections.push(accessToken);
      json(response, introspectionStatus, { active: grantOf(accessToken)?.liveAccessTokens.has(accessToken) ?? false });
      return;
    }
    case 'PUT /introspection':
      introspectionStatus = Number(body);
      json(response, 200, {});
      return;
    case 'GET /introspections':
      json(response, 200, introspections);
      return;
    case 'PUT /faults':
      for (const [token, ofToken] of Object.entries(JSON.parse(body) as Record<string, Fault[]>)) {
        faults.set(idOf(token), ofToken);
      }
      json(response, 200, {});
      return;
    case 'GET /redemptions':
      json(response, 200, redemptions);
      return;
    default:
      json(response, 404, {});
  }
}

async function redeem(refreshToken: string, response: ServerResponse): Promise<void> {
  const fault = faults.get(idOf(refreshToken))?.shift() ?? { kind: 'none' };
  const grant = grantOf(refreshToken);
  const entry: Redemption = { grant: grant?.id ?? '', refreshToken, outcome: 'pending', fault: fault.kind };
  redemptions.push(entry);
  if (fault.kind === 'stall') return;
  if (fault.kind === 'delay') await delay(fault.ms ?? 1000);
  if (fault.kind === 'rate-limit') {
    entry.outcome = 'not-served';
    json(response, 429, {}, { 'retry-after': String(fault.seconds ?? 1) });
    return;
  }
  if (fault.kind === 'unavailable') {
    entry.outcome = 'not-served';
    json(response, 503, {});
    return;
  }
  if (fault.kind === 'error-before') {
    entry.outcome = 'not-served';
    json(response, 500, { error: 'server_error' });
    return;
  }
  if (fault.kind === 'reset-before') {
    entry.outcome = 'not-served';
    response.destroy();
    return;
  }
  const answer = grant && rotate(grant, refreshToken, entry);
  if (!answer) {
    if (entry.outcome === 'pending') entry.outcome = 'refused';
    json(response, 400, { error: 'invalid_grant' });
    return;
  }
  switch (fault.kind) {
    case 'delay-after-rotating':
      await delay(fault.ms ?? 1000);
      break;
    case 'hang-after-rotating':
      return;
    case 'reset-after-rotating':
      response.destroy();
      return;
    case 'error-after-rotating':
      await delay(fault.ms ?? 0);
      json(response, 500, { error: 'server_error' });
      return;
    case 'malformed':
      json(response, 200, '{"access_token": "cut');
      return;
    case 'oversized':
      json(response, 200, JSON.stringify({ ...answer, padding: 'x'.repeat(2 * 1024 * 1024) }));
      return;
    case 'slow-drip': {
      response.writeHead(200, { 'content-type': 'application/json' });
      for (const character of JSON.stringify(answer)) {
        if (response.destroyed) return;
        response.write(character);
        await delay(fault.ms ?? 100);
      }
      response.end();
      return;
    }
    case 'omit-refresh-token': {
      grant.liveRefreshTokens.add(refreshToken);
      grant.spent.delete(refreshToken);
      json(response, 200, { ...answer, refresh_token: undefined });
      return;
    }
  }
  json(response, 200, answer);
}

/** Redeems a refresh token by the rules of the mode. Returns the answer, or undefined for a refusal. */
function rotate(grant: Grant, refreshToken: string, entry: Redemption): Record<string, unknown> | undefined {
  if (grant.isRevoked) return undefined;
  const before = grant.spent.get(refreshToken);
  if (before) {
    const isInWindow = Date.now() - before.at < (settings.replayWindowMs ?? 600_000);
    if (settings.mode === 'replay-same' && isInWindow) {
      entry.outcome = 'replayed';
      return before.answer;
    }
    if (settings.mode === 'replay-new' && isInWindow) {
      entry.outcome = 'replayed';
      return issue(grant);
    }
    entry.outcome = 'reuse-punished';
    revoke(grant);
    return undefined;
  }
  if (!grant.liveRefreshTokens.has(refreshToken)) return undefined;
  entry.outcome = 'redeemed';
  if (settings.oldAccessTokenDies) grant.liveAccessTokens.clear();
  if (settings.mode === 'no-rotation') {
    return { ...issue(grant), refresh_token: refreshToken };
  }
  grant.liveRefreshTokens.delete(refreshToken);
  const answer = issue(grant);
  grant.spent.set(refreshToken, { at: Date.now(), answer });
  return answer;
}

function newGrant(): Grant {
  const id = randomBytes(8).toString('hex');
  const grant: Grant = {
    id,
    isRevoked: false,
    spent: new Map(),
    liveRefreshTokens: new Set(),
    liveAccessTokens: new Set(),
  };
  grants.set(id, grant);
  return grant;
}

function issue(grant: Grant): Record<string, unknown> {
  const serial = randomBytes(12).toString('hex');
  const accessToken = `access-${grant.id}-${serial}`;
  const refreshToken = `refresh-${grant.id}-${serial}`;
  grant.liveAccessTokens.add(accessToken);
  grant.liveRefreshTokens.add(refreshToken);
  return {
    access_token: accessToken,
    refresh_token: refreshToken,
    token_type: 'bearer',
    expires_in: settings.accessTokenSeconds ?? 3600,
  };
}

function revoke(grant: Grant): void {
  grant.isRevoked = true;
  grant.liveAccessTokens.clear();
  grant.liveRefreshTokens.clear();
}

function grantOf(token: string): Grant | undefined {
  return grants.get(idOf(token));
}

function idOf(token: string): string {
  return token.split('-')[1] ?? '';
}

function json(response: ServerResponse, status: number, body: unknown, headers: Record<string, string> = {}): void {
  response.writeHead(status, { 'content-type': 'application/json', ...headers });
  response.end(typeof body === 'string' ? body : JSON.stringify(body));
}

function delay(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
