import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

const GOLDEN = join(import.meta.dirname, '../golden');

/** The names of all statements by the digests of their texts, with which the names end. */
const names = new Map(
  readdirSync(GOLDEN)
    .filter((file) => file.endsWith('.sql'))
    .flatMap((file) => [
      ...readFileSync(join(GOLDEN, file), 'utf8').matchAll(/^-- (idp_tokens_\w+_([0-9a-f]{12}))\b/gm),
    ])
    .map(([, name = '', digest = '']) => [digest, name]),
);

/** Returns the name of a statement that pg gets, also if it is not prepared. Undefined if it is none of the module. */
export function statementName(query: unknown): string | undefined {
  const { name, text } = Object(query) as { name?: string; text?: string };
  return (
    name ??
    names.get(
      createHash('sha256')
        .update(text ?? '')
        .digest('hex')
        .slice(0, 12),
    )
  );
}
