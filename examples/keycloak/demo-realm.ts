import { randomBytes } from 'node:crypto';

import type { KeycloakModuleOptions } from 'nestjs-idp-tokens';

import type { IdpConfig } from '../app.config.js';

/**
 * The alias of the identity provider at the broker of Keycloak. The application uses it as `idp`, because an import
 * needs the same name.
 */
export const IDP_ALIAS = 'demo';

const REALM = 'demo';
const ATTRIBUTES = ['username', 'email', 'firstName', 'lastName'];

/** The realm that the operator of Keycloak has set up for the demo. Its users log in at the identity provider. */
export interface DemoRealm {
  /** The representation to import. */
  readonly representation: { realm: string } & Record<string, unknown>;
  /** The options with the client of the application. */
  readonly options: KeycloakModuleOptions;
}

/** Returns the URL to which the identity provider sends users of Keycloak back. The identity provider must know it. */
export function brokerRedirectUri(keycloakUrl: string): string {
  return `${keycloakUrl}/realms/${REALM}/broker/${IDP_ALIAS}/endpoint`;
}

export function demoRealm(keycloakUrl: string, idp: IdpConfig, redirectUri: string): DemoRealm {
  const clientSecret = randomBytes(32).toString('base64url');
  const options = { serverUrl: keycloakUrl, realm: REALM, clientId: 'demo-app', clientSecret };
  const readable = { view: ['admin', 'user'], edit: ['admin', 'user'] };
  const userProfile = { attributes: ATTRIBUTES.map((name) => ({ name, permissions: readable })) };
  return {
    options,
    representation: {
      realm: REALM,
      enabled: true,
      sslRequired: 'none',
      // Offline tokens are single-use, as the identity provider's refresh tokens are.
      revokeRefreshToken: true,
      components: {
        'org.keycloak.userprofile.UserProfileProvider': [
          {
            providerId: 'declarative-user-profile',
            config: { 'kc.user.profile.config': [JSON.stringify(userProfile)] },
          },
        ],
      },
      clients: [
        {
          clientId: options.clientId,
          secret: clientSecret,
          redirectUris: [redirectUri],
          defaultClientScopes: ['basic', 'acr', 'roles', 'profile'],
          optionalClientScopes: ['offline_access'],
          protocolMappers: [
            {
              name: 'audience',
              protocol: 'openid-connect',
              protocolMapper: 'oidc-audience-mapper',
              config: { 'included.client.audience': options.clientId, 'access.token.claim': 'true' },
            },
          ],
        },
      ],
      identityProviders: [
        {
          alias: IDP_ALIAS,
          providerId: 'oidc',
          storeToken: true,
          addReadTokenRoleOnCreate: true,
          config: {
            issuer: idp.issuer,
            authorizationUrl: `${idp.issuer}/auth`,
            tokenUrl: `${idp.issuer}/token`,
            userInfoUrl: `${idp.issuer}/me`,
            jwksUrl: `${idp.issuer}/jwks`,
            useJwksUrl: 'true',
            validateSignature: 'true',
            clientId: idp.clientId,
            clientSecret: idp.clientSecret,
            clientAuthMethod: 'client_secret_basic',
            pkceEnabled: 'true',
            pkceMethod: 'S256',
            defaultScope: 'openid profile offline_access',
            prompt: 'consent',
          },
        },
      ],
    },
  };
}
