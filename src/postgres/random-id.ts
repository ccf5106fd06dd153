import { randomFillSync } from 'node:crypto';

const pool = Buffer.allocUnsafeSlow(1024);
let used = pool.length;

/**
 * Bytes of the system's secure random generator, drawn ahead: a draw costs 1.5 µs whatever its size. They stay as they
 * are until 1 KiB more has been drawn, so use or copy them at once.
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

/** 63 random bits in decimal, as a positive bigint of PostgreSQL: for versions and leases. */
export function randomId(): string {
  return (randomBytes(8).readBigUInt64BE() >> 1n).toString();
}
