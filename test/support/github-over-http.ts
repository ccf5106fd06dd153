import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';

/** github.com and api.github.com on the loopback interface, as far as the programs of the documents call them. */
export interface GitHubOverHttp {
  readonly url: string;
  /** The code that the authorization endpoint would give to the browser. */
  readonly code: string;
  /** How many refresh tokens it redeemed. */
  redeemed: number;
  close(): Promise<void>;
}

/** Starts it. A refresh token is single-use, and a refresh ends the access token before it. */
export async function startGitHubOverHttp(): Promise<GitHubOverHttp> {
  const code = 'code-of-ada';
  /** The live access token of each live refresh token. */
  const live = new Map<string, string>();
  const server = createServer((request, response) => {
    void text(request).then((body) => {
      const answer = request.url === '/user' ? user(request.headers.authorization) : token(new URLSearchParams(body));
      response.writeHead(answer.status, { 'content-type': 'application/json' });
      response.end(JSON.stringify(answer.body));
    });
  });
  const user = (authorization = '') =>
    [...live.values()].includes(authorization.replace('Bearer ', ''))
      ? { status: 200, body: { id: 1815, login: 'ada-at-github' } }
      : { status: 401, body: { message: 'Bad credentials' } };
  const token = (form: URLSearchParams) => {
    const refreshToken = form.get('refresh_token');
    // The module sends the code with the verifier of the attempt. @see RFC 7636 section 4.5
    if (refreshToken === null && (form.get('code') !== code || !form.get('code_verifier'))) {
      return { status: 200, body: { error: 'bad_verification_code' } };
    }
    if (refreshToken !== null) {
      if (!live.delete(refreshToken)) return { status: 200, body: { error: 'bad_refresh_token' } };
      github.redeemed++;
    }
    const name = `${live.size}-${github.redeemed}`;
    live.set(`refresh-${name}`, `access-${name}`);
    const pair = { access_token: `access-${name}`, refresh_token: `refresh-${name}` };
    return {
      status: 200,
      body: { ...pair, token_type: 'bearer', expires_in: 28_800, refresh_token_expires_in: 15_897_600 },
    };
  };
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const github: GitHubOverHttp = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    code,
    redeemed: 0,
    async close() {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
  return github;
}

/**
 * A module for `node --import`. Requests to GitHub go to the server of the environment variable GITHUB_OVER_HTTP, as by
 * an entry of /etc/hosts. The programs stay as the documents have them.
 */
export const rerouteGitHub = `
const send = globalThis.fetch;
globalThis.fetch = (url, init) => {
  const { hostname, pathname } = new URL(url);
  return send(/(^|\\.)github\\.com$/.test(hostname) ? process.env.GITHUB_OVER_HTTP + pathname : url, init);
};`;
