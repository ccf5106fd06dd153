/**
 * Joins texts to bytes so that no two lists of texts give the same ones: each is preceded by its length in 4 bytes. The
 * memory is used again, because a buffer for each sealed text costs more than filling it.
 */
export class FieldBytes {
  readonly #head: Uint8Array;
  readonly #tail: Uint8Array;
  #bytes: Buffer;

  /**
   * @param head what stands before the fields
   * @param tail what stands behind them
   */
  constructor(head = new Uint8Array(), tail = new Uint8Array()) {
    this.#head = head;
    this.#tail = tail;
    this.#bytes = Buffer.concat([head], 2048);
  }

  /** The bytes of these fields, until the next call writes over them. */
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

/** Writes UTF-8 and returns its length. Ids are ASCII and short, and then the loop is cheaper than a call into C++. */
function writeText(bytes: Buffer, text: string, position: number): number {
  for (let index = 0; index < text.length; index++) {
    const code = text.charCodeAt(index);
    if (code > 0x7f) return bytes.write(text, position, 'utf8');
    bytes[position + index] = code;
  }
  return text.length;
}
