import type { SealingKeyOptions } from './encryption.options.js';
import type { TokenLocation } from './sealed-token.js';

/** The format of sealed texts. It is authenticated with each text. */
export const FORMAT = 'v1';

/** One key of the key ring with its algorithm: it seals plaintexts and opens what it sealed. Synchronous. */
export interface SealingKey {
  readonly id: string;
  readonly algorithm: NonNullable<SealingKeyOptions['algorithm']>;

  /** Returns the base64url of nonce, ciphertext and tag. */
  seal(plaintext: string, location: TokenLocation): string;

  /** Returns the plaintext, or undefined if the body was altered or cut, or sealed with another key or for another place. */
  open(body: string, location: TokenLocation): string | undefined;
}

/**
 * The fields that are authenticated with a text: where it is, and which key sealed it. The default account adds no
 * field, so that the texts open that were sealed before there were accounts.
 */
export function authenticatedFields(keyId: string, location: TokenLocation): string[] {
  const { table, column, keycloakUserId, idp, account } = location;
  const fields = [FORMAT, keyId, table, column, keycloakUserId, idp];
  if (account) fields.push(account);
  return fields;
}
