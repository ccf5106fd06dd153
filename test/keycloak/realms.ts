import { readFileSync } from 'node:fs';

/** Returns the realms of realms.json. The application uses the realm `app`, which brokers `provider` as "acme". */
export function realms(serverUrl: string): { realm: string }[] {
  const json = readFileSync(new URL('./realms.json', import.meta.url), 'utf8');
  return JSON.parse(json.replaceAll('${PROVIDER_URL}', serverUrl)) as { realm: string }[];
}

export const REDIRECT_URI = 'http://localhost/callback';
export const CLIENT = { clientId: 'backend', clientSecret: 'backend-secret' };
/** A user of the realm `provider`, who logs in to `app` through its broker. */
export const ADA = { login: 'ada-at-provider', password: 'ada-password' };
/** Users of the realm `app`. `LOCAL` has no brokered identity, and `UNREADABLE` may not read stored tokens. */
export const LOCAL = { login: 'local', password: 'local-password' };
export const UNREADABLE = { login: 'unreadable', password: 'unreadable-password' };
