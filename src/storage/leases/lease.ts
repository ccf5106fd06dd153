/** The right of this process to redeem the refresh token of one row, and the row as it was at the grant. */
export interface Lease<Row> {
  readonly id: string;
  readonly row: Row;
  /**
   * Returns the present time of the database in epoch seconds: its time at the grant, and what the monotonic clock of
   * the process has counted since the answer.
   */
  now(): number;
  /**
   * Returns how long the lease lasts at least, in milliseconds. The monotonic clock of the process counts from the
   * request.
   */
  leftMs(): number;
}

/**
 * Returns a lease. The process asked for it at `askedAt`, in milliseconds of its monotonic clock. PostgreSQL granted it
 * at `grantedAt`, in epoch seconds of the database.
 */
export function leaseOf<Row>(
  id: string,
  row: Row,
  { leaseMs, askedAt, grantedAt }: { leaseMs: number; askedAt: number; grantedAt: number },
): Lease<Row> {
  const answeredAt = performance.now();
  return {
    id,
    row,
    now: () => grantedAt + (performance.now() - answeredAt) / 1000,
    leftMs: () => leaseMs - (performance.now() - askedAt),
  };
}
