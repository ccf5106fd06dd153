import { Module } from '@nestjs/common';
import { TypeOrmModule } from '@nestjs/typeorm';
import { tokensEntities, TokensModule } from 'nestjs-idp-tokens';

import { AccountsController } from './accounts.controller.js';
import { AccountsService } from './accounts.service.js';
import { LibraryController } from './library.controller.js';
import { RepositoriesController } from './repositories.controller.js';

@Module({
  imports: [
    TypeOrmModule.forRoot({ type: 'postgres', url: process.env.DATABASE_URL, entities: [...tokensEntities] }),
    TokensModule.forRootAsync({
      isGlobal: true,
      useFactory: () => ({
        encryption: { keys: [{ id: 'host', secret: process.env.TOKENS_KEY! }] },
        identityProviders: { github: { clientId: 'id', clientSecret: 'secret' } },
      }),
    }),
  ],
  controllers: [AccountsController, RepositoriesController, LibraryController],
  providers: [AccountsService],
})
export class AppModule {}
