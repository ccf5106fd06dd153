/**
 * A Nest application on Fastify with six routes that return the same small body. The routes are bare, behind a guard and
 * a parameter decorator that do nothing, and behind `IdpTokenGuard`, and each of these with and without a login.
 */
import 'reflect-metadata';

import {
  type CanActivate,
  Controller,
  createParamDecorator,
  type ExecutionContext,
  Get,
  Injectable,
  Module,
  UseGuards,
} from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { FastifyAdapter, type NestFastifyApplication } from '@nestjs/platform-fastify';
import { TypeOrmModule } from '@nestjs/typeorm';
import { generateKeyPair, jwtVerify, SignJWT } from 'jose';
import { IdpTokenGuard, RequireIdpToken, tokensEntities, TokensModule } from 'nestjs-idp-tokens';

import { BENCH_OPTIONS } from '../rivals/module.js';
import { IDP, randomUsers, userId } from '../support/users.js';

const [url = '', users = ''] = process.argv.slice(2);
const nextUser = randomUsers(Number(users));
const { publicKey, privateKey } = await generateKeyPair('RS256');
const jwt = await new SignJWT({}).setProtectedHeader({ alg: 'RS256' }).setExpirationTime('1h').sign(privateKey);

/** Verifies an RS256 signature, as an application does that accepts access tokens. */
@Injectable()
class JwtGuard implements CanActivate {
  async canActivate(context: ExecutionContext): Promise<boolean> {
    const { headers } = context.switchToHttp().getRequest<{ headers: { authorization?: string } }>();
    await jwtVerify(headers.authorization?.slice('Bearer '.length) ?? '', publicKey);
    return true;
  }
}

/** Does nothing, so that its route shows what a guard costs in Nest. */
@Injectable()
class NoopGuard implements CanActivate {
  canActivate(): boolean {
    return true;
  }
}

/** Returns a constant, so that its route shows what a parameter decorator costs in Nest. */
const Noop = createParamDecorator(() => true);

@Controller()
class BenchController {
  @Get('bare')
  bare(): { ok: boolean } {
    return { ok: true };
  }

  @Get('noop')
  @UseGuards(NoopGuard)
  noop(@Noop() ok: boolean): { ok: boolean } {
    return { ok };
  }

  @Get('guarded')
  @UseGuards(IdpTokenGuard)
  @RequireIdpToken(IDP)
  guarded(): { ok: boolean } {
    return { ok: true };
  }

  @Get('login/bare')
  @UseGuards(JwtGuard)
  bareAfterLogin(): { ok: boolean } {
    return { ok: true };
  }

  @Get('login/noop')
  @UseGuards(JwtGuard, NoopGuard)
  noopAfterLogin(@Noop() ok: boolean): { ok: boolean } {
    return { ok };
  }

  @Get('login/guarded')
  @UseGuards(JwtGuard, IdpTokenGuard)
  @RequireIdpToken(IDP)
  guardedAfterLogin(): { ok: boolean } {
    return { ok: true };
  }
}

@Module({
  imports: [
    TypeOrmModule.forRoot({ type: 'postgres', url, entities: tokensEntities, poolSize: 10 }),
    TokensModule.forRoot({ ...BENCH_OPTIONS, userId: () => userId(nextUser()) }),
  ],
  controllers: [BenchController],
})
class HttpModule {}

const app = await NestFactory.create<NestFastifyApplication>(HttpModule, new FastifyAdapter(), { logger: ['error'] });
await app.listen(0, '127.0.0.1');
process.on('disconnect', () => process.exit(0));
process.send?.({ url: await app.getUrl(), jwt });
