import { decodeJwt } from 'jose';

/** The realm of a real Keycloak or of the stand-in. */
export interface AskableRealm {
  /** URL of the server. */
  readonly url: string;
  /** Logs in a user of realms.json at a client and returns the code. The client is `backend` by default. */
  logIn(user: 'ada' | 'local' | 'unreadable', scope?: string, client?: string): Promise<string>;
  /** Ends the session of ada at the provider, and waits until the access token expires that the broker has stored. */
  endSessionAtProvider(): Promise<void>;
}

/** The part of an answer that is the same in every run. A value that changes is replaced by its kind. */
export interface RecordedAnswer {
  readonly status: number;
  readonly type: string | null;
  readonly challenge: string | null;
  readonly body: unknown;
}

const CLIENT = { client_id: 'backend', client_secret: 'backend-secret' };
const REDIRECT = { redirect_uri: 'http://localhost/callback' };

/** Sends a realm all the requests that the module can send, and some that it must not send. Returns the answers. */
export async function askEverything(realm: AskableRealm): Promise<Record<string, RecordedAnswer>> {
  const answers: Record<string, RecordedAnswer> = {};
  const note = async (name: string, path: string, init: RequestInit = {}): Promise<Record<string, string>> => {
    const response = await fetch(realm.url + path, { redirect: 'manual', ...init });
    const text = await response.text();
    const type = response.headers.get('content-type')?.split(';')[0] ?? null;
    const isJson = type === 'application/json' && text !== '';
    const body: unknown = isJson ? JSON.parse(text) : text;
    answers[name] = {
      status: response.status,
      type,
      challenge: response.headers.get('www-authenticate'),
      body: isJson ? sameInEveryRun(body, realm.url) : text && `<${type ?? 'text'}>`,
    };
    return body as Record<string, string>;
  };
  const form = (fields: Record<string, string>): RequestInit => ({ method: 'POST', body: new URLSearchParams(fields) });
  const bearer = (token = ''): RequestInit => ({ headers: { authorization: `Bearer ${token}` } });
  const oidc = '/realms/app/protocol/openid-connect';
  const token = (name: string, fields: Record<string, string>) =>
    note(`token: ${name}`, `${oidc}/token`, form({ ...CLIENT, ...fields }));
  const code = async (user: 'ada' | 'local' | 'unreadable', scope?: string) => ({
    grant_type: 'authorization_code',
    code: await realm.logIn(user, scope),
    ...REDIRECT,
  });

  await note('discovery', '/realms/app/.well-known/openid-configuration');
  await note('discovery: no such realm', '/realms/nowhere/.well-known/openid-configuration');
  await note('keys', `${oidc}/certs`);

  const login = await code('ada', 'openid offline_access');
  const ada = await token('code', login);
  await token('code again', login);
  await token('no such code', { ...login, code: 'nothing' });
  const elsewhere = { redirect_uri: 'http://localhost/elsewhere' };
  await token('code with another redirect URI', { ...(await code('ada')), ...elsewhere });
  await token('wrong secret', { ...login, client_secret: 'wrong' });
  await token('no such client', { ...login, client_id: 'nobody' });
  const local = await token('code of a local user', await code('local'));
  const unreadable = await token('code of a user who may not read', await code('unreadable'));

  await note('userinfo', `${oidc}/userinfo`, bearer(ada.access_token));
  await note('userinfo: garbage', `${oidc}/userinfo`, bearer('garbage'));
  const atOther = { client_id: 'other', client_secret: 'other-secret' };
  const foreign = await token('code of another client', {
    grant_type: 'authorization_code',
    code: await realm.logIn('local', 'openid', 'other'),
    ...REDIRECT,
    ...atOther,
  });
  const introspect = (name: string, fields: Record<string, string>) =>
    note(`introspection: ${name}`, `${oidc}/token/introspect`, form({ ...CLIENT, ...fields }));
  await introspect('offline token', { token: ada.refresh_token ?? '', token_type_hint: 'refresh_token' });
  await introspect('offline token without a hint', { token: ada.refresh_token ?? '' });
  await introspect('refresh token of a session', {
    token: local.refresh_token ?? '',
    token_type_hint: 'refresh_token',
  });
  await introspect('refresh token of another client', {
    token: foreign.refresh_token ?? '',
    token_type_hint: 'refresh_token',
  });
  await introspect('garbage', { token: 'garbage', token_type_hint: 'refresh_token' });
  await introspect('wrong secret', { token: 'garbage', client_secret: 'wrong' });

  const broker = (name: string, access = '', idp = 'acme') =>
    note(`broker: ${name}`, `/realms/app/broker/${idp}/token`, bearer(access));
  const stored = await broker('stored', ada.access_token);
  await broker('not associated', local.access_token);
  await broker('may not read', unreadable.access_token);
  await broker('no such alias', ada.access_token, 'nope');
  await broker('garbage', 'garbage');

  const { access_token: service } = await token('client credentials', { grant_type: 'client_credentials' });
  const other = { ...atOther, grant_type: 'client_credentials' };
  const { access_token: forbidden } = await token('client credentials of another client', other);
  const idpUserId = decodeJwt(stored.access_token ?? '').sub ?? '';
  const admin = (name: string, path: string, access = service) =>
    note(`admin: ${name}`, `/admin/realms/app/users${path}`, bearer(access));
  const linked = (alias: string, id: string) =>
    `?${new URLSearchParams({ idpAlias: alias, idpUserId: id, max: '2' }).toString()}`;
  await admin('by id at a provider', linked('acme', idpUserId));
  await admin('by no id at a provider', linked('acme', 'nobody'));
  await admin('by id at another provider', linked('nope', idpUserId));
  await admin('by attribute', `?q=${encodeURIComponent(`"acme_id":"${idpUserId}"`)}&briefRepresentation=false`);
  await admin('by no such attribute', `?q=${encodeURIComponent('"acme_id":"nobody"')}&briefRepresentation=false`);
  await admin('links', `/${decodeJwt(ada.access_token ?? '').sub ?? ''}/federated-identity`);
  await admin('no links', `/${decodeJwt(local.access_token ?? '').sub ?? ''}/federated-identity`);
  await admin('links of nobody', '/nobody/federated-identity');
  await admin('by email', '?email=ADA%40example.com&exact=true');
  await admin('by part of an email', '?email=da%40example.com&exact=true');
  await admin('by id', `/${decodeJwt(ada.access_token ?? '').sub ?? ''}`);
  await admin('by no id', '/nobody');
  await admin('forbidden', '?email=ada%40example.com&exact=true', forbidden);
  await admin('garbage', '?email=ada%40example.com&exact=true', 'garbage');

  const refreshed = await token('refresh', { grant_type: 'refresh_token', refresh_token: ada.refresh_token ?? '' });
  await token('refresh: garbage', { grant_type: 'refresh_token', refresh_token: 'garbage' });
  await realm.endSessionAtProvider();
  await broker('the provider refuses the refresh', refreshed.access_token);
  const logout = (name: string, fields: Record<string, string>) =>
    note(`logout: ${name}`, `${oidc}/logout`, form({ ...CLIENT, ...fields }));
  await logout('garbage', { refresh_token: 'garbage' });
  await logout('wrong secret', { refresh_token: 'garbage', client_secret: 'wrong' });
  await logout('session', { refresh_token: refreshed.refresh_token ?? '' });
  await token('refresh: after the logout', {
    grant_type: 'refresh_token',
    refresh_token: refreshed.refresh_token ?? '',
  });
  await introspect('after the logout', { token: refreshed.refresh_token ?? '', token_type_hint: 'refresh_token' });
  await note('userinfo: after the logout', `${oidc}/userinfo`, bearer(refreshed.access_token));
  await broker('after the logout', refreshed.access_token);
  return answers;
}

