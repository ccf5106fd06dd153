/** The form of the names and codes of errors. Another text may be a part of a secret. */
const NAME_OR_CODE = /^[A-Za-z][\w.-]{0,63}$/;

/** Returns the name of what other code threw. */
export function foreignErrorName(error: unknown): string {
  return nameOrCode(error, 'name') ?? 'something that is no error';
}

/**
 * Returns the name and the code of what other code threw, such as `Error (ENOENT)`, and nothing else of it. Its message
 * may have a secret, because clients put URLs, requests and answers into it.
 */
export function describeForeignError(error: unknown): string {
  const code = nameOrCode(error, 'code');
  return `${foreignErrorName(error)}${code === undefined ? '' : ` (${code})`}`;
}

function nameOrCode(error: unknown, property: 'name' | 'code'): string | undefined {
  const value: unknown = typeof error === 'object' && error !== null ? Reflect.get(error, property) : undefined;
  return typeof value === 'string' && NAME_OR_CODE.test(value) ? value : undefined;
}
