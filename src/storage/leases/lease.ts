/** The right to redeem one row's refresh token, and the row at the moment it was given. */
export interface Lease<Row> {
  readonly id: string;
  readonly row: Row;
  /** The database's present in epoch seconds: its clock at the grant, carried on by the monotonic clock of the process. */
  now(): number;
  /** What the monotonic clock of the process certainly leaves of the lease, in milliseconds. */
  leftMs(): number;
}

/** A lease that was asked for at `askedAt` on the monotonic clock, and granted at `grantedAt` on the database's. */
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
