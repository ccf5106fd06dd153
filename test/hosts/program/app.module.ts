import { Module } from '@nestjs/common';
import { TypeOrmModule } from '@nestjs/typeorm';
import { tokensEntities, TokensModule } from 'nestjs-idp-tokens';

import { AccountsController } from './accounts.controller.js';
import { AccountsService } from './accounts.service.js';

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
  controllers: [AccountsController],
  providers: [AccountsService],
})
export class AppModule {}
