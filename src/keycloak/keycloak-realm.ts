import { endpoint } from '../oauth-http/endpoint-url.js';
import { SecretHolder } from '../sealing/secret-holder.js';
import type { KeycloakSettings, RefreshOwner } from './keycloak.options.js';

/** The realm of the options, with every default filled in. It prints without the client secret. */
export class KeycloakRealm extends SecretHolder {
  /** The URL of the realm. It is the prefix of its endpoints. */
  readonly url: string;
  /** The URL of the administration of the realm. It is the prefix of its endpoints. */
  readonly adminUrl: string;
  readonly issuer: string;
  readonly clientId: string;
  readonly audience: string;
  readonly refreshOwner: RefreshOwner;
  readonly timeoutMs: number;
  /** Name of the user attribute with the id at a provider, with `{idp}` in it; undefined if the link decides. */
  readonly idpUserIdAttribute: string | undefined;
  readonly #clientSecret: string;

  constructor({ serverUrl, realm, issuer, clientId, clientSecret, audience, ...rest }: KeycloakSettings) {
    super();
    const name = encodeURIComponent(realm);
    this.url = endpoint(serverUrl, `/realms/${name}`);
    this.adminUrl = endpoint(serverUrl, `/admin/realms/${name}`);
    this.issuer = issuer ?? this.url;
    this.clientId = clientId;
    this.audience = audience ?? clientId;
    this.refreshOwner = rest.refreshOwner;
    this.timeoutMs = rest.timeoutMs;
    this.idpUserIdAttribute = rest.idpUserIdAttribute;
    this.#clientSecret = clientSecret;
  }

  get clientSecret(): string {
    return this.#clientSecret;
  }

  toJSON(): object {
    return { url: this.url, clientId: this.clientId };
  }
}
