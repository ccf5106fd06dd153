import { randomFillSync } from 'node:crypto';

const pool = Buffer.allocUnsafeSlow(1024);
let used = pool.length;

/**
 * Returns bytes of the system's secure random generator. The module draws 1 KiB ahead, because a draw of any size takes
 * 1.5 µs. Later calls can overwrite the bytes, so use or copy them at once.
 */
export function randomBytes(size: number): Buffer {
  if (used + size > pool.length) {
    randomFillSync(pool);
    used = 0;
  }
  const bytes = pool.subarray(used, used + size);
  used += size;
  return bytes;
}

/** Returns 63 random bits in decimal, which fit a bigint of PostgreSQL, for token versions and lease ids. */
export function randomId(): string {
  return (randomBytes(8).readBigUInt64BE() >> 1n).toString();
}
