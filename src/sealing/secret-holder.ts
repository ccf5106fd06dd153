import { inspect } from 'node:util';

/**
 * An object with secrets in private fields. Loggers, `JSON.stringify` and `inspect` print the result of its `toJSON`.
 * So a log line that contains the object by accident contains no secret.
 */
export abstract class SecretHolder {
  /** Returns the fields that are no secret. */
  abstract toJSON(): object;

  /** Returns what `console.log` and `inspect` print: the name of the class and the fields of {@link toJSON}. */
  [inspect.custom](): string {
    return `${this.constructor.name} ${inspect(this.toJSON())}`;
  }
}