/** The fields of an answer that the module reads. The record has no other fields. */
const KEPT = new Set([
  'accessTokenExpiration',
  'access_token',
  'active',
  'acme_id',
  'attributes',
  'azp',
  'client_id',
  'email',
  'end_session_endpoint',
  'error',
  'errorMessage',
  'error_description',
  'expires_in',
  'id',
  'identityProvider',
  'introspection_endpoint',
  'issuer',
  'jwks_uri',
  'keys',
  'refresh_expires_in',
  'refresh_token',
  'sub',
  'token_endpoint',
  'token_type',
  'userId',
  'userinfo_endpoint',
]);

function sameInEveryRun(value: unknown, url: string): unknown {
  if (Array.isArray(value)) return value.map((item) => sameInEveryRun(item, url));
  if (typeof value === 'object' && value !== null) {
    const kept = Object.entries(value).filter(([name]) => KEPT.has(name));
    return Object.fromEntries(
      kept.map(([name, field]) => [name, name === 'keys' ? '<keys>' : sameInEveryRun(field, url)]),
    );
  }
  if (typeof value === 'number') return value > 1e9 ? '<epoch seconds>' : value;
  if (typeof value !== 'string') return value;
  if (/^eyJ[\w-]+\.[\w-]+\.[\w-]+$/.test(value)) return '<jwt>';
  return value
    .replaceAll(url, '<url>')
    .replaceAll(/[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/g, '<uuid>');
}
