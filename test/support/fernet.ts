import { createCipheriv, createHash, createHmac, randomBytes } from 'node:crypto';

/** Seals a text by Fernet, as the adopted system does, with the SHA-256 digest of a secret as the key. */
export function fernet(plaintext: string, secret: string): string {
  const key = createHash('sha256').update(secret).digest();
  const iv = randomBytes(16);
  const cipher = createCipheriv('aes-128-cbc', key.subarray(16), iv);
  const head = Buffer.concat([
    Buffer.of(0x80, 0, 0, 0, 0, 0x67, 1, 2, 3),
    iv,
    cipher.update(plaintext),
    cipher.final(),
  ]);
  const mac = createHmac('sha256', key.subarray(0, 16)).update(head).digest();
  return Buffer.concat([head, mac]).toString('base64').replaceAll('+', '-').replaceAll('/', '_');
}
