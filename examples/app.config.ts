import { inspect } from 'node:util';

import type { KeycloakModuleOptions } from 'nestjs-idp-tokens';

/** The identity provider as its operator registered this application. */
export interface IdpConfig {
  readonly issuer: string;
  readonly tokenEndpoint: string;
  readonly revocationEndpoint: string;
  readonly clientId: string;
  readonly clientSecret: string;
}

/** What the application is told from outside. Prints without its secrets. */
export class AppConfig {
  constructor(
    /** Where browsers reach the application. */
    readonly baseUrl: string,
    readonly databaseUrl: string,
    /** Seals the stored tokens: 32 bytes in base64. */
    readonly tokensKey: string,
    readonly idp: IdpConfig,
    /** The realm of the users, if they log in at Keycloak. */
    readonly keycloak?: KeycloakModuleOptions,
  ) {}

  toJSON(): object {
    return { baseUrl: this.baseUrl, issuer: this.idp.issuer, clientId: this.idp.clientId };
  }

  [inspect.custom](): string {
    return `AppConfig ${inspect(this.toJSON())}`;
  }
}
