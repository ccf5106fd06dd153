import { randomUUID } from 'node:crypto';

import { Injectable } from '@nestjs/common';

import type { Fields } from '../oauth-http/answer-fields.js';
import { InvalidTokenInputError, KeycloakMisconfiguredError, KeycloakUnavailableError } from '../tokens.errors.js';
import { KeycloakClient } from './keycloak-client.js';

/**
 * The access token of the service account is renewed this long before its expiry, because it could expire during a
 * request.
 */
const EXPIRY_MARGIN_SECONDS = 30;

/**
 * Looks up users of the realm with the service account of the client in the options. The service account needs the role
 * `view-users` of `realm-management`. Every method throws {@link KeycloakUnavailableError} when Keycloak gives no
 * usable answer, and {@link KeycloakMisconfiguredError} when it refuses the client or its service account.
 */
@Injectable()
export class KeycloakUsers {
  #admin: { token: string; validUntil: number } | undefined;

  constructor(private readonly client: KeycloakClient) {}

  /**
   * Returns the id of the one user whose account in Keycloak is linked with this id at an identity provider; `null` for
   * no user and for several. The name of the provider is its alias in Keycloak. With `keycloak.idpUserIdAttribute` an
   * attribute of the user decides instead of the link.
   *
   * @throws {@link InvalidTokenInputError} when the id is empty, contains a double quote or ends in a backslash
   */
  async getUserIdFromIdpUserId(idpUserId: string, idp: string): Promise<string | null> {
    const attribute = this.client.realm.idpUserIdAttribute?.replaceAll('{idp}', () => idp);
    // Between quotes Keycloak takes every character of `q` as it is, except a quote and a backslash before the closing
    // quote.
    if (!idpUserId || !idp || /"|\\$/.test(`${attribute ?? idp}${idpUserId}`)) {
      throw new InvalidTokenInputError(
        'The id of a user at a provider must be a text without double quotes that does not end in a backslash.',
      );
    }
    return attribute === undefined ? this.#linkedUser(idpUserId, idp) : this.#userWith(attribute, idpUserId);
  }

  /**
   * Returns the id of the one user with this email address, in upper or lower case; `null` for no user and for several.
   */
  async getUserIdFromUserEmail(email: string): Promise<string | null> {
    if (!email) throw new InvalidTokenInputError('The email address must be a non-empty string.');
    const wanted = email.toLowerCase();
    const users = await this.#find({ email, exact: 'true' });
    const matching = users.filter((user) => typeof user.email === 'string' && user.email.toLowerCase() === wanted);
    return matching.length === 1 ? idOf(matching[0]) : null;
  }

  /** Returns what Keycloak has stored about a user (its `UserRepresentation`); `null` if there is no such user. */
  async getUserInfoFromUserId(userId: string): Promise<Fields | null> {
    if (!userId) throw new InvalidTokenInputError('The user id must be a non-empty string.');
    const user = await this.#get(`/users/${encodeURIComponent(userId)}`);
    // The ids must be equal, because "profile" and ".." are paths of Keycloak too.
    return isFields(user) && user.id === userId ? user : null;
  }

  /**
   * Finds the user by the link of the account. Keycloak ignores a parameter that it does not know, so an old version
   * answers with any user of the realm. The links of the user show whether this is the one.
   */
  async #linkedUser(idpUserId: string, idp: string): Promise<string | null> {
    const users = await this.#find({ idpAlias: idp, idpUserId, max: '2' });
    const id = users.length === 1 ? idOf(users[0]) : null;
    if (id === null) return null;
    const links = await this.#get(`/users/${encodeURIComponent(id)}/federated-identity`);
    if (links === undefined) return (await this.#searchesByLink(idp)) ? id : null;
    if (!Array.isArray(links)) throw notAList();
    const isLinked = links.some((link) => isFields(link) && link.identityProvider === idp && link.userId === idpUserId);
    return isLinked ? id : null;
  }

  /**
   * Returns whether the search finds no user for a random id. A gateway that publishes only the search of users hides the
   * links, so this is the only sign that the server knows the parameters.
   */
  async #searchesByLink(idp: string): Promise<boolean> {
    return (await this.#find({ idpAlias: idp, idpUserId: randomUUID(), max: '1' })).length === 0;
  }

  async #userWith(attribute: string, idpUserId: string): Promise<string | null> {
    const users = await this.#find({ q: `"${attribute}":"${idpUserId}"`, briefRepresentation: 'false' });
    const matching = users.filter(({ attributes }) => valuesOf(attributes, attribute).includes(idpUserId));
    return matching.length === 1 ? idOf(matching[0]) : null;
  }

  async #find(criteria: Record<string, string>): Promise<Fields[]> {
    const users = await this.#get(`/users?${new URLSearchParams(criteria).toString()}`);
    if (Array.isArray(users)) return users.filter((user) => isFields(user));
    throw notAList();
  }

  /** Returns the answer of the administration; undefined for 404. */
  async #get(path: string): Promise<unknown> {
    const url = new URL(this.client.realm.adminUrl + path);
    let { status, body } = await this.client.get(url, await this.#adminToken());
    if (status === 401) {
      // Keycloak has replaced the keys of the realm or ended its sessions, so a new access token can help.
      this.#admin = undefined;
      ({ status, body } = await this.client.get(url, await this.#adminToken()));
    }
    if (status === 404) return undefined;
    if (status >= 400) {
      throw new KeycloakMisconfiguredError(
        `Keycloak refused the lookup of a user with status ${status}. Give the service account of client ` +
          `"${this.client.realm.clientId}" the role view-users of realm-management.`,
      );
    }
    try {
      return JSON.parse(body) as unknown;
    } catch {
      throw new KeycloakUnavailableError('Keycloak answered the lookup of a user with something that is not JSON.');
    }
  }

  async #adminToken(): Promise<string> {
    if (this.#admin && performance.now() < this.#admin.validUntil) return this.#admin.token;
    const askedAt = performance.now();
    const { accessToken, expiresIn = 0 } = await this.client.token('client_credentials', {});
    this.#admin = { token: accessToken, validUntil: askedAt + (expiresIn - EXPIRY_MARGIN_SECONDS) * 1000 };
    return accessToken;
  }
}

function notAList(): KeycloakUnavailableError {
  return new KeycloakUnavailableError(
    'Keycloak answered the search for a user with JSON that is not a list. Try again shortly.',
  );
}

function idOf(user: Fields | undefined): string | null {
  return typeof user?.id === 'string' ? user.id : null;
}

function valuesOf(attributes: unknown, name: string): unknown[] {
  const values: unknown = isFields(attributes) ? attributes[name] : undefined;
  return Array.isArray(values) ? values : [];
}

function isFields(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
