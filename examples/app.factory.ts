import type { INestApplication } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { DocumentBuilder, SwaggerModule } from '@nestjs/swagger';

import type { AppConfig } from './app.config.js';
import { AppModule } from './app.module.js';

/** Makes the application, with a page on / and its API pages on /docs. The caller makes it listen and closes it. */
export async function createApp(config: AppConfig): Promise<INestApplication> {
  const app = await NestFactory.create(AppModule.forRoot(config), {
    logger: false, // an error at the start is thrown, and the caller prints it
    abortOnError: false,
    forceCloseConnections: true,
  });
  app.useLogger(['error', 'warn']);
  const description = new DocumentBuilder()
    .setTitle('nestjs-idp-tokens demo')
    .setDescription('Sign in, connect an account at the identity provider "demo", call the provider with its token.')
    .addBearerAuth()
    .build();
  SwaggerModule.setup('docs', app, () => SwaggerModule.createDocument(app, description), {
    swaggerOptions: { persistAuthorization: true },
  });
  return app;
}
