/**
 * Settles as the work does, or resolves to what `late` returns if the work takes longer than `timeoutMs`. The work then
 * continues. A timer that an AbortSignal ends is no alternative, because it makes an error with a stack for each work
 * that settles in time.
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
