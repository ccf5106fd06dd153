import { randomBytes } from 'node:crypto';
import { chmod, mkdir, readFile, symlink } from 'node:fs/promises';
import { join, posix } from 'node:path';

import { afterAll, beforeAll, describe, expect, it, jest } from '@jest/globals';
import ts from 'typescript';

import { type Consumer, createConsumer, packProject, type PackedPackage } from './support/packed-package.js';
import { createTestDatabase, type TestDatabase } from './support/test-database.js';

/** Two compilers run here, so the tests need more time than the default. */
jest.setTimeout(120_000);

/** Returns a program that boots an application, stores a token and prints it. The head imports the package. */
function program(head: string, user: string): string {
  return `${head}
class AppModule {}

async function main() {
  const app = await NestFactory.createApplicationContext(
    {
      module: AppModule,
      imports: [
        TypeOrmModule.forRoot({ type: 'postgres', url: process.env.DATABASE_URL, entities: tokensEntities, retryAttempts: 0 }),
        TokensModule.forRoot({
          encryption: { keys: [{ id: 'consumer', secret: process.env.TOKENS_SECRET }] },
          identityProviders: { github: { clientId: 'id', clientSecret: 'secret' } },
        }),
      ],
    },
    { logger: ['error', 'warn'], abortOnError: false },
  );
  const tokens = app.get(TokenManager);
  await tokens.storeIdpTokens('${user}', 'github', { accessToken: 'the token of ${user}' });
  const { accessToken } = await tokens.getIdpToken('${user}', 'github');
  await app.close();
  console.log(accessToken);
}
main();
`;
}

const esmProgram = program(
  `import { TokenManager, tokensEntities, TokensModule } from 'nestjs-idp-tokens';
import { NestFactory } from '@nestjs/core';
import { TypeOrmModule } from '@nestjs/typeorm';`,
  'an ESM user',
);

const cjsProgram = program(
  `const { TokenManager, tokensEntities, TokensModule } = require('nestjs-idp-tokens');
const { NestFactory } = require('@nestjs/core');
const { TypeOrmModule } = require('@nestjs/typeorm');`,
  'a CommonJS user',
);

/** A configuration file of the command line, in CommonJS. */
const configFile = `
const { defineTokensConfig } = require('nestjs-idp-tokens');
module.exports = defineTokensConfig({
  dataSource: { type: 'postgres', url: process.env.DATABASE_URL },
  tokens: {
    encryption: { keys: [{ id: 'consumer', secret: process.env.TOKENS_SECRET }] },
    identityProviders: { github: { clientId: 'id', clientSecret: 'secret' } },
  },
});
`;

const bothProgram = `
const required = require('nestjs-idp-tokens');
import('nestjs-idp-tokens').then((imported) => {
  console.log(Object.keys(imported).filter((name) => name !== 'module.exports' && imported[name] !== required[name]));
});
`;

/** A program of a host that checks the types of the package. */
const typedProgram = `
import { Controller, Get, Injectable, Module, UseGuards, UseInterceptors } from '@nestjs/common';
import {
  type TokenKey,
  AuthTokenStore,
  completePolicy,
  type IdentityProvider,
  IdpToken,
  IdpTokenGuard,
  ProviderType,
  QueryRunnerInterceptor,
  QueryRunnerScope,
  ReauthenticationRequiredError,
  RequireIdpToken,
  type StoredTokens,
  TokenManager,
  TokensError,
  type TokensErrorCode,
  TokensExceptionFilter,
  TokensModule,
  type TokensModuleOptions,
} from 'nestjs-idp-tokens';

const acme: IdentityProvider = {
  policy: completePolicy({ replayWindowMs: 60_000 }),
  refresh: (refreshToken: string) => Promise.resolve({ kind: 'terminal', code: refreshToken && 'invalid_grant' }),
};

@Injectable()
class Options {
  createTokensOptions(): TokensModuleOptions {
    return {
      encryption: { keys: [{ id: '2026', secret: '…' }, { id: 'legacy', legacyFernetSecret: '…' }] },
      identityProviders: {
        [ProviderType.GITHUB]: { clientId: 'id', clientSecret: 'secret' },
        gitlab: { clientId: 'id', clientSecret: 'secret', baseUrl: 'https://gitlab.example.com/git' },
        initech: { clientId: 'id', clientSecret: 'secret', tokenEndpoint: 'https://initech.example.com/token' },
        acme,
      },
      refresh: { leewaySeconds: 60 },
      userId: (request) => (request as { account?: string }).account,
    };
  }
}

@Controller()
@UseGuards(IdpTokenGuard)
@UseInterceptors(QueryRunnerInterceptor)
class RepositoriesController {
  constructor(
    private readonly tokens: TokenManager,
    private readonly store: AuthTokenStore,
    private readonly scope: QueryRunnerScope,
  ) {}

  @Get()
  @RequireIdpToken('acme', ProviderType.GITHUB)
  async list(@IdpToken('acme') token: IdpToken): Promise<string> {
    await this.scope.run(async (queryRunner) => {
      await queryRunner.query('SELECT 1');
      await this.tokens.storeIdpTokens('user', 'acme', { accessToken: 'x', accessTokenExpiresAt: 0 });
    });
    const key: TokenKey = { keycloakUserId: 'user', idp: 'acme' };
    const stored: StoredTokens | null = await this.store.loadTokens(key);
    if (stored) await this.store.storeTokens(key, stored);
    // @ts-expect-error a token in plaintext is not a sealed one
    if (stored) await this.store.storeTokens(key, { ...stored, accessToken: 'plaintext' });
    // @ts-expect-error what only the module may call is not in the types
    this.scope.transaction();
    const { expiresAt, version } = await this.tokens.getIdpToken('user', 'acme', { rejectedVersion: token.version });
    return token.accessToken + expiresAt.toFixed() + version;
  }
}

@Module({
  imports: [TokensModule.forRootAsync({ useClass: Options, isGlobal: true, dataSource: 'tokens' })],
  controllers: [RepositoriesController],
  providers: [TokensExceptionFilter],
})
export class AppModule {}

// @ts-expect-error the encryption is not optional
TokensModule.forRoot({ identityProviders: {} });

// @ts-expect-error at least one provider
RequireIdpToken();

export function codeOf(error: unknown): TokensErrorCode | undefined {
  if (error instanceof ReauthenticationRequiredError && error.reason === 'refresh_rejected') return error.code;
  return error instanceof TokensError && error.retryable ? error.code : undefined;
}
`;

