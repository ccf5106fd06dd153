import { Module } from '@nestjs/common';
import { allowInsecureRequests, ClientSecretBasic, Configuration, discovery } from 'openid-client';

import { AppConfig } from '../app.config.js';
import { DemoIdpClient } from './demo-idp.client.js';

/** The identity provider `demo`, discovered when the application starts. */
@Module({
  providers: [
    {
      provide: Configuration,
      inject: [AppConfig],
      useFactory: ({ idp }: AppConfig) =>
        discovery(new URL(idp.issuer), idp.clientId, undefined, ClientSecretBasic(idp.clientSecret), {
          // eslint-disable-next-line @typescript-eslint/no-deprecated -- deprecated only as a warning; the provider has no TLS, because it is on the loopback interface
          execute: [allowInsecureRequests],
        }),
    },
    DemoIdpClient,
  ],
  exports: [DemoIdpClient],
})
export class DemoIdpModule {}
