/** Waits until a condition holds. Rejects if it does not hold within the time. */
export async function until(condition: () => boolean | Promise<boolean>, timeoutMs = 10_000): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!(await condition())) {
    if (performance.now() > deadline) {
      throw new Error(`The condition did not hold within ${timeoutMs} ms: ${String(condition)}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
