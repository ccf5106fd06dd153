/**
 * An application with the built package in a process of its own. It receives calls over IPC and answers them. It ends
 * with its parent.
 */
import 'reflect-metadata';

import { Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { TypeOrmModule } from '@nestjs/typeorm';
import {
  AccountLinks,
  TokenKeyRotation,
  TokenManager,
  tokensEntities,
  TokensModule,
  UsableIdpToken,
} from 'nestjs-idp-tokens';

import type { WorkerCall, WorkerRequest, WorkerSettings } from './tokens-worker.js';

const { databaseUrl, poolSize, options, idp = 'hostile' } = JSON.parse(process.argv[2] ?? '{}') as WorkerSettings;

@Module({
  imports: [
    TypeOrmModule.forRoot({ type: 'postgres', url: databaseUrl, entities: tokensEntities, poolSize }),
    TokensModule.forRoot(options),
  ],
})
class Worker {}

const app = await NestFactory.createApplicationContext(Worker, { logger: false, abortOnError: false });
const tokens = app.get(TokenManager);

process.on('message', (call: WorkerCall | WorkerRequest) => {
  void (call.kind === 'request' ? answerRequest(call) : answer(call));
});
process.on('disconnect', () => process.exit(0));
process.send?.({ pid: process.pid });

async function answer({ id, kind, users, callers = 1, ...demand }: WorkerCall): Promise<void> {
  if (kind === 'close') {
    await app.close();
    process.send?.({ id, outcomes: [] });
    return;
  }
  const calls = users.flatMap((user) => Array.from({ length: callers }, () => tokens.getIdpToken(user, idp, demand)));
  const outcomes = await Promise.all(
    calls.map((pending) =>
      pending.then(
        ({ accessToken, version }) => ({ accessToken, version }),
        (error: unknown) => ({ error: error instanceof Error ? error.name : String(error) }),
      ),
    ),
  );
  process.send?.({ id, outcomes });
}

async function answerRequest({ id, service, method, args }: WorkerRequest): Promise<void> {
  const provider = app.get<Record<string, (...args: unknown[]) => Promise<unknown>>>(
    { TokenManager, TokenKeyRotation, AccountLinks }[service],
  );
  try {
    const value = await provider[method]?.(...args);
    // A token does not print itself.
    const isToken = value instanceof UsableIdpToken;
    process.send?.({ id, value: isToken ? { accessToken: value.accessToken, version: value.version } : value });
  } catch (error) {
    process.send?.({ id, error: error instanceof Error ? `${error.name}: ${error.message}` : String(error) });
  }
}
