import { IsUrl } from 'class-validator';

const URL_RULES = {
  require_protocol: true,
  protocols: ['http', 'https'],
  require_tld: false,
  allow_underscores: true,
  allow_fragments: false,
  disallow_auth: true, // fetch refuses to send to such a URL
};

/**
 * Accepts an absolute http or https URL to which the module appends paths. Hosts without a dot and IP addresses are
 * valid.
 */
export function IsBaseUrl(): PropertyDecorator {
  return IsUrl(
    { ...URL_RULES, allow_query_components: false },
    { message: '$property must be an absolute http or https URL without credentials, query and fragment' },
  );
}

/** Accepts an absolute http or https URL that the module uses unchanged. @see RFC 6749 section 3.2 */
export function IsEndpoint(): PropertyDecorator {
  return IsUrl(URL_RULES, {
    message: '$property must be an absolute http or https URL without credentials and fragment',
  });
}

/** Appends a path to a base URL. The base URL may have a path of its own, with or without a slash at its end. */
export function endpoint(baseUrl: string, path: string): string {
  return baseUrl.replace(/\/+$/, '') + path;
}

/** Returns whether a URL contains a user or a password. Fetch refuses such a URL, and quotes it in its error. */
export function hasCredentials({ username, password }: URL): boolean {
  return username !== '' || password !== '';
}

/**
 * Returns whether the module may send tokens and the client secret to an endpoint that a server names in its metadata:
 * an https URL without credentials, or an http URL of the server that the options name by http.
 *
 * @param configured the URL of the server in the options
 */
export function isEndpointOf(endpoint: unknown, configured: string): endpoint is string {
  if (typeof endpoint !== 'string' || !URL.canParse(endpoint)) return false;
  const url = new URL(endpoint);
  if (hasCredentials(url)) return false;
  return url.protocol === 'https:' || (url.protocol === 'http:' && url.origin === new URL(configured).origin);
}
