import type { Adapter, AdapterFactory, AdapterPayload } from 'oidc-provider';

interface Entry {
  readonly payload: AdapterPayload;
  /** Epoch milliseconds. */
  readonly expiresAt: number;
}

/**
 * Makes a storage for an `oidc-provider` that keeps its entries until the process ends. The adapter of the package
 * forgets the oldest of more than 1,000 entries. A test with many users would take that for a revoked grant.
 */
export function mapStorage(): AdapterFactory {
  return () => new MapAdapter();
}

/** The entries of one model. The provider makes one adapter for each model. */
class MapAdapter implements Adapter {
  readonly #entries = new Map<string, Entry>();

  upsert(id: string, payload: AdapterPayload, expiresInSeconds = Infinity): Promise<void> {
    this.#entries.set(id, { payload, expiresAt: Date.now() + expiresInSeconds * 1000 });
    return Promise.resolve();
  }

  find(id: string): Promise<AdapterPayload | undefined> {
    const entry = this.#entries.get(id);
    return Promise.resolve(entry && entry.expiresAt > Date.now() ? entry.payload : undefined);
  }

  findByUid(uid: string): Promise<AdapterPayload | undefined> {
    return Promise.resolve(this.#payloads().find((payload) => payload.uid === uid));
  }

  findByUserCode(userCode: string): Promise<AdapterPayload | undefined> {
    return Promise.resolve(this.#payloads().find((payload) => payload.userCode === userCode));
  }

  consume(id: string): Promise<void> {
    const entry = this.#entries.get(id);
    if (entry) entry.payload.consumed = Math.floor(Date.now() / 1000);
    return Promise.resolve();
  }

  destroy(id: string): Promise<void> {
    this.#entries.delete(id);
    return Promise.resolve();
  }

  revokeByGrantId(grantId: string): Promise<void> {
    for (const [id, { payload }] of this.#entries) {
      if (payload.grantId === grantId) this.#entries.delete(id);
    }
    return Promise.resolve();
  }

  #payloads(): AdapterPayload[] {
    return [...this.#entries.values()].filter(({ expiresAt }) => expiresAt > Date.now()).map(({ payload }) => payload);
  }
}
