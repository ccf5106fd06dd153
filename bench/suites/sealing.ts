import { randomBytes } from 'node:crypto';

import { CompactEncrypt, compactDecrypt } from 'jose';
import { TokenCipher, type SealingKeyOptions } from 'nestjs-idp-tokens';

import { startModule } from '../rivals/module.js';
import type { BenchServer } from '../support/database.js';
import { type Spread, spreadOf } from '../support/statistics.js';
import { accessTokenOf, IDP, userId } from '../support/users.js';

const ROUNDS = 7;
const CALLS = 5000;

/** The time of one call in microseconds, by the form of the text. */
export interface SealingTimes {
  readonly form: string;
  readonly sealUs: Spread;
  readonly openUs: Spread;
  /** Length of the text for a token of GitHub's length. */
  readonly characters: number;
}

interface Form {
  readonly form: string;
  readonly seal: () => unknown;
  readonly open: (sealed: string) => unknown;
}

/** Measures how long one core takes to seal and to open a token, one call after the other. */
export async function measureSealing(server: BenchServer): Promise<SealingTimes[]> {
  const url = await server.createDatabase('sealing');
  const fast = await cipherOf(url, 'xchacha20-poly1305');
  const fips = await cipherOf(url, 'aes-256-gcm');
  const forms = [fast.form, fips.form, jwe()];
  const sealed = await Promise.all(forms.map(async ({ seal }) => String(await seal())));
  const times = forms.map(() => ({ seal: [] as number[], open: [] as number[] }));
  for (let round = 0; round < ROUNDS; round++) {
    for (const [index, { seal, open }] of forms.entries()) {
      const text = sealed[index] ?? '';
      times[index]?.seal.push(await microseconds(seal));
      times[index]?.open.push(await microseconds(() => open(text)));
    }
  }
  await Promise.all([fast.close(), fips.close()]);
  return forms.map(({ form }, index) => ({
    form,
    sealUs: spreadOf(times[index]?.seal ?? []),
    openUs: spreadOf(times[index]?.open ?? []),
    characters: sealed[index]?.length ?? 0,
  }));
}

async function cipherOf(url: string, algorithm: NonNullable<SealingKeyOptions['algorithm']>) {
  const secret = randomBytes(32).toString('base64');
  const { app } = await startModule(url, { encryption: { keys: [{ id: 'bench', secret, algorithm }] } });
  const cipher = app.get(TokenCipher);
  const place = { table: 'auth_tokens', column: 'access_token', keycloakUserId: userId(1), idp: IDP };
  const form: Form = {
    form: `sealed, ${algorithm}`,
    seal: () => cipher.seal(accessTokenOf(1), place),
    open: (sealed) => cipher.open(sealed, place),
  };
  return { form, close: () => app.close() };
}

/** Returns the form of JWE with a shared key, as `jose` makes it. It binds the text to no place. */
function jwe(): Form {
  const key = randomBytes(32);
  const plaintext = new TextEncoder().encode(accessTokenOf(1));
  return {
    form: 'JWE, dir and A256GCM',
    seal: () => new CompactEncrypt(plaintext).setProtectedHeader({ alg: 'dir', enc: 'A256GCM' }).encrypt(key),
    open: async (sealed) => new TextDecoder().decode((await compactDecrypt(sealed, key)).plaintext),
  };
}

/** Awaits only what is a promise, because an await costs more than the call of a synchronous cipher. */
async function microseconds(call: () => unknown): Promise<number> {
  const startedAt = performance.now();
  for (let index = 0; index < CALLS; index++) {
    const result = call();
    if (result instanceof Promise) await result;
  }
  return ((performance.now() - startedAt) * 1000) / CALLS;
}
