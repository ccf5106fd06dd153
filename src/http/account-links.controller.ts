import {
  Body,
  Delete,
  Get,
  Header,
  HttpCode,
  Inject,
  Param,
  Post,
  Query,
  Redirect,
  Req,
  UnauthorizedException,
  UseFilters,
} from '@nestjs/common';

import { AccountLinks, type BeginLinkOptions, type LinkedAccount } from '../account-links/account-links.js';
import type { AccountConnection } from '../storage/auth-tokens/auth-tokens-link.statements.js';
import { InvalidTokenInputError } from '../tokens.errors.js';
import { BEGIN, CALLBACK, described, FINISH, LIST, UNLINK } from './account-links.description.js';
import { HttpSettings } from './http.options.js';
import { property } from './request-of-call.js';
import { TokensExceptionFilter } from './tokens-exception.filter.js';

/** A connection, as the client gets it. Its times are ISO 8601 in UTC. */
export type ConnectionAnswer = {
  readonly [Field in keyof AccountConnection]:
    Exclude<AccountConnection[Field], Date> | (Date extends AccountConnection[Field] ? string : never);
};

/**
 * The routes by which users connect accounts. A host extends the class, and gives it a path by `@Controller` and a guard
 * that authenticates the user by `@UseGuards`. The class reads the user from the request by the option `userId`, and
 * answers 401 without one. Errors are `application/problem+json` by {@link TokensExceptionFilter}. It works on Express
 * and on Fastify.
 *
 * A method that the host overrides needs its decorators again, because they belong to the method.
 *
 * Two ways lead back from the provider. A host whose users have a session cookie registers `GET /:idp/callback` as the
 * redirect URI. A single-page application registers a page of its own, and posts the query that the page got to
 * `POST /:idp/callback`, with its bearer token.
 */
@UseFilters(TokensExceptionFilter)
export abstract class AccountLinksController {
  @Inject(AccountLinks)
  protected readonly accountLinks!: AccountLinks;

  @Inject(HttpSettings)
  protected readonly httpSettings!: HttpSettings;

  /** Lists the connections of the user, without a token. */
  @Get()
  @Header('Cache-Control', 'no-store')
  @described(LIST)
  async list(@Req() request: object): Promise<ConnectionAnswer[]> {
    const connections = await this.accountLinks.list(this.#userOf(request));
    return connections.map(({ connectedAt, refreshedAt, accessTokenExpiresAt, refreshTokenExpiresAt, ...facts }) => ({
      ...facts,
      connectedAt: connectedAt.toISOString(),
      refreshedAt: refreshedAt.toISOString(),
      accessTokenExpiresAt: accessTokenExpiresAt?.toISOString() ?? null,
      refreshTokenExpiresAt: refreshTokenExpiresAt?.toISOString() ?? null,
    }));
  }

  /** Begins to link an account. The body has the options of {@link AccountLinks.begin}, or is absent. */
  @Post(':idp')
  @Header('Cache-Control', 'no-store')
  @described(BEGIN)
  async begin(
    @Req() request: object,
    @Param('idp') idp: string,
    @Body() body: unknown,
  ): Promise<{ authorizationUrl: string; expiresAt: string }> {
    const { authorizationUrl, expiresAt } = await this.accountLinks.begin(
      this.#userOf(request),
      idp,
      optionsIn(body ?? {}),
    );
    return { authorizationUrl, expiresAt: expiresAt.toISOString() };
  }

  /** Finishes a link in the browser of a user with a session cookie, and sends the browser to `returnTo`, or to `/`. */
  @Get(':idp/callback')
  @Redirect(undefined, 303)
  @Header('Cache-Control', 'no-store')
  @Header('Referrer-Policy', 'no-referrer')
  @described(CALLBACK)
  async callback(
    @Req() request: object,
    @Param('idp') idp: string,
    @Query() query: Record<string, unknown>,
  ): Promise<{ url: string }> {
    const { returnTo } = await this.accountLinks.finish(this.#userOf(request), query, { idp });
    return { url: returnTo ?? '/' };
  }

  /** Finishes a link for a client that posts the query that it got from the provider, as an object. */
  @Post(':idp/callback')
  @HttpCode(200)
  @Header('Cache-Control', 'no-store')
  @described(FINISH)
  async finish(@Req() request: object, @Param('idp') idp: string, @Body() query: unknown): Promise<LinkedAccount> {
    const parameters = typeof query === 'object' && query !== null ? { ...query } : {};
    return this.accountLinks.finish(this.#userOf(request), parameters, { idp });
  }

  /** Ends a connection. The query can name an `account`. The answer is the same if there was no connection. */
  @Delete(':idp')
  @HttpCode(204)
  @described(UNLINK)
  async unlink(@Req() request: object, @Param('idp') idp: string, @Query('account') account: unknown): Promise<void> {
    if (account !== undefined && typeof account !== 'string') throw badOption('account');
    await this.accountLinks.unlink(this.#userOf(request), idp, { account });
  }

  #userOf(request: object): string {
    const userId = this.httpSettings.userId(request);
    if (!userId) throw new UnauthorizedException();
    return userId;
  }
}

/** Returns the options in a body, whose fields can be anything. {@link AccountLinks.begin} checks `scopes`. */
function optionsIn(body: unknown): BeginLinkOptions {
  const [scopes, returnTo, account, replaceAccount] = ['scopes', 'returnTo', 'account', 'replaceAccount'].map(
    (name) => property(body, name) ?? undefined,
  );
  if (scopes !== undefined && !Array.isArray(scopes)) throw badOption('scopes');
  if (returnTo !== undefined && typeof returnTo !== 'string') throw badOption('returnTo');
  if (account !== undefined && typeof account !== 'string') throw badOption('account');
  if (replaceAccount !== undefined && typeof replaceAccount !== 'boolean') throw badOption('replaceAccount');
  return { scopes: scopes as string[] | undefined, returnTo, account, replaceAccount };
}

function badOption(name: string): InvalidTokenInputError {
  return new InvalidTokenInputError(`The request has a bad "${name}".`);
}
