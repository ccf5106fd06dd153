import { createHash } from 'node:crypto';

import type { QueryResultRow } from 'pg';

/** A SQL statement with named parameters, to be prepared once on each connection under its name. */
export interface Statement<Params extends object, Row> {
  readonly name: string;
  /** With `$1`, `$2`, … where the definition has `$name`. */
  readonly text: string;
  /** Names of the parameters, in the order of their numbers. */
  readonly parameters: readonly (keyof Params & string)[];
  /** What the statement does, for error messages: "load tokens". */
  readonly action: string;
  /** Whether it may have its effect twice, so that it is repeated when its answer is lost. */
  readonly isRepeatable: boolean;
  /** Reads a row of the answer. */
  readonly read: (row: QueryResultRow) => Row;
}

/** What {@link defineStatement} makes a statement of. */
export interface StatementDefinition<Row> {
  /** Part of the name that it is prepared under. */
  readonly label: string;
  readonly action: string;
  readonly isRepeatable: boolean;
  /** Parameters are written `$name`; one may occur several times. */
  readonly text: string;
  readonly read: (row: QueryResultRow) => Row;
}

/**
 * Numbers the parameters, and names the statement after its text, so that two releases, or two schemas, that share a
 * connection pooler never meet under one name.
 */
export function defineStatement<Params extends object, Row>(
  definition: StatementDefinition<Row>,
): Statement<Params, Row> {
  const parameters: string[] = [];
  const text = definition.text.replace(/\$([a-z]\w*)/gi, (_, parameter: string) => {
    if (!parameters.includes(parameter)) parameters.push(parameter);
    return `$${parameters.indexOf(parameter) + 1}`;
  });
  const digest = createHash('sha256').update(text).digest('hex').slice(0, 12);
  const { label, action, isRepeatable, read } = definition;
  const name = `idp_tokens_${label}_${digest}`;
  return { name, text, parameters: parameters as (keyof Params & string)[], action, isRepeatable, read };
}

/** The values of the numbered parameters. A value that is missing is a fault of the program, not NULL. */
export function valuesOf<Params extends object>({ name, parameters }: Statement<Params, unknown>, params: Params) {
  return parameters.map((parameter): unknown => {
    const value = params[parameter];
    if (value === undefined) throw new TypeError(`Statement ${name} lacks its parameter ${parameter}.`);
    return value;
  });
}

/** For statements whose answer has no columns that count. */
export function noColumns(): true {
  return true;
}
