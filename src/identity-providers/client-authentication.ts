import { createPrivateKey, type JsonWebKey, type KeyObject, webcrypto } from 'node:crypto';

import * as oauth from 'oauth4webapi';

import { basicAuthorization } from '../oauth-http/authorization.js';

/**
 * How an application authenticates at a token endpoint. `client_secret_basic` form-encodes both halves of the
 * credentials, as RFC 6749 section 2.3.1 demands. `client_secret_basic_unencoded` does not, for servers that do not
 * decode them, such as Doorkeeper. With `none` the module sends the client id alone.
 *
 * @see RFC 6749 section 2.3.1, OpenID Connect Core 1.0 section 9, RFC 7523 section 2.2
 */
export type ClientAuthentication = (typeof CLIENT_AUTHENTICATIONS)[number];

export const CLIENT_AUTHENTICATIONS = [
  'client_secret_basic',
  'client_secret_basic_unencoded',
  'client_secret_post',
  'client_secret_jwt',
  'private_key_jwt',
  'none',
] as const;

/** The algorithms of a signed client assertion. */
export type ClientAssertionAlgorithm = keyof typeof SIGNATURES;

/** The JWT by which an application authenticates, for `client_secret_jwt` and `private_key_jwt`. */
export interface ClientAssertionOptions {
  /** The private key of `private_key_jwt`: a PEM text, or a JWK as an object. */
  readonly key?: string | JsonWebKey | undefined;
  /** The algorithm of `private_key_jwt`. */
  readonly algorithm?: ClientAssertionAlgorithm | undefined;
  /** The id by which the provider finds the public key, `kid` in the header of the JWT. */
  readonly keyId?: string | undefined;
  /** The base64url of the SHA-256 of the client's certificate, `x5t#S256` in the header of the JWT. Entra needs it. */
  readonly certificateThumbprint?: string | undefined;
  /** The audience of the JWT, `aud`. Default: the endpoint that the request goes to. */
  readonly audience?: string | undefined;
}

/** What a client needs to authenticate. */
export interface ClientCredentials {
  readonly clientId: string;
  /** Absent for `none` and `private_key_jwt`. */
  readonly clientSecret?: string | undefined;
  readonly clientAuthentication: ClientAuthentication;
  readonly clientAssertion?: ClientAssertionOptions | undefined;
}

/** Adds the credentials of the client to the parameters or to the headers of a request to an endpoint. */
export type AuthenticateClient = (
  endpoint: string,
  parameters: URLSearchParams,
  headers: Headers,
) => void | Promise<void>;

