/** Returns the number of bytes that {@link writeFields} needs for these texts at most. */
export function mostBytesOf(fields: readonly string[]): number {
  let most = 0;
  for (const { length } of fields) most += 4 + 3 * length;
  return most;
}

/**
 * Writes texts into a buffer, each with its length in 4 bytes before it. Two different lists of texts never give the same
 * bytes.
 *
 * @returns the position after the last byte
 */
export function writeFields(bytes: Buffer, position: number, fields: readonly string[]): number {
  let end = position;
  for (const field of fields) {
    const length = writeText(bytes, field, end + 4);
    bytes.writeUInt32BE(length, end);
    end += 4 + length;
  }
  return end;
}

/**
 * Writes UTF-8 and returns its length in bytes. Ids are short and mostly ASCII. For these the loop costs less than a
 * call into C++.
 */
function writeText(bytes: Buffer, text: string, position: number): number {
  for (let index = 0; index < text.length; index++) {
    const code = text.charCodeAt(index);
    if (code > 0x7f) return bytes.write(text, position, 'utf8');
    bytes[position + index] = code;
  }
  return text.length;
}
