import { createDecipheriv, createHmac, timingSafeEqual } from 'node:crypto';

const HEADER_BYTES = 1 + 8 + 16;
const MAC_BYTES = 32;
const BLOCK_BYTES = 16;

/**
 * Opens a Fernet text (AES-128-CBC, then HMAC-SHA256) with a 32-byte key. The first half of the key authenticates, and
 * the second half decrypts. The function does not check the time stamp in the text, because a stored text does not
 * expire.
 *
 * @returns the plaintext, or `undefined` if the text is no Fernet text or another key made it
 * @see https://github.com/fernet/spec/blob/master/Spec.md
 */
export function openFernet(text: string, key: Buffer): string | undefined {
  if (!/^gAAAA[A-Za-z0-9_-]+={0,2}$/.test(text)) return undefined;
  const bytes = Buffer.from(text, 'base64url');
  const cipherBytes = bytes.length - HEADER_BYTES - MAC_BYTES;
  if (cipherBytes < BLOCK_BYTES || cipherBytes % BLOCK_BYTES !== 0) return undefined;

  const signed = bytes.subarray(0, -MAC_BYTES);
  const mac = createHmac('sha256', key.subarray(0, 16)).update(signed).digest();
  if (!timingSafeEqual(mac, bytes.subarray(-MAC_BYTES))) return undefined;

  const decipher = createDecipheriv('aes-128-cbc', key.subarray(16), signed.subarray(9, HEADER_BYTES));
  try {
    return Buffer.concat([decipher.update(signed.subarray(HEADER_BYTES)), decipher.final()]).toString('utf8');
  } catch {
    return undefined; // the padding is wrong, so no Fernet implementation made this authentic text
  }
}
