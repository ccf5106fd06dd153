import { inspect } from 'node:util';

/**
 * An object with secrets in private fields. It is logged, serialised and inspected as its `toJSON` says, so that a log line
 * that prints the object by accident has no secret.
 */
export abstract class SecretHolder {
  /** What may be printed. */
  abstract toJSON(): object;

  [inspect.custom](): string {
    return `${this.constructor.name} ${inspect(this.toJSON())}`;
  }
}