const typeScriptOptions = {
  compilerOptions: {
    target: 'ES2023',
    module: 'NodeNext',
    strict: true,
    noEmit: true,
    types: ['node'],
    experimentalDecorators: true,
    emitDecoratorMetadata: true,
  },
  files: ['app.mts', 'app.cts'],
};

/** All programs have one key, because the registry of the database refuses others. */
const secret = randomBytes(32).toString('base64');

let database: TestDatabase;
let packed: PackedPackage;
let consumer: Consumer;

beforeAll(async () => {
  database = await createTestDatabase();
  packed = await packProject({
    '.env': 'TOKENS_SECRET=secret',
    'test/some.e2e-spec.ts': '',
    'src/some.spec.ts': '',
    'notes.txt': '',
  });
  consumer = await createConsumer(
    packed,
    {
      'package.json': '{ "name": "consumer", "private": true }',
      'idp-tokens.config.cjs': configFile,
      'esm.mjs': esmProgram,
      'cjs.cjs': cjsProgram,
      'both.cjs': bothProgram,
      'app.mts': typedProgram,
      'app.cts': typedProgram,
      'tsconfig.json': JSON.stringify(typeScriptOptions),
    },
    // A host that checks declaration files (skipLibCheck is off) needs @types/pg, because pg has no types of its own.
    ['typescript', '@types/node', '@types/pg'],
  );
});

afterAll(async () => {
  await consumer.remove();
  await packed.remove();
  await database.drop();
});

function runNode(script: string): ReturnType<Consumer['run']> {
  return consumer.run(process.execPath, ['--disable-warning=ExperimentalWarning', script], {
    DATABASE_URL: database.url,
    TOKENS_SECRET: secret,
  });
}

