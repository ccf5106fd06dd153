import { createHash } from 'node:crypto';

import type { QueryResultRow } from 'pg';

/** An SQL statement with named parameters. Each connection prepares it once, under its name. */
export interface Statement<Params extends object, Row> {
  readonly name: string;
  /** The SQL, which has `$1`, `$2`, … where the definition has `$name`. */
  readonly text: string;
  /** Names of the parameters, in the order of their numbers. */
  readonly parameters: readonly (keyof Params & string)[];
  /** What the statement does, for error messages, such as "load tokens". */
  readonly action: string;
  /** Whether it may have its effect twice. If so, the executor repeats it when its answer is lost. */
  readonly isRepeatable: boolean;
  /** Reads a row of the answer. */
  readonly read: (row: QueryResultRow) => Row;
}

/** The argument of {@link defineStatement}. */
export interface StatementDefinition<Row> {
  /** Part of the name of the statement. */
  readonly label: string;
  readonly action: string;
  readonly isRepeatable: boolean;
  /** The SQL. A parameter is written `$name` and may occur several times. */
  readonly text: string;
  readonly read: (row: QueryResultRow) => Row;
}

/**
 * Returns the statement of a definition. It numbers the parameters. The name contains a digest of the text, so that two
 * releases or two schemas that share a connection pooler never use one name for two statements.
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

/**
 * Returns the values of the numbered parameters.
 *
 * @throws TypeError when a value is undefined, because that is a fault of the program and not NULL
 */
export function valuesOf<Params extends object>({ name, parameters }: Statement<Params, unknown>, params: Params) {
  return parameters.map((parameter): unknown => {
    const value = params[parameter];
    if (value === undefined) throw new TypeError(`Statement ${name} lacks its parameter ${parameter}.`);
    return value;
  });
}

/** Reads a row of a statement of which only the number of rows matters. */
export function noColumns(): true {
  return true;
}
