import type { KoaContextWithOIDC } from 'oidc-provider';

import { COUNTS_PATH, type RequestCounts } from './request-counts.js';

/**
 * Counts the answers of the token and revocation endpoints of an `oidc-provider`, and serves the counts at {@link
 * COUNTS_PATH}.
 */
export class RequestCounter {
  readonly #counts = { codeGrants: 0, refreshGrants: 0, refusedGrants: 0, revocations: 0 } satisfies RequestCounts;

  /** Koa middleware for `provider.use`. */
  readonly middleware = async (ctx: KoaContextWithOIDC, next: () => Promise<void>): Promise<void> => {
    if (ctx.path === COUNTS_PATH) {
      ctx.body = this.#counts;
      return;
    }
    await next();
    if (ctx.path === '/token') this.#countGrant(ctx);
    if (ctx.path === '/token/revocation' && ctx.status === 200) this.#counts.revocations++;
  };

  #countGrant(ctx: KoaContextWithOIDC): void {
    if (ctx.status !== 200) this.#counts.refusedGrants++;
    else if (ctx.oidc.params?.grant_type === 'refresh_token') this.#counts.refreshGrants++;
    else this.#counts.codeGrants++;
  }
}
