import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';

import { exportJWK, generateKeyPair, type JWTPayload, SignJWT } from 'jose';

/** One request to the token endpoint. */
export interface SeenExchange {
  readonly form: URLSearchParams;
  readonly authorization: string | undefined;
}

interface Authorization {
  readonly parameters: URLSearchParams;
  readonly subject: string;
}

/** Answers a request in the place of the provider. */
export type Answer = (response: ServerResponse) => void;

type Keys = Awaited<ReturnType<typeof generateKeyPair>>;

/**
 * An authorization server over real HTTP, whose users consent without a page. It checks the code, the redirect URI and
 * PKCE as RFC 6749 and RFC 7636 demand. A test can change what it answers.
 */
export class CodeFlowProvider {
  readonly client = { clientId: 'client-of-host', clientSecret: 'secret-of-client' };
  /** The requests to the token endpoint. */
  readonly exchanges: SeenExchange[] = [];
  /** The tokens that were revoked. */
  readonly revoked: string[] = [];
  /** The pushed authorization requests. */
  readonly pushed: URLSearchParams[] = [];
  /** The requests by their paths. */
  readonly paths: string[] = [];
  /** The issued access tokens, and the subjects of their accounts. */
  readonly subjects = new Map<string, string>();
  /** Changes the metadata. */
  metadata: (metadata: Record<string, unknown>) => Record<string, unknown> = (metadata) => metadata;
  /** Changes the fields of the token answer. */
  tokens: (fields: Record<string, unknown>) => Record<string, unknown> = (fields) => fields;
  /** Changes the claims of the ID token. */
  claims: (claims: JWTPayload) => JWTPayload = (claims) => claims;
  /** Answers the requests to a path in the place of the provider. */
  readonly instead = new Map<string, Answer>();
  readonly #codes = new Map<string, Authorization>();
  readonly #requests = new Map<string, URLSearchParams>();
  readonly #server = createServer((request, response) => void this.#serve(request, response));
  /** By which it signs ID tokens. */
  signingKeys: Keys;
  readonly #publishedKeys: Keys;
  #issued = 0;

  private constructor(keys: Keys) {
    this.signingKeys = keys;
    this.#publishedKeys = keys;
  }

  static async start(): Promise<CodeFlowProvider> {
    const provider = new CodeFlowProvider(await generateKeyPair('ES256'));
    provider.#server.listen(0, '127.0.0.1');
    await once(provider.#server, 'listening');
    return provider;
  }

  get issuer(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** The number of code exchanges. */
  get exchangeCount(): number {
    return this.exchanges.length;
  }

  /** Logs a user in at an authorization URL, and returns the URL to which the browser is sent back. */
  authorize(authorizationUrl: string, subject: string): URL {
    const asked = new URL(authorizationUrl).searchParams;
    const parameters = this.#requests.get(asked.get('request_uri') ?? '') ?? asked;
    const code = randomBytes(16).toString('base64url');
    this.#codes.set(code, { parameters, subject });
    return this.#back(parameters, { code });
  }

  /** Refuses an authorization request, and returns the URL to which the browser is sent back. */
  refuse(authorizationUrl: string, error: string, description?: string): URL {
    const { searchParams } = new URL(authorizationUrl);
    return this.#back(searchParams, { error, ...(description !== undefined && { error_description: description }) });
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, 'close');
  }

  #back(parameters: URLSearchParams, answer: Record<string, string>): URL {
    const url = new URL(parameters.get('redirect_uri') ?? '');
    const all = { ...answer, state: parameters.get('state') ?? '', iss: this.issuer };
    for (const [name, value] of Object.entries(all)) url.searchParams.set(name, value);
    return url;
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = request.url ?? '';
    const form = new URLSearchParams(await text(request));
    this.paths.push(path);
    const instead = this.instead.get(path);
    if (path === '/token') this.exchanges.push({ form, authorization: request.headers.authorization });
    if (instead) {
      instead(response);
      return;
    }
    switch (path) {
      case '/.well-known/openid-configuration':
        json(response, 200, this.#metadata());
        return;
      case '/jwks':
        json(response, 200, {
          keys: [{ ...(await exportJWK(this.#publishedKeys.publicKey)), kid: 'k', alg: 'ES256' }],
        });
        return;
      case '/par': {
        this.pushed.push(form);
        const uri = `urn:ietf:params:oauth:request_uri:${randomBytes(8).toString('hex')}`;
        this.#requests.set(uri, form);
        json(response, 201, { request_uri: uri, expires_in: 60 });
        return;
      }
      case '/token':
        await this.#token(form, response);
        return;
      case '/revoke':
        this.revoked.push(form.get('token') ?? '');
        json(response, 200, {});
        return;
      case '/user': {
        const subject = this.subjects.get(request.headers.authorization?.slice('Bearer '.length) ?? '');
        json(response, subject === undefined ? 401 : 200, { id: subject, login: `${subject ?? ''}-login` });
        return;
      }
      default:
        json(response, 404, {});
    }
  }

  #metadata(): Record<string, unknown> {
    const { issuer } = this;
    return this.metadata({
      issuer,
      authorization_endpoint: `${issuer}/authorize`,
      token_endpoint: `${issuer}/token`,
      revocation_endpoint: `${issuer}/revoke`,
      jwks_uri: `${issuer}/jwks`,
      authorization_response_iss_parameter_supported: true,
      id_token_signing_alg_values_supported: ['ES256'],
    });
  }

  async #token(form: URLSearchParams, response: ServerResponse): Promise<void> {
    const code = form.get('code') ?? '';
    const authorization = this.#codes.get(code);
    this.#codes.delete(code);
    const challenge = createHash('sha256')
      .update(form.get('code_verifier') ?? '')
      .digest('base64url');
    const isGood =
      form.get('grant_type') === 'authorization_code' &&
      authorization?.parameters.get('redirect_uri') === form.get('redirect_uri') &&
      authorization.parameters.get('code_challenge') === challenge;
    if (!authorization || !isGood) {
      json(response, 400, { error: 'invalid_grant', error_description: '<script>alert("code")</script>' });
      return;
    }
    const { parameters, subject } = authorization;
    const number = ++this.#issued;
    const accessToken = `access-of-${subject}-${number}`;
    this.subjects.set(accessToken, subject);
    const nonce = parameters.get('nonce');
    const fields = {
      access_token: accessToken,
      refresh_token: `refresh-of-${subject}-${number}`,
      token_type: 'Bearer',
      expires_in: 3600,
      scope: parameters.get('scope') ?? undefined,
      ...(nonce !== null && { id_token: await this.#idToken({ sub: subject, nonce, name: `${subject} of test` }) }),
    };
    json(response, 200, this.tokens(fields));
  }

  #idToken(claims: JWTPayload): Promise<string> {
    const now = Math.floor(Date.now() / 1000);
    const times = { iss: this.issuer, aud: this.client.clientId, iat: now, exp: now + 600 };
    return new SignJWT(this.claims({ ...times, ...claims }))
      .setProtectedHeader({ alg: 'ES256', kid: 'k' })
      .sign(this.signingKeys.privateKey);
  }
}

function json(response: ServerResponse, status: number, body: object): void {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(JSON.stringify(body));
}
