import { NestFactory } from '@nestjs/core';
import { runTokenMigrations } from 'nestjs-idp-tokens';
import { DataSource } from 'typeorm';

import { AppModule } from './app.module.js';
import { createAdapter } from './platform.js';

async function main() {
  const app = await NestFactory.create(AppModule, createAdapter(), { logger: ['error', 'warn'] });
  app.enableShutdownHooks();
  await runTokenMigrations(app.get(DataSource));
  await app.listen(0, '127.0.0.1');
  console.log(await app.getUrl());
}
void main();
