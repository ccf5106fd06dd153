import { execFile, spawnSync } from 'node:child_process';
import { promisify } from 'node:util';

import { describe, expect, it } from '@jest/globals';
import { Test } from '@nestjs/testing';
import { TypeOrmModule } from '@nestjs/typeorm';

import { TokenCipher, TokensConfigurationError, tokensEntities, TokensModule } from '../src/index.js';
import { encryptionFaults } from '../src/sealing/encryption-faults.js';
import { newKey } from './support/tokens-app.js';

const PROGRAM = `
  import { loadTokensSettings } from ${JSON.stringify(new URL('../dist/tokens.options.js', import.meta.url).href)};
  import { TokenCipher } from ${JSON.stringify(new URL('../dist/index.js', import.meta.url).href)};
  try {
    const { keyring } = await loadTokensSettings({ encryption: { keys: JSON.parse(process.argv[1]) }, identityProviders: {} });
    const place = { table: 'auth_tokens', column: 'access_token', keycloakUserId: 'ada', idp: 'github' };
    const cipher = new TokenCipher(keyring);
    console.log(cipher.open(cipher.seal('it works', place), place));
  } catch (error) {
    console.log(error.code + ': ' + error.message);
  }`;

/** Reads the options in a process with these flags of Node.js, seals a text and opens it. */
async function boot(flags: string[], keys: object[]): Promise<string> {
  const args = [...flags, '--input-type=module', '--eval', PROGRAM, JSON.stringify(keys)];
  const { stdout } = await promisify(execFile)(process.execPath, args);
  return stdout.trim();
}

const key = { id: 'k', secret: newKey() };
const aesKey = { id: 'fips', secret: newKey(), algorithm: 'aes-256-gcm' };

/** Node.js 24 has no `--no-expose-wasm`. Node.js 22 ends a process without WebAssembly that imports `node:http`. */
function runsHttpWith(flag: string): boolean {
  const { status } = spawnSync(process.execPath, [flag, '--input-type=module', '--eval', "import 'node:http';"]);
  if (status === 0) return true;
  process.stdout.write(
    `NOT RUN: ${flag}. Node.js ${process.version} refuses it, or cannot import node:http with it.\n`,
  );
  return false;
}

const flags = ['--jitless', '--no-expose-wasm'].filter(runsHttpWith);
if (flags.length > 0) {
  describe.each(flags)('Without WebAssembly (%s)', (flag) => {
    it('the boot says what to do', async () => {
      await expect(boot([flag], [key])).resolves.toBe(
        'ERR_TOKENS_CONFIGURATION: XChaCha20-Poly1305 needs libsodium, but this runtime has no WebAssembly. ' +
          "Start Node.js without --jitless and --no-expose-wasm, or give every key algorithm: 'aes-256-gcm'.",
      );
    });

    it('a ring of AES keys seals and opens', async () => {
      await expect(boot([flag], [aesKey])).resolves.toBe('it works');
    });

    it('no request can be sent, because fetch of Node.js needs it', async () => {
      const program = `
        const server = require('node:http').createServer((_, response) => response.end()).listen(0, '127.0.0.1', () =>
          fetch('http://127.0.0.1:' + server.address().port)
            .catch(({ cause }) => console.log(String(cause)))
            .finally(() => process.exit()));`;
      const ignored = ['--unhandled-rejections=none', '--eval', program];
      const { stdout } = await promisify(execFile)(process.execPath, [flag, ...ignored]);
      expect(stdout.trim()).toBe('ReferenceError: WebAssembly is not defined');
    });
  });
}

it('with WebAssembly both algorithms seal', async () => {
  await expect(boot([], [key, aesKey])).resolves.toBe('it works');
  await expect(boot([], [aesKey, key])).resolves.toBe('it works');
});

it('in FIPS mode each key needs its algorithm', () => {
  const keys = [
    key,
    aesKey,
    { ...key, id: 'named', algorithm: 'xchacha20-poly1305' },
    { id: 'l', legacyFernetSecret: 'x' },
  ];
  expect(encryptionFaults({ keys }, 'encryption', true)).toEqual([
    "encryption.keys[0] needs algorithm: 'aes-256-gcm', because Node.js runs in FIPS mode",
  ]);
  expect(encryptionFaults({ keys }, 'encryption', false)).toEqual([]);
});

describe('A module by forRootAsync', () => {
  async function compile(keys: object[]): Promise<string> {
    const module = Test.createTestingModule({
      imports: [
        // No connection is under way when a boot fails.
        TypeOrmModule.forRoot({ type: 'postgres', entities: tokensEntities, manualInitialization: true }),
        TokensModule.forRootAsync({
          useFactory: () => ({ encryption: { keys: keys as never }, identityProviders: {} }),
        }),
      ],
    });
    module.setLogger({ log: () => undefined, warn: () => undefined, error: () => undefined });
    const app = await module.compile();
    const cipher = app.get(TokenCipher);
    const place = { table: 'auth_tokens', column: 'access_token', keycloakUserId: 'ada', idp: 'github' };
    const opened = cipher.open(cipher.seal('it works', place), place);
    await app.close();
    return opened;
  }

  it('has libsodium before its first provider is used', async () => {
    await expect(compile([key, aesKey])).resolves.toBe('it works');
  });

  it.each([
    ['another length', { ...key, secret: Buffer.alloc(16).toString('base64') }, /keys\[0\]\.secret must be 32 bytes/],
    ['an unknown algorithm', { ...key, algorithm: 'aes-128-gcm' }, /keys\[0\]\.algorithm must be one of/],
  ])('does not boot with a key of %s', async (_, wrong, message) => {
    const booting = compile([wrong]);
    await expect(booting).rejects.toThrow(TokensConfigurationError);
    await expect(booting).rejects.toThrow(message);
  });
});
