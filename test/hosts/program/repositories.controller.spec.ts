import type { INestApplication, ModuleMetadata } from '@nestjs/common';
import { Test } from '@nestjs/testing';
import { tokens as required } from 'library';
import { TokenManager, TokensNotFoundError } from 'nestjs-idp-tokens';
import { idpToken, TokensTestingModule } from 'nestjs-idp-tokens/testing';

import { createAdapter } from './platform.js';
import { RepositoriesController } from './repositories.controller.js';

let app: INestApplication;

async function start(metadata: ModuleMetadata) {
  const module = await Test.createTestingModule({ controllers: [RepositoriesController], ...metadata }).compile();
  app = module.createNestApplication(createAdapter());
  await app.listen(0, '127.0.0.1');
}

async function answerTo(user: string) {
  const response = await fetch(`${await app.getUrl()}/repositories`, { headers: { 'x-user': user } });
  return { status: response.status, body: (await response.json()) as unknown };
}

afterEach(() => app.close());

describe('RepositoriesController with a fake of TokenManager', () => {
  const fake: Partial<TokenManager> = {
    getIdpToken: (keycloakUserId, idp) =>
      keycloakUserId === 'ada'
        ? Promise.resolve(idpToken('text'))
        : Promise.reject(new TokensNotFoundError({ keycloakUserId, idp })),
  };

  beforeEach(() => start({ providers: [{ provide: TokenManager, useValue: fake }] }));

  it('uses the token of the user', async () => {
    await expect(answerTo('ada')).resolves.toEqual({ status: 200, body: { accessToken: 'text' } });
  });

  it('refuses a user without a token', async () => {
    const body: unknown = expect.objectContaining({ code: 'ERR_TOKENS_NOT_FOUND', idp: 'github' });
    await expect(answerTo('grace')).resolves.toEqual({ status: 403, body });
  });
});

describe('RepositoriesController with TokensTestingModule', () => {
  beforeEach(() => start({ imports: [TokensTestingModule.forRoot({ tokens: { ada: { github: 'a token' } } })] }));

  it('uses the token of the user', async () => {
    await expect(answerTo('ada')).resolves.toEqual({ status: 200, body: { accessToken: 'a token' } });
  });

  it('refuses a user without a token', async () => {
    const body: unknown = expect.objectContaining({ code: 'ERR_TOKENS_NOT_FOUND', idp: 'github' });
    await expect(answerTo('grace')).resolves.toEqual({ status: 403, body });
  });

  it('has the classes that a library requires', async () => {
    const failure = app.get(required.TokenManager).getIdpToken('grace', 'github');
    await expect(failure).rejects.toBeInstanceOf(required.TokensNotFoundError);
  });
});
