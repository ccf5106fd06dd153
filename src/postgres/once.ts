/** A function that computes its value with the first call, and gives the same one afterwards. */
export function once<T extends object>(compute: () => T): () => T {
  let value: T | undefined;
  return () => (value ??= compute());
}
