/** The module files of the copies that this process has loaded. Copies of every version share the set by this key. */
const COPIES = Symbol.for('nestjs-idp-tokens.copies');

/** Code of the warning. `node --disable-warning=NESTJS_IDP_TOKENS_COPIES` silences it. */
const WARNING = 'NESTJS_IDP_TOKENS_COPIES';

/**
 * Notes that a copy of this package was loaded, and warns if the process has loaded another one before. Nest, TypeORM
 * and `instanceof` take the classes of two copies for different ones, and say so in errors that name no copy. It is a
 * warning and no error, because two applications in one process may have a copy each. A test runner that loads the same
 * file anew gets no warning.
 *
 * @param url of a module file of the copy. A bundler may give none.
 */
export function noteCopy(url: string | undefined, process: Pick<NodeJS.Process, 'emitWarning'>): void {
  if (url === undefined) return;
  const loaded = copies();
  const [file = url] = url.split(/[?#]/);
  const others = [...loaded].filter((other) => other !== file);
  if (others.length > 0 && !loaded.has(file)) {
    process.emitWarning(
      `This process has loaded nestjs-idp-tokens more than once: ${[...others, file].join(' and ')}. An application ` +
        'must use one copy, because Nest, TypeORM and instanceof take the classes of two copies for different ones. ' +
        'See "npm ls nestjs-idp-tokens", and keep one version.',
      { type: 'TokensWarning', code: WARNING },
    );
  }
  loaded.add(file);
}

function copies(): Set<string> {
  const known: unknown = Reflect.get(globalThis, COPIES);
  if (known instanceof Set) return known as Set<string>;
  const first = new Set<string>();
  Reflect.set(globalThis, COPIES, first);
  return first;
}

noteCopy(import.meta.url, process);
