import { inspect } from 'node:util';

import type { KeycloakModuleOptions } from 'nestjs-idp-tokens';

/** The identity provider and the client that its operator registered for this application. */
export interface IdpConfig {
  readonly issuer: string;
  readonly clientId: string;
  readonly clientSecret: string;
}

/** The configuration of the application. It prints without its secrets. */
export class AppConfig {
  constructor(
    /** The URL by which browsers reach the application. */
    readonly baseUrl: string,
    readonly databaseUrl: string,
    /** The key that seals the stored tokens: 32 bytes in base64. */
    readonly tokensKey: string,
    readonly idp: IdpConfig,
    /** The realm of the users, if they log in at Keycloak. */
    readonly keycloak?: KeycloakModuleOptions,
  ) {}

  /** The URL to which the identity provider sends browsers back. The identity provider must know it. */
  get redirectUri(): string {
    return redirectUriOf(this.baseUrl);
  }

  toJSON(): object {
    return { baseUrl: this.baseUrl, issuer: this.idp.issuer, clientId: this.idp.clientId };
  }

  [inspect.custom](): string {
    return `AppConfig ${inspect(this.toJSON())}`;
  }
}

/** @param baseUrl the URL by which browsers reach the application */
export function redirectUriOf(baseUrl: string): string {
  return `${baseUrl}/connections/demo/callback`;
}
