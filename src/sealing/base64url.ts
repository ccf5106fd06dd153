/** The last characters after which no unused bit is set, of texts that end with two or three characters of a group. */
const ENDS_OF_TWO = 'AQgw';
const ENDS_OF_THREE = 'AEIMQUYcgkosw048';

/**
 * Decodes base64url into a buffer. Node also accepts base64, padding, and unused bits that are not zero, and it ignores
 * other characters. This function refuses all of them, because otherwise an altered text would open.
 *
 * @returns the number of bytes, or -1 if the text is not the one spelling of its bytes
 * @see RFC 4648 sections 3.5 and 5
 */
export function decodeBase64url(text: string, bytes: Buffer, position: number): number {
  // Node takes the low byte of each character, so the letter ł counts as B.
  if (Buffer.byteLength(text) !== text.length) return -1;
  const rest = text.length % 4;
  if (rest === 1 || text.includes('+') || text.includes('/')) return -1;
  if (rest > 0 && !(rest === 2 ? ENDS_OF_TWO : ENDS_OF_THREE).includes(text.charAt(text.length - 1))) return -1;
  const length = bytes.write(text, position, 'base64url');
  return length === Math.floor((text.length * 3) / 4) ? length : -1;
}
