/** Returns a function that computes its value at the first call, and returns the same value at each later call. */
export function once<T extends object>(compute: () => T): () => T {
  let value: T | undefined;
  return () => (value ??= compute());
}
