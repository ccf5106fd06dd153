import { createHash } from 'node:crypto';

/** The provider of every row. */
export const IDP = 'github';

const userIds: string[] = [];

/** Id of the n-th user, as long as a Keycloak id. Made once: a rival's time is not to be spent on it. */
export function userId(n: number): string {
  return (userIds[n] ??= `5f0c2d9e-0000-4000-8000-${String(n).padStart(12, '0')}`);
}

/** Access token of the n-th user, of the length and alphabet of GitHub's. */
export function accessTokenOf(n: number): string {
  return `ghu_${createHash('sha256').update(`access ${n}`).digest('base64url').slice(0, 36)}`;
}

/** Refresh token of the n-th user, of the length and alphabet of GitHub's. */
export function refreshTokenOf(n: number): string {
  const digest = createHash('sha512').update(`refresh ${n}`).digest('base64url');
  return `ghr_${digest.slice(0, 72)}`;
}

/** Source of random users that is the same in every run (mulberry32). */
export function randomUsers(count: number, seed = 1): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % count;
  };
}
