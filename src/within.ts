/**
 * Settles as the work does, or resolves to what `late` gives when it takes longer; the work goes on. By a plain timer: one that is
 * ended by an AbortSignal makes an error with a stack for each wait that was short enough.
 */
export async function within<T, Late>(work: Promise<T>, timeoutMs: number, late: () => Late): Promise<T | Late> {
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<Late>((resolve) => {
    timer = setTimeout(() => {
      resolve(late());
    }, timeoutMs);
  });
  try {
    return await Promise.race([work, timeout]);
  } finally {
    clearTimeout(timer);
  }
}
