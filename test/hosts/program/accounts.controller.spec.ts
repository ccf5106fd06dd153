import { Test } from '@nestjs/testing';
import { IdpTokenGuard, QueryRunnerScope, TokenManager, TokensNotFoundError } from 'nestjs-idp-tokens';
import { DataSource } from 'typeorm';

import { AccountsController } from './accounts.controller.js';
import { AccountsService } from './accounts.service.js';

describe('AccountsController', () => {
  let controller: AccountsController;

  beforeEach(async () => {
    const tokens: Partial<TokenManager> = {
      getIdpToken: (keycloakUserId, idp) => Promise.reject(new TokensNotFoundError({ keycloakUserId, idp })),
    };
    const module = await Test.createTestingModule({
      controllers: [AccountsController],
      providers: [
        AccountsService,
        { provide: TokenManager, useValue: tokens },
        { provide: QueryRunnerScope, useValue: {} },
        { provide: DataSource, useValue: {} },
      ],
    })
      .overrideGuard(IdpTokenGuard)
      .useValue({ canActivate: () => true })
      .compile();
    controller = module.get(AccountsController);
  });

  it('tells that the user has no token', async () => {
    const asked = controller.asked({ headers: {}, user: { sub: 'ada' } });
    await expect(asked).rejects.toBeInstanceOf(TokensNotFoundError);
  });
});
