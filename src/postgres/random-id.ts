import { randomBytes } from '../random-bytes.js';

/** Returns 63 random bits in decimal, as a positive bigint of PostgreSQL. Versions and leases have such ids. */
export function randomId(): string {
  return (randomBytes(8).readBigUInt64BE() >> 1n).toString();
}
