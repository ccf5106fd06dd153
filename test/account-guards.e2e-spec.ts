import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { Controller, Get, type INestApplication, UseFilters, UseGuards } from '@nestjs/common';
import { Test } from '@nestjs/testing';
import request from 'supertest';

import {
  IdpToken,
  IdpTokenGuard,
  InvalidTokenInputError,
  RequireIdpToken,
  TokenManager,
  TokensExceptionFilter,
  TokensUsageError,
} from '../src/index.js';
import { TestTokens, TokensTestingModule } from '../src/testing/index.js';

const chosen = (call: object) => (call as { query: { account?: string } }).query.account;

@Controller()
@UseFilters(TokensExceptionFilter)
@UseGuards(IdpTokenGuard)
class AccountsController {
  @Get('plain')
  @RequireIdpToken('github')
  plain(@IdpToken('github') token: IdpToken): string {
    return `${token.accessToken} ${token.account}`;
  }

  @Get('work')
  @RequireIdpToken({ idp: 'github', account: 'work', scopes: ['public_repo'] })
  work(@IdpToken('github') token: IdpToken): string {
    return `${token.accessToken} ${token.account}`;
  }

  @Get('chosen')
  @RequireIdpToken({ idp: 'github', account: chosen, scopes: 'repo', requireKnownScopes: true })
  chosen(@IdpToken('github') token: IdpToken): string {
    return `${token.accessToken} ${token.account}`;
  }

  @Get('both')
  @RequireIdpToken({ idp: 'github', account: 'work' }, { idp: 'github', account: 'home', as: 'home' }, 'acme')
  both(@IdpToken('github') work: IdpToken, @IdpToken('home') home: IdpToken, @IdpToken('acme') acme: IdpToken): string {
    return [work, home, acme].map(({ accessToken }) => accessToken).join();
  }
}

let app: INestApplication;

beforeAll(async () => {
  const testing = await Test.createTestingModule({
    imports: [
      TokensTestingModule.forRoot({
        userId: (call) => (call as { headers: { authorization?: string } }).headers.authorization,
        tokens: {
          ada: {
            github: {
              accounts: {
                work: { accessToken: 'of work', scopes: 'repo' },
                home: { accessToken: 'of home', scopes: 'gist' },
              },
            },
            acme: 'of acme',
          },
          grace: { github: { accounts: { work: { accessToken: 'of grace' } } } },
          linus: { github: 'of linus' },
        },
      }),
    ],
    controllers: [AccountsController],
  }).compile();
  testing.useLogger(false);
  app = testing.createNestApplication();
  await app.init();
});

afterAll(async () => {
  await app.close();
});

async function get(path: string, user = 'ada'): Promise<{ status: number; body: object; text: string }> {
  return request(app.getHttpServer() as Parameters<typeof request>[0])
    .get(path)
    .set('authorization', user);
}

describe('IdpTokenGuard', () => {
  it('gets the token of the account that the decorator names', async () => {
    expect(await get('/work')).toMatchObject({ status: 200, text: 'of work work' });
    expect(await get('/work', 'grace')).toMatchObject({ status: 200, text: 'of grace work' }); // unknown scopes
  });

  it('gets the token of the account that a function chooses for the request, and the only one if it chooses none', async () => {
    expect(await get('/chosen?account=work')).toMatchObject({ status: 200, text: 'of work work' });
    expect(await get('/chosen?account=other')).toMatchObject({
      status: 403,
      body: { code: 'ERR_TOKENS_NOT_FOUND', idp: 'github', account: 'other' },
    });
    expect(await get('/plain', 'grace')).toMatchObject({ status: 200, text: 'of grace work' });
    expect(await get('/plain', 'linus')).toMatchObject({ status: 200, text: 'of linus ' });
  });

  it('answers 409 with the accounts if several could be meant', async () => {
    for (const path of ['/plain', '/chosen']) {
      expect(await get(path)).toMatchObject({
        status: 409,
        body: { code: 'ERR_TOKENS_AMBIGUOUS_ACCOUNT', idp: 'github', accounts: ['home', 'work'] },
      });
    }
  });

  it('answers 403 with the missing scopes', async () => {
    const { status, body } = await get('/chosen?account=home');
    expect(status).toBe(403);
    expect(body).toEqual({
      type: 'about:blank',
      title: 'Forbidden',
      status: 403,
      detail: 'Connect the account at the identity provider again, with more scopes.',
      code: 'ERR_TOKENS_INSUFFICIENT_SCOPE',
      idp: 'github',
      account: 'home',
      reason: 'not_granted',
      missing_scopes: ['repo'],
    });
    expect(await get('/chosen', 'grace')).toMatchObject({ status: 403, body: { reason: 'unknown' } });
  });

  it('gets several tokens of one provider, by their names', async () => {
    expect(await get('/both')).toMatchObject({ status: 200, text: 'of work,of home,of acme' });
  });
});

describe('@RequireIdpToken', () => {
  it('refuses two requirements with one name, and takes a provider that is named twice', () => {
    expect(() => RequireIdpToken({ idp: 'github', account: 'work' }, { idp: 'github', account: 'home' })).toThrow(
      TokensUsageError,
    );
    expect(() => RequireIdpToken('github', { idp: 'acme', as: 'github' })).toThrow('name "github"');
    expect(() => RequireIdpToken('github', 'github')).not.toThrow();
  });

  it('refuses scopes that name none when it decorates', () => {
    for (const scopes of ['', ' , ', [], [' ']]) {
      expect(() => RequireIdpToken('acme', { idp: 'github', scopes })).toThrow(InvalidTokenInputError);
    }
    expect(() => RequireIdpToken({ idp: 'github', scopes: undefined })).not.toThrow();
  });
});

describe('TestTokens', () => {
  it('shows, fails and recovers one account', async () => {
    const tokens = app.get(TestTokens);
    const manager = app.get(TokenManager);
    expect(tokens.stored('ada', 'github')).toBeNull();
    expect(tokens.stored('ada', 'github', { account: 'work' })).toMatchObject({
      accessToken: 'of work',
      scopes: ['repo'],
    });
    tokens.fail('ada', 'github', new Error('on purpose'), { account: 'work' });
    await expect(manager.getIdpToken('ada', 'github', { account: 'work' })).rejects.toThrow('on purpose');
    await expect(manager.getIdpToken('ada', 'github', { account: 'home' })).resolves.toBeDefined();
    tokens.recover('ada', 'github', { account: 'work' });
    await manager.revokeIdpTokens('ada', 'github', { account: 'work' });
    expect(tokens.revoked).toEqual([
      { userId: 'ada', idp: 'github', account: 'work', accessToken: 'of work', refreshToken: '' },
    ]);
  });
});
