import { createHash } from 'node:crypto';

/** A SQL statement with `$n` parameters, to be prepared once on each connection under its name. */
export interface Statement {
  readonly name: string;
  readonly text: string;
}

/**
 * Names a statement after its text, so that two releases, or two schemas, that share a connection pooler never meet
 * under one name.
 */
export function defineStatement(label: string, text: string): Statement {
  const digest = createHash('sha256').update(text).digest('hex').slice(0, 12);
  return { name: `idp_tokens_${label}_${digest}`, text };
}
