import { describe, expect, it } from '@jest/globals';

import { endingSessionCookie, sessionCookie } from '../examples/session/session-cookie.js';

describe('The session cookie of the demo', () => {
  it('is Secure if browsers reach the application by https, and only then', () => {
    const common = 'Path=/; HttpOnly; SameSite=Lax';
    expect(sessionCookie('token', 900, 'https://app.example')).toBe(`session=token; ${common}; Secure; Max-Age=900`);
    expect(endingSessionCookie('https://app.example')).toBe(`session=; ${common}; Secure; Max-Age=0`);
    expect(sessionCookie('token', 900, 'http://localhost:3000')).toBe(`session=token; ${common}; Max-Age=900`);
    expect(endingSessionCookie('http://localhost:3000')).toBe(`session=; ${common}; Max-Age=0`);
  });
});
