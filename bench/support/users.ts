import { createHash } from 'node:crypto';

/** The provider of every row. */
export const IDP = 'github';

const userIds: string[] = [];

/**
 * Returns the id of the n-th user, which is as long as an id of Keycloak. It makes each id once, so that a rival does
 * not spend measured time on it.
 */
export function userId(n: number): string {
  return (userIds[n] ??= `5f0c2d9e-0000-4000-8000-${String(n).padStart(12, '0')}`);
}

/** Returns the access token of the n-th user. It has the length and the alphabet of GitHub's access tokens. */
export function accessTokenOf(n: number): string {
  return `ghu_${createHash('sha256').update(`access ${n}`).digest('base64url').slice(0, 36)}`;
}

/** Returns the refresh token of the n-th user. It has the length and the alphabet of GitHub's refresh tokens. */
export function refreshTokenOf(n: number): string {
  const digest = createHash('sha512').update(`refresh ${n}`).digest('base64url');
  return `ghr_${digest.slice(0, 72)}`;
}

/** Returns a source of random users (mulberry32). It gives the same users in every run. */
export function randomUsers(count: number, seed = 1): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % count;
  };
}
