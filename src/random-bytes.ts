import { randomFillSync } from 'node:crypto';

const pool = Buffer.allocUnsafeSlow(1024);
let used = pool.length;

/**
 * Returns bytes of the system's secure random generator. It draws 1 KiB at a time, because each draw costs 1.5 µs
 * whatever its size. The next call can overwrite the bytes, so use or copy them at once.
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