describe('The packed package', () => {
  it('holds the build and the documents, and nothing else', () => {
    const published =
      /^(package\.json|README\.md|LICENSE|CHANGELOG\.md|SECURITY\.md|docs\/.+|examples\/.+\.ts|examples\/page\/.+\.(html|css|js|svg)|dist\/.+\.(js|js\.map|d\.ts)|dist\/cjs\/package\.json|dist\/cjs\/vendor\/\w+\/LICENSE\.md)$/;
    expect(packed.files.filter((path) => !published.test(path))).toEqual([]);
    expect(packed.files.filter((path) => /\bspec\b/.test(path))).toEqual([]);
    expect(packed.files).toEqual(
      expect.arrayContaining(['package.json', 'dist/index.js', 'dist/index.d.ts', 'dist/cjs/vendor/jose/LICENSE.md']),
    );
  });

  it('has every file and folder to which its documents link', async () => {
    const root = join(consumer.folder, 'node_modules/nestjs-idp-tokens');
    const links: string[] = [];
    for (const document of packed.files.filter((path) => path.endsWith('.md'))) {
      const text = await readFile(join(root, document), 'utf8');
      for (const [, link = ''] of text.matchAll(/\]\((?!https?:|#)([^)#\s]+)/g)) {
        links.push(posix.join(posix.dirname(document), link));
      }
    }
    expect(links).toEqual(expect.arrayContaining(['SECURITY.md', 'examples', 'docs/glossary.md']));
    expect(links.filter((link) => !packed.files.some((file) => `${file}/`.startsWith(`${link}/`)))).toEqual([]);
  });

  it.each(['dist', 'dist/cjs'])(
    'has source maps in %s that hold their sources, which are not in the package',
    async (build) => {
      const path = join(consumer.folder, 'node_modules/nestjs-idp-tokens', build, 'tokens.module.js.map');
      const { sourcesContent } = JSON.parse(await readFile(path, 'utf8')) as { sourcesContent?: string[] };
      expect(sourcesContent).toEqual([expect.stringContaining('export class TokensModule')]);
    },
  );

  it('works when it is imported from an ES module, with what package.json declares and no more', async () => {
    await expect(runNode('esm.mjs')).resolves.toEqual({ exitCode: 0, output: 'the token of an ESM user\n' });
  });

  it('works when it is required from CommonJS', async () => {
    await expect(runNode('cjs.cjs')).resolves.toEqual({ exitCode: 0, output: 'the token of a CommonJS user\n' });
  });

  it('has a command line that npx runs, with a configuration file of the host', async () => {
    const installed = join(consumer.folder, 'node_modules/nestjs-idp-tokens');
    const manifest = JSON.parse(await readFile(join(installed, 'package.json'), 'utf8')) as {
      bin: Record<string, string>;
    };
    const name = 'idp-tokens';
    const path = manifest.bin[name] ?? '';
    // As npm links the programs of a package that it installs.
    await mkdir(join(consumer.folder, 'node_modules/.bin'), { recursive: true });
    await symlink(join(installed, path), join(consumer.folder, 'node_modules/.bin', name));
    await chmod(join(installed, path), 0o755);
    const npx = async (...words: string[]) => {
      const { exitCode, output } = await consumer.run('npx', ['--no-install', name, ...words, '--json'], {
        DATABASE_URL: database.url,
        TOKENS_SECRET: secret,
        NO_UPDATE_NOTIFIER: '1',
      });
      return { exitCode, answer: JSON.parse(output) as object };
    };
    await expect(npx('keys', 'status')).resolves.toMatchObject({
      exitCode: 0,
      answer: { command: 'keys status', ok: true },
    });
    await expect(npx('status', '--config', 'missing.mjs')).resolves.toMatchObject({
      exitCode: 2,
      answer: { ok: false },
    });
  });

  it('is one package for both: the classes are the same', async () => {
    await expect(runNode('both.cjs')).resolves.toEqual({ exitCode: 0, output: '[]\n' });
  });

  it('type-checks in a strict host, declarations included, from ES modules and CommonJS', async () => {
    const tsc = join(consumer.folder, 'node_modules/typescript/bin/tsc');
    await expect(consumer.run(process.execPath, [tsc, '-p', '.'])).resolves.toEqual({ exitCode: 0, output: '' });
  });

  it('documents every export and every public method for whoever hovers over it', () => {
    expect(undocumented(join(consumer.folder, 'node_modules/nestjs-idp-tokens/dist/index.d.ts'))).toEqual([]);
  });
});

/** Returns the exports of a declaration file, and the methods of its classes, that have no doc comment. */
function undocumented(file: string): string[] {
  const host = ts.createProgram([file], { module: ts.ModuleKind.NodeNext, target: ts.ScriptTarget.ES2023, types: [] });
  const checker = host.getTypeChecker();
  const source = host.getSourceFile(file);
  const index = source && checker.getSymbolAtLocation(source);
  const symbols = index ? checker.getExportsOfModule(index) : [];
  if (symbols.length === 0) throw new Error(`${file} exports nothing.`);
  return symbols.flatMap((exported) => {
    const symbol = exported.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(exported) : exported;
    const methods = [...(symbol.members?.values() ?? [])].filter((member) => member.flags & ts.SymbolFlags.Method);
    return [symbol, ...methods.filter(isOurs)]
      .filter((documented) => documented.getDocumentationComment(checker).length + tagsOf(documented, checker) === 0)
      .map(({ name }) => (name === symbol.name ? exported.name : `${exported.name}.${name}`));
  });
}

/** Returns false for a method whose meaning Node or Nest defines. */
function isOurs({ name }: ts.Symbol): boolean {
  return !name.startsWith('__') && !['toJSON', 'canActivate', 'catch', 'intercept', 'onModuleInit'].includes(name);
}

function tagsOf(symbol: ts.Symbol, checker: ts.TypeChecker): number {
  return symbol.getJsDocTags(checker).filter(({ name }) => name === 'see').length;
}
