import type { Server } from 'node:http';

import { describe, expect, it } from '@jest/globals';
import { type CanActivate, Controller, type ExecutionContext, Get, Injectable, UseGuards } from '@nestjs/common';
import { Test } from '@nestjs/testing';
import request from 'supertest';

import { IdpToken, IdpTokenGuard, RequireIdpToken, TokenManager, UsableIdpToken } from '../src/index.js';

@Injectable()
class AuthGuard implements CanActivate {
  canActivate(context: ExecutionContext): boolean {
    context.switchToHttp().getRequest<{ user?: object }>().user = { sub: 'ada' };
    return true;
  }
}

@Controller('repositories')
@UseGuards(AuthGuard, IdpTokenGuard)
@RequireIdpToken('github')
class RepositoriesController {
  @Get()
  list(@IdpToken('github') token: IdpToken): string {
    return token.accessToken;
  }
}

describe('IdpTokenGuard', () => {
  it('needs only a TokenManager, so that a unit test of a controller needs no TokensModule', async () => {
    const asked: string[] = [];
    const fake = {
      getIdpToken(userId: string, idp: string): Promise<IdpToken> {
        asked.push(`${userId} at ${idp}`);
        return Promise.resolve(new UsableIdpToken('the token of a fake', 0, '1'));
      },
    };
    const testing = await Test.createTestingModule({
      controllers: [RepositoriesController],
      providers: [{ provide: TokenManager, useValue: fake }],
    }).compile();
    const app = testing.createNestApplication({ logger: false });
    await app.init();
    await request(app.getHttpServer() as Server)
      .get('/repositories')
      .expect(200, 'the token of a fake');
    expect(asked).toEqual(['ada at github']);
    await app.close();
  });
});

describe('UsableIdpToken', () => {
  it('is the class of every IdpToken, and prints redacted', () => {
    const token: IdpToken = new UsableIdpToken('a secret text', 1_790_000_000, '7');
    expect(token).toBeInstanceOf(UsableIdpToken);
    expect(token).toMatchObject({ accessToken: 'a secret text', expiresAt: 1_790_000_000, version: '7' });
    expect(JSON.stringify(token)).toBe('{"accessToken":"[redacted]","expiresAt":1790000000,"version":"7"}');
  });
});
