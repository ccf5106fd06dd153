import { basename } from 'node:path';

import { codeBlocksOf } from './documents.js';

/** Where a program of a reader would have a file of its own, the documents have this one. */
const STAND_INS: Readonly<Record<string, string>> = {
  './app.module.js': 'export class AppModule {}',
  './github.js': `
    import { type CanActivate, Controller, type ExecutionContext, Get, Injectable, UseFilters, UseGuards } from '@nestjs/common';
    import { IdpToken, IdpTokenGuard, RequireIdpToken, TokenManager, TokensExceptionFilter } from 'nestjs-idp-tokens';
    @Injectable()
    export class AuthGuard implements CanActivate {
      canActivate(context: ExecutionContext): boolean {
        const request = context.switchToHttp().getRequest<{ headers: { authorization: string }; user: { sub: string } }>();
        request.user = { sub: request.headers.authorization };
        return true;
      }
    }
    @Controller('github')
    @UseGuards(AuthGuard, IdpTokenGuard)
    @UseFilters(TokensExceptionFilter)
    export class GitHubController {
      @Get('token')
      @RequireIdpToken('github')
      token(@IdpToken('github') token: IdpToken): string {
        return token.accessToken.length + ' characters';
      }
    }
    @Injectable()
    export class GitHubService {
      constructor(private readonly tokens: TokenManager) {}
      async disconnect(userId: string): Promise<void> {
        await this.tokens.revokeIdpTokens(userId, 'github');
      }
    }`,
  './login.js': `
    import type { CanActivate, ExecutionContext } from '@nestjs/common';
    export class AuthGuard implements CanActivate {
      canActivate(context: ExecutionContext): boolean {
        context.switchToHttp().getRequest<{ user: { sub: string } }>().user = { sub: 'ada' };
        return true;
      }
    }`,
};

/** What a fragment may use without saying where it is from. */
const SURROUNDINGS = `
import type { OAuth2Options, TokenManager, TokensModuleOptions } from 'nestjs-idp-tokens';
declare const clientId: string, clientSecret: string, url: string;
declare const rest: OAuth2Options;
declare const tokenManager: TokenManager;`;

/**
 * Returns the TypeScript of a document as files of a project, by their paths. There are four kinds of blocks:
 *
 * - A block whose first line is a comment with a path, such as `// src/main.ts`, is this file.
 * - A block with an `import` or an `export` is a file with a name of its own.
 * - A block that begins with `name: {` is a part of the options of the module.
 * - Every other block is a sequence of statements.
 *
 * The last two are wrapped. They may use what is exported by the files before them, and the names of SURROUNDINGS.
 */
export async function programsOf(document: string): Promise<Record<string, string>> {
  const blocks = (await codeBlocksOf(document)).filter(({ language }) => language === 'ts');
  const files: Record<string, string> = {};
  for (const { code, line } of blocks) {
    const path = /^\/\/ (src\/\S+\.ts)$/m.exec(code.split('\n', 1)[0] ?? '')?.[1] ?? `src/line-${line}.ts`;
    if (files[path] !== undefined) throw new Error(`${document}:${line} has ${path} a second time.`);
    const isFile = /^(import|export) /m.test(code);
    files[path] = isFile ? code : `${importsFor(code, files)}${SURROUNDINGS}\n${wrapped(code)}`;
  }
  for (const code of Object.values(files)) {
    for (const [, from = ''] of code.matchAll(/ from '(\.\/[^']+)'/g)) {
      const path = `src/${basename(from, '.js')}.ts`;
      const standIn = STAND_INS[from];
      if (files[path] === undefined && standIn !== undefined) files[path] = standIn;
    }
  }
  return files;
}

function wrapped(code: string): string {
  const firstLine = code.split('\n').find((line) => line.trim() !== '' && !line.trim().startsWith('//')) ?? '';
  return /^['\w-]+: \{$/.test(firstLine)
    ? `export const options: Partial<TokensModuleOptions> = {\n${code}\n};`
    : `export async function run(): Promise<void> {\n${code}\n}`;
}

/** Returns the imports of what a fragment uses of the files before it. */
function importsFor(fragment: string, files: Record<string, string>): string {
  return Object.entries(files)
    .flatMap(([path, code]) =>
      [...code.matchAll(/^export (?:class|function|const) (\w+)/gm)]
        .filter(([, name = '']) => new RegExp(`\\b${name}\\b`).test(fragment))
        .map(([, name = '']) => `import { ${name} } from './${basename(path, '.ts')}.js';\n`),
    )
    .join('');
}
