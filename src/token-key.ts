/** Whose tokens, and of which identity provider: what names one row. */
export interface TokenKey {
  readonly keycloakUserId: string;
  readonly idp: string;
}

/** A key as one text, for maps: no other key gives the same one. */
export function keyName({ keycloakUserId, idp }: TokenKey): string {
  return `${keycloakUserId.length}:${keycloakUserId}:${idp}`;
}
