/**
 * A user id and the name of an identity provider, and the account if the user has several there. A key names one row of
 * `auth_tokens`.
 */
export interface TokenKey {
  readonly keycloakUserId: string;
  readonly idp: string;
  /** A name that the host gives to an account of the user at the provider. Default: '', the default account. */
  readonly account?: string | undefined;
}

/** A key that names its account, as the statements need it. */
export interface AccountKey extends TokenKey {
  readonly account: string;
}

/** Returns the key as one text, for maps. No other key gives the same text. */
export function keyName({ keycloakUserId, idp, account }: AccountKey): string {
  return `${keycloakUserId.length}:${keycloakUserId}:${idp.length}:${idp}:${account}`;
}

/** Returns the account for a message, after a comma; an empty text for the default account. */
export function accountInWords({ account = '' }: TokenKey): string {
  return account && `, account "${account}"`;
}

/** Returns the key as the beginning of a message. */
export function keyInWords(key: TokenKey): string {
  return `User "${key.keycloakUserId}", identity provider "${key.idp}"${accountInWords(key)}`;
}
