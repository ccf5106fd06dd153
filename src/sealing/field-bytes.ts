/**
 * Joins texts to bytes. Each text has its length in 4 bytes before it, so two different lists of texts never give the
 * same bytes. All calls use the same memory, because a new buffer for each sealed text costs more than to fill it.
 */
export class FieldBytes {
  readonly #head: Uint8Array;
  readonly #tail: Uint8Array;
  #bytes: Buffer;

  /**
   * @param head the bytes before the fields
   * @param tail the bytes after the fields
   */
  constructor(head = new Uint8Array(), tail = new Uint8Array()) {
    this.#head = head;
    this.#tail = tail;
    this.#bytes = Buffer.concat([head], 2048);
  }

  /** Returns the bytes of these fields. The next call overwrites them. */
  of(...fields: string[]): Buffer {
    let mostBytes = this.#head.length + this.#tail.length;
    for (const { length } of fields) mostBytes += 4 + 3 * length;
    if (mostBytes > this.#bytes.length) this.#bytes = Buffer.concat([this.#head], mostBytes);

    const bytes = this.#bytes;
    let end = this.#head.length;
    for (const field of fields) {
      const length = writeText(bytes, field, end + 4);
      bytes.writeUInt32BE(length, end);
      end += 4 + length;
    }
    bytes.set(this.#tail, end);
    return bytes.subarray(0, end + this.#tail.length);
  }
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
