import { describeForeignError } from '../foreign-error.js';
import { within } from '../within.js';
import type { EncryptionKeysLoader } from './encryption.options.js';

/** How long the function of the host may take, in milliseconds. Orchestrators wait about as long for a boot. */
const DEADLINE_MS = 30_000;

/** The key ring of the options, not validated, or the reason why there is none. */
export type LoadedKeys = { readonly keys: unknown } | { readonly fault: string };

/**
 * Calls the function of the host that returns the key ring. Never rejects. The fault has the name and the code of the
 * error, but not its message, because clients of secret stores put requests and answers into it.
 */
export async function loadKeys(load: EncryptionKeysLoader, deadlineMs = DEADLINE_MS): Promise<LoadedKeys> {
  const late = { fault: `encryption.keys did not return the keys within ${deadlineMs / 1000} s` };
  try {
    const loading = Promise.resolve(load()).then((loaded) => ({ keys: loaded }));
    return await within(loading, deadlineMs, () => late);
  } catch (error) {
    return { fault: `encryption.keys could not get the keys, because it threw ${describeForeignError(error)}` };
  }
}
