import { inspect } from 'node:util';

import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';

import { loadSodium } from '../../src/sealing/sodium.js';
import { TokensConfigurationError } from '../../src/tokens.errors.js';
import { readTokensOptions } from '../../src/tokens.options.js';
import { FUZZ } from './fuzz.js';

await loadSodium();

/** Texts that no message and no print may contain. */
const SECRET = 'SECRET-of-a-client';
const KEY = Buffer.from('SECRET-key-of-32-bytes-SECRET-xx').toString('base64');

const CLIENT = { clientId: 'client', clientSecret: SECRET };
const VALID = {
  encryption: { keys: [{ id: 'k', secret: KEY }] },
  identityProviders: {
    github: { ...CLIENT },
    'github-enterprise': { ...CLIENT, kind: 'github', baseUrl: 'https://ghe.example' },
    acme: {
      ...CLIENT,
      tokenEndpoint: 'https://idp.example/token',
      revocationEndpoint: 'https://idp.example/revoke',
      introspectionEndpoint: 'https://idp.example/introspect',
      clientAuthentication: 'client_secret_jwt',
      clientAssertion: { audience: 'https://idp.example' },
      requestFormat: 'json',
      refreshParameters: { audience: 'x' },
      terminalErrorCodes: ['invalid_request', 'http_400'],
      assumedLifetimeSeconds: 7200,
      readAnswer: (fields: Record<string, unknown>) => fields,
      scope: 'read',
      policy: { leaseMs: 40_000, exchangeTimeoutMs: 10_000, replayWindowMs: 0, takeoverDelayMs: 0 },
    },
  },
  keycloak: { serverUrl: 'https://kc.example', realm: 'r', clientId: 'c', clientSecret: SECRET },
  refresh: { leewaySeconds: 60, waitTimeoutMs: 1000 },
  preparedStatements: false,
  connectionTimeoutMs: 100,
};

/** The paths of all values of the options, the groups included. */
function pathsOf(value: unknown, path: readonly string[] = []): string[][] {
  if (typeof value !== 'object' || value === null) return [[...path]];
  return [[...path], ...Object.entries(value).flatMap(([name, inner]) => pathsOf(inner, [...path, name]))];
}

function isFunction(value: unknown): value is object {
  return typeof value === 'function';
}

/** Returns a copy of the options in which one value is replaced. */
function replaced(value: unknown, [name, ...rest]: readonly string[], replacement: unknown): unknown {
  if (name === undefined) return replacement;
  const copy = Array.isArray(value) ? [...(value as unknown[])] : { ...(value as object) };
  Reflect.set(copy, name, replaced(Reflect.get(copy, name), rest, replacement));
  return copy;
}

const nonsense = fc.oneof(
  fc.anything({ withBigInt: true, withDate: true, withMap: true, withNullPrototype: true, withTypedArray: true }),
  fc.constantFrom(
    SECRET,
    KEY,
    `${KEY} `,
    [SECRET],
    { [SECRET]: SECRET },
    () => SECRET,
    Symbol(SECRET),
    new Map(),
    -1,
    NaN,
  ),
);

/** Reads the options. Returns what they printed, or the message of the only error that they may throw. */
function read(options: unknown): string {
  try {
    return inspect(readTokensOptions(options), { depth: 9, showHidden: true });
  } catch (error) {
    if (error instanceof TokensConfigurationError) return error.message;
    throw error;
  }
}

describe('The options', () => {
  it('are valid as this suite has them', () => {
    expect(readTokensOptions(VALID).identityProviders.size).toBe(3);
  });

  it('are read or refused by one typed error when any value of them is replaced by anything', () => {
    const path = fc.constantFrom(...pathsOf(VALID));
    fc.assert(
      fc.property(path, nonsense, (at, replacement) => {
        if (isFunction(replacement)) return;
        const text = read(replaced(VALID, at, replacement));
        expect(text.startsWith('The options of TokensModule are wrong:\n- ') || text.includes('keyring')).toBe(true);
      }),
      FUZZ,
    );
  });

  it('repeat no value in a fault, and print no secret', () => {
    const path = fc.constantFrom(...pathsOf(VALID));
    const secrets = fc.constantFrom<unknown>(
      SECRET,
      KEY,
      [SECRET],
      { key: SECRET },
      `${SECRET}\n`,
      Buffer.from(SECRET),
    );
    fc.assert(
      fc.property(path, secrets, (at, secret) => {
        const text = read(replaced(VALID, at, secret));
        // What is accepted prints with its names and URLs.
        const isPrinted = !text.startsWith('The options') && !at.some((name) => /secret|assertion|key$/i.test(name));
        if (!isPrinted) expect(text).not.toMatch(/SECRET|U0VDUkVU/);
      }),
      FUZZ,
    );
  });

  it('are refused by one typed error when they are anything', () => {
    fc.assert(
      fc.property(nonsense, (options) => {
        expect(read(options)).toMatch(/^The options of TokensModule are wrong:\n- /);
      }),
      FUZZ,
    );
  });
});
