/**
 * An application with the built package in a process of its own, which refreshes one token and ends. The process sets
 * the dispatcher of undici first, as a host does in its main file.
 */
import 'reflect-metadata';

import { Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { TypeOrmModule } from '@nestjs/typeorm';
import { TokenManager, tokensEntities, TokensModule } from 'nestjs-idp-tokens';
import { EnvHttpProxyAgent, ProxyAgent, setGlobalDispatcher } from 'undici';

import type { OneRefreshSettings } from './one-refresh.js';

const {
  databaseUrl,
  options,
  user,
  dispatcher,
  proxyUrl = '',
} = JSON.parse(process.argv[2] ?? '') as OneRefreshSettings;

if (dispatcher === 'ProxyAgent') setGlobalDispatcher(new ProxyAgent(proxyUrl));
if (dispatcher === 'EnvHttpProxyAgent') setGlobalDispatcher(new EnvHttpProxyAgent());

@Module({
  imports: [
    TypeOrmModule.forRoot({ type: 'postgres', url: databaseUrl, entities: tokensEntities }),
    TokensModule.forRoot(options),
  ],
})
class Host {}

const app = await NestFactory.createApplicationContext(Host, { logger: false, abortOnError: false });
const tokens = app.get(TokenManager);
await tokens.storeIdpTokens(user, 'acme', { accessToken: 'old', refreshToken: 'to-redeem', accessTokenExpiresAt: 1 });
const outcome = await tokens.getIdpToken(user, 'acme').then(
  ({ accessToken }) => ({ accessToken }),
  (error: unknown) => ({ error: String(error) }),
);
process.send?.(outcome);
await app.close();
process.disconnect();
