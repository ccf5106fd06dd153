import type { AnyTokensError } from '../../src/index.js';

/** What a host can see of every error of the module. */
export interface Failure {
  readonly name: string;
  readonly code: string;
  readonly message: string;
  readonly retryable: boolean;
}

/** Returns the error of a call. Rejects if the call does not fail. */
export async function failureOf(call: Promise<unknown> | (() => unknown)): Promise<Failure> {
  let result: unknown;
  try {
    result = await (typeof call === 'function' ? call() : call);
  } catch (error) {
    const { name, code, message, retryable } = error as AnyTokensError;
    return { name, code, message, retryable };
  }
  throw new Error(`The call did not fail. It returned ${JSON.stringify(result)}.`);
}
