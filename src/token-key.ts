/** A user id and the name of an identity provider. A key names one row of `auth_tokens`. */
export interface TokenKey {
  readonly keycloakUserId: string;
  readonly idp: string;
}

/** Returns the key as one text, for maps. No other key gives the same text. */
export function keyName({ keycloakUserId, idp }: TokenKey): string {
  return `${keycloakUserId.length}:${keycloakUserId}:${idp}`;
}