const SIGNATURES = {
  ES256: { keyType: 'ec', import: { name: 'ECDSA', namedCurve: 'P-256' } },
  RS256: { keyType: 'rsa', import: { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' } },
  PS256: { keyType: 'rsa', import: { name: 'RSA-PSS', hash: 'SHA-256' } },
} as const;

/** The smallest RSA key in bits. @see RFC 7518 section 3.3 */
const MIN_RSA_BITS = 2048;

/** Whether this client authentication uses `clientSecret`. */
export function needsClientSecret(clientAuthentication: ClientAuthentication | undefined): boolean {
  return clientAuthentication !== 'none' && clientAuthentication !== 'private_key_jwt';
}

/** Returns what is wrong with the assertion of a client, one sentence for each fault, without a part of the key. */
export function clientAssertionFaults({
  clientAuthentication,
  clientAssertion,
}: Pick<Partial<ClientCredentials>, 'clientAuthentication' | 'clientAssertion'>): string[] {
  const given: unknown = clientAssertion;
  if (clientAuthentication !== 'private_key_jwt' && clientAuthentication !== 'client_secret_jwt') {
    return given === undefined
      ? []
      : ['clientAssertion is only for clientAuthentication client_secret_jwt and private_key_jwt'];
  }
  if (given !== undefined && (typeof given !== 'object' || given === null || Array.isArray(given))) {
    return ['clientAssertion must be an object'];
  }
  const { key, algorithm, keyId, certificateThumbprint, audience, ...others } = { ...given } as Partial<
    Record<string, unknown>
  >;
  const faults = Object.keys(others).map((name) => `clientAssertion.${name} is not an option`);
  for (const [name, value] of Object.entries({ keyId, certificateThumbprint, audience })) {
    if (value !== undefined && (typeof value !== 'string' || value === '')) {
      faults.push(`clientAssertion.${name} must be a non-empty string`);
    }
  }
  if (clientAuthentication === 'client_secret_jwt') {
    if (key === undefined && algorithm === undefined) return faults;
    return [
      ...faults,
      'clientAssertion.key and clientAssertion.algorithm are only for clientAuthentication private_key_jwt',
    ];
  }
  if (!isAlgorithm(algorithm)) {
    return [...faults, `clientAssertion.algorithm must be one of: ${Object.keys(SIGNATURES).join(', ')}`];
  }
  return [...faults, ...keyFaults(key, algorithm)];
}

/** Returns the function that adds the credentials of a client, whose options {@link clientAssertionFaults} accepts. */
export function authenticatorOf(credentials: ClientCredentials): AuthenticateClient {
  const { clientId, clientSecret = '', clientAuthentication, clientAssertion = {} } = credentials;
  switch (clientAuthentication) {
    case 'client_secret_basic':
      return (_endpoint, _parameters, headers) => {
        headers.set('authorization', basicAuthorization(formEncode(clientId), formEncode(clientSecret)));
      };
    case 'client_secret_basic_unencoded':
      return (_endpoint, _parameters, headers) => {
        headers.set('authorization', basicAuthorization(clientId, clientSecret));
      };
    case 'client_secret_post':
      return (_endpoint, parameters) => {
        parameters.set('client_id', clientId);
        parameters.set('client_secret', clientSecret);
      };
    case 'none':
      return (_endpoint, parameters) => {
        parameters.set('client_id', clientId);
      };
    case 'client_secret_jwt':
      return byAssertion(clientId, clientAssertion, (options) => oauth.ClientSecretJwt(clientSecret, options));
    case 'private_key_jwt': {
      let key: Promise<webcrypto.CryptoKey> | undefined;
      return async (...request) => {
        key ??= importKey(clientAssertion);
        const privateKey = await key;
        return byAssertion(clientId, clientAssertion, (options) => oauth.PrivateKeyJwt(privateKey, options))(
          ...request,
        );
      };
    }
  }
}

/** oauth4webapi names the issuer as the audience. The module knows the endpoint, which RFC 7523 section 3 allows. */
function byAssertion(
  clientId: string,
  { audience, keyId, certificateThumbprint }: ClientAssertionOptions,
  authentication: (options: oauth.ModifyAssertionOptions) => oauth.ClientAuth,
): AuthenticateClient {
  return (endpoint, parameters, headers) => {
    const authenticate = authentication({
      [oauth.modifyAssertion]: (header, payload) => {
        payload.aud = audience ?? endpoint;
        if (keyId !== undefined) header.kid = keyId;
        if (certificateThumbprint !== undefined) header['x5t#S256'] = certificateThumbprint;
      },
    });
    return authenticate({ issuer: endpoint }, { client_id: clientId }, parameters, headers);
  };
}

function importKey({ key, algorithm = 'RS256' }: ClientAssertionOptions): Promise<webcrypto.CryptoKey> {
  const der = privateKeyOf(key).export({ type: 'pkcs8', format: 'der' });
  return webcrypto.subtle.importKey('pkcs8', der, SIGNATURES[algorithm].import, false, ['sign']);
}

function keyFaults(key: unknown, algorithm: ClientAssertionAlgorithm): string[] {
  const { keyType } = SIGNATURES[algorithm];
  let privateKey: KeyObject;
  try {
    privateKey = privateKeyOf(key);
  } catch {
    return ['clientAssertion.key must be a private key that is not encrypted: a PEM text, or a JWK as an object'];
  }
  const { asymmetricKeyType, asymmetricKeyDetails: { namedCurve, modulusLength = 0 } = {} } = privateKey;
  if (asymmetricKeyType !== keyType)
    return [`clientAssertion.key must be a key of the type "${keyType}" for ${algorithm}`];
  if (keyType === 'ec' && namedCurve !== 'prime256v1') {
    return [`clientAssertion.key must have the curve P-256 for ${algorithm}`];
  }
  if (keyType === 'rsa' && modulusLength < MIN_RSA_BITS) {
    return [`clientAssertion.key must have at least ${MIN_RSA_BITS} bits for ${algorithm}`];
  }
  return [];
}

function privateKeyOf(key: unknown): KeyObject {
  if (typeof key === 'string') return createPrivateKey(key);
  return createPrivateKey({ key: key as JsonWebKey, format: 'jwk' });
}

function isAlgorithm(value: unknown): value is ClientAssertionAlgorithm {
  return typeof value === 'string' && Object.hasOwn(SIGNATURES, value);
}

/** Form-encodes one half of the credentials, as RFC 6749 section 2.3.1 demands before the halves are joined. */
function formEncode(value: string): string {
  return new URLSearchParams({ '': value }).toString().slice(1);
}
