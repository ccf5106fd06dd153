import type { IncomingMessage } from 'node:http';

import { type ArgumentsHost, Catch, type ExceptionFilter, Logger, UnauthorizedException } from '@nestjs/common';
import { BaseExceptionFilter, HttpAdapterHost } from '@nestjs/core';
import { LinkRefusedError, TokensError, TokensExceptionFilter } from 'nestjs-idp-tokens';

/**
 * Leads a browser that opened a route itself back to the page, because a person cannot read problem details. Browsers
 * that come from the provider do that. The page gets only the reason and has a text for it, so that no link can put a
 * text onto the page. Scripts get the answers that they get without this filter.
 */
@Catch(TokensError, UnauthorizedException)
export class BackToPageFilter implements ExceptionFilter<TokensError | UnauthorizedException> {
  readonly #logger = new Logger(BackToPageFilter.name);
  readonly #tokensErrors: TokensExceptionFilter;

  constructor(private readonly adapterHost: HttpAdapterHost) {
    this.#tokensErrors = new TokensExceptionFilter(adapterHost);
  }

  catch(error: TokensError | UnauthorizedException, host: ArgumentsHost): void {
    const { httpAdapter } = this.adapterHost;
    const { headers } = host.switchToHttp().getRequest<IncomingMessage>();
    if (headers.accept?.includes('text/html')) {
      if (error instanceof TokensError) this.#logger.warn(`${error.code}: ${error.message}`);
      const query = new URLSearchParams({ refused: reasonOf(error) });
      httpAdapter.redirect(host.switchToHttp().getResponse(), 303, `/?${query.toString()}`);
    } else if (error instanceof TokensError) {
      this.#tokensErrors.catch(error, host);
    } else {
      new BaseExceptionFilter(httpAdapter).catch(error, host);
    }
  }
}

function reasonOf(error: TokensError | UnauthorizedException): string {
  if (error instanceof LinkRefusedError) return error.reason;
  return error instanceof TokensError ? error.code : 'signed_out';
}
