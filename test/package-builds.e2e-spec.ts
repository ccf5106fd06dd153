import { randomBytes } from 'node:crypto';
import { mkdir, readdir, readFile, readlink, rm, symlink, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';

import { afterAll, beforeAll, describe, expect, it, jest } from '@jest/globals';
import ts from 'typescript';

import { type Consumer, createConsumer, packProject, type PackedPackage } from './support/packed-package.js';
import { createTestDatabase, type TestDatabase } from './support/test-database.js';

/** A build, two compilers and a bundler run here, so the tests need more time than the default. */
jest.setTimeout(120_000);

/** A dependency of the host. It requires the package, as every CommonJS library does. */
const library = {
  'node_modules/library/package.json': '{ "name": "library", "main": "index.js", "types": "index.d.ts" }',
  'node_modules/library/index.js': `
const tokens = require('nestjs-idp-tokens');
exports.tokens = tokens;
exports.find = (app) => app.get(tokens.TokenManager);`,
  'node_modules/library/index.d.ts': `
import * as tokens from 'nestjs-idp-tokens';
export { tokens };
export declare function find(app: object): tokens.TokenManager;`,
};

/** A host that imports the package. It has a dependency that requires it. */
const hostProgram = `
import { NestFactory } from '@nestjs/core';
import { TypeOrmModule } from '@nestjs/typeorm';
import * as imported from 'nestjs-idp-tokens';
import { find, tokens as required } from 'library';

const { TokenManager, tokensEntities, TokensModule, TokensNotFoundError } = imported;
class AppModule {}
const app = await NestFactory.createApplicationContext(
  {
    module: AppModule,
    imports: [
      TypeOrmModule.forRoot({ type: 'postgres', url: process.env.DATABASE_URL, entities: required.tokensEntities }),
      TokensModule.forRoot({
        encryption: { keys: [{ id: 'host', secret: process.env.TOKENS_SECRET }] },
        identityProviders: { github: { clientId: 'id', clientSecret: 'secret' } },
      }),
    ],
  },
  { logger: ['error', 'warn'], abortOnError: false },
);
const manager = find(app);
const error = await manager.getIdpToken('ada', 'github').catch((reason) => reason);
console.log(JSON.stringify({
  different: Object.keys(required).filter((name) => imported[name] !== required[name]),
  isManager: manager instanceof TokenManager && manager === app.get(TokenManager),
  isError: error instanceof TokensNotFoundError && error instanceof required.TokensError,
  areEntities: tokensEntities === required.tokensEntities,
}));
await app.close();
`;

const ONE_COPY = { different: [], isManager: true, isError: true, areEntities: true };

/** Prints what Nest and TypeORM read of the classes of a build: names, and the types that dependency injection needs. */
const metadataProgram = (build: string) => `
import('nestjs-idp-tokens/package.json', { with: { type: 'json' } }).then(async () => {
  const { createRequire } = await import('node:module');
  const file = '${build}';
  const tokens = file.includes('cjs') ? createRequire(import.meta.url)(file) : await import(file);
  const nameOf = (token) => (typeof token === 'function' ? token.name : String(token));
  const typesOf = (target) => (Reflect.getMetadata('design:paramtypes', target) ?? []).map(nameOf);
  const providers = Reflect.getMetadata('providers', tokens.TokensModule);
  console.log(JSON.stringify({
    exports: Object.keys(tokens).filter((name) => name !== 'module.exports').sort(),
    names: Object.values(tokens).filter((value) => typeof value === 'function').map(nameOf).sort(),
    migrations: tokens.tokensMigrations.map(nameOf),
    entities: tokens.tokensEntities.map(nameOf),
    providers: providers.map((provider) => [nameOf(provider.provide ?? provider), typesOf(provider)]),
    guards: [tokens.IdpTokenGuard, tokens.KeycloakAuthGuard].map((guard) => [nameOf(guard), typesOf(guard)]),
  }));
});
`;

const BUILDS = {
  esm: './node_modules/nestjs-idp-tokens/dist/index.js',
  cjs: './node_modules/nestjs-idp-tokens/dist/cjs/index.js',
};

/** Verifies an access token by the CommonJS build, whose jose and oauth4webapi are copies. */
const keycloakProgram = `
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { exportJWK, generateKeyPair, SignJWT } from 'jose';
import { Controller, Get, Req, UseGuards } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { TypeOrmModule } from '@nestjs/typeorm';

const { KeycloakAuthGuard, tokensEntities, TokensModule } = createRequire(import.meta.url)('${BUILDS.cjs}');
const { publicKey, privateKey } = await generateKeyPair('RS256');
const server = createServer((request, response) => {
  const issuer = 'http://127.0.0.1:' + server.address().port + '/realms/acme';
  const endpoints = ['token_endpoint', 'userinfo_endpoint', 'introspection_endpoint', 'end_session_endpoint', 'jwks_uri'];
  const metadata = Object.fromEntries(endpoints.map((name) => [name, issuer + '/' + name]));
  response.setHeader('content-type', 'application/json');
  exportJWK(publicKey).then((key) => {
    const keys = [{ ...key, kid: 'key', alg: 'RS256', use: 'sig' }];
    response.end(JSON.stringify(request.url.endsWith('jwks_uri') ? { keys } : { issuer, ...metadata }));
  });
});
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
const serverUrl = 'http://127.0.0.1:' + server.address().port;
class Me {
  me({ user }) {
    return user.sub;
  }
}
Req()(Me.prototype, 'me', 0);
Get('me')(Me.prototype, 'me', Object.getOwnPropertyDescriptor(Me.prototype, 'me'));
UseGuards(KeycloakAuthGuard)(Me);
Controller()(Me);
class AppModule {}
const app = await NestFactory.create(
  {
    module: AppModule,
    imports: [
      TypeOrmModule.forRoot({ type: 'postgres', url: process.env.DATABASE_URL, entities: tokensEntities }),
      TokensModule.forRoot({
        isGlobal: true,
        encryption: { keys: [{ id: 'host', secret: process.env.TOKENS_SECRET }] },
        identityProviders: {},
        keycloak: { serverUrl, realm: 'acme', clientId: 'backend', clientSecret: 'secret' },
      }),
    ],
    controllers: [Me],
  },
  { logger: ['error', 'warn'], abortOnError: false },
);
const token = await new SignJWT({ typ: 'Bearer' }).setProtectedHeader({ alg: 'RS256', kid: 'key' }).setSubject('ada')
  .setIssuer(serverUrl + '/realms/acme').setAudience('backend').setExpirationTime('1h').sign(privateKey);
await app.listen(0, '127.0.0.1');
const answer = await fetch(await app.getUrl() + '/me', { headers: { authorization: 'Bearer ' + token } });
console.log(await answer.text());
await app.close();
server.close();
`;

const ABSENT = `
import { TokenManager, TokensModule } from 'nestjs-idp-tokens';
import { idpToken, TokensTestingModule } from 'nestjs-idp-tokens/testing';

TokensModule.forRoot({
  encryption: { keys: [{ id: 'k', secret: '', algorithm: undefined }] },
  identityProviders: {
    github: { clientId: '', clientSecret: undefined, clientAssertion: undefined, terminalErrorCodes: undefined },
  },
  refresh: { leewaySeconds: undefined },
  keycloak: undefined,
  userId: undefined,
  isGlobal: undefined,
  dataSource: undefined,
});
TokensTestingModule.forRoot({ tokens: undefined, isGlobal: undefined });
export const token = idpToken('', { expiresAt: undefined, version: undefined });
export async function use(tokens: TokenManager) {
  await tokens.storeIdpTokens('u', 'github', { accessToken: '', refreshToken: undefined, accessTokenExpiresAt: undefined });
  await tokens.reactivateIdpTokens('github', { endedAfter: undefined });
  return tokens.getIdpToken('u', 'github', { minValiditySeconds: undefined, rejectedVersion: undefined, signal: undefined });
}
`;

/** Bundles the host with the package and the library. It runs in a process of its own, because Jest has other globals. */
const bundlerProgram = `
import { rolldown } from 'rolldown';

const bundle = await rolldown({
  input: 'host.js',
  platform: 'node',
  external: (id) => !/^[./]|^(library|nestjs-idp-tokens)$/.test(id),
});
await bundle.write({ file: 'bundle.js', format: 'esm' });
`;

/** Two types of one class: a CommonJS file takes what an ES module has. */
const typedPrograms = {
  'types/taker.cts': `
import type { TokenManager } from 'nestjs-idp-tokens';
export declare function take(tokens: TokenManager): void;`,
  'types/giver.mts': `
import type { TokenManager } from 'nestjs-idp-tokens';
import { take } from './taker.cjs';
export const give = (tokens: TokenManager) => take(tokens);`,
};

/** Prints the exports of the entry point for health checks, by both builds, and what dependency injection gives them. */
const healthProgram = `
import { createRequire } from 'node:module';
import * as imported from 'nestjs-idp-tokens/health';

const required = createRequire(import.meta.url)('nestjs-idp-tokens/health');
const copy = createRequire(import.meta.url)('${BUILDS.cjs.replace('index.js', 'health/index.js')}');
for (const { TokensHealthIndicator: indicator } of [imported, required, copy]) {
  const types = Reflect.getMetadata('design:paramtypes', indicator).map(({ name }) => name);
  console.log(indicator === imported.TokensHealthIndicator, types.join(' '));
}
`;

/** Two hosts that check the types of the entry point for health checks. */
const typedHealthProgram = `
import { HealthCheckService } from '@nestjs/terminus';
import { TokensHealthIndicator, type TokensHealthOptions } from 'nestjs-idp-tokens/health';
export async function isReady(health: HealthCheckService, tokens: TokensHealthIndicator): Promise<boolean> {
  const options: TokensHealthOptions = { pairWaitingSeconds: 10, timeoutMs: undefined };
  const { details } = await health.check([() => tokens.isHealthy('tokens', options)]);
  return details.tokens?.status === 'up';
}`;

/** All programs have one key, because the registry of the database refuses others. */
const secret = randomBytes(32).toString('base64');

let database: TestDatabase;
let packed: PackedPackage;
let host: Consumer;

beforeAll(async () => {
  database = await createTestDatabase();
  packed = await packProject({});
  const files = {
    'package.json': '{ "name": "host", "private": true, "type": "module" }',
    ...library,
    'host.js': hostProgram,
    'esm.js': metadataProgram(BUILDS.esm),
    'cjs.js': metadataProgram(BUILDS.cjs),
    'copies.js': `import '${BUILDS.esm}'; import '${BUILDS.cjs}'; import '${BUILDS.cjs}?again';`,
    'keycloak.js': keycloakProgram,
    'bundler.js': bundlerProgram,
    'health.js': healthProgram,
    'types/health.mts': typedHealthProgram,
    'types/health.cts': typedHealthProgram,
    ...typedPrograms,
  };
  host = await createConsumer(packed, files, [
    '@nestjs/platform-express',
    'rolldown',
    'typescript',
    '@types/node',
    '@types/pg',
  ]);
});

afterAll(async () => {
  await host.remove();
  await packed.remove();
  await database.drop();
});

function runNode(script: string): ReturnType<Consumer['run']> {
  return host.run(process.execPath, [script], { DATABASE_URL: database.url, TOKENS_SECRET: secret });
}

async function printedBy(script: string): Promise<unknown> {
  const { exitCode, output } = await runNode(script);
  if (exitCode !== 0) throw new Error(output);
  return JSON.parse(output);
}

function compile(files: string[], options: ts.CompilerOptions): string[] {
  const program = ts.createProgram(
    files.map((file) => join(host.folder, file)),
    {
      target: ts.ScriptTarget.ES2023,
      module: ts.ModuleKind.NodeNext,
      strict: true,
      declaration: true,
      outDir: join(host.folder, 'out'),
      types: ['node'],
      typeRoots: [join(host.folder, 'node_modules/@types')],
      ...options,
    },
  );
  return ts.getPreEmitDiagnostics(program).map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, '\n'));
}

/** Returns a program that calls every public method of every exported class, and lets the compiler name the results. */
function inferringProgram(): string {
  const index = join(host.folder, 'node_modules/nestjs-idp-tokens/dist/index.d.ts');
  const program = ts.createProgram([index], { module: ts.ModuleKind.NodeNext, types: [] });
  const checker = program.getTypeChecker();
  const source = program.getSourceFile(index);
  const module = source && checker.getSymbolAtLocation(source);
  const calls = (module ? checker.getExportsOfModule(module) : []).flatMap((exported) => {
    const symbol = exported.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(exported) : exported;
    if (!(symbol.flags & ts.SymbolFlags.Class)) return [];
    const owner = `tokens.${exported.name}`;
    return checker
      .getPropertiesOfType(checker.getDeclaredTypeOfSymbol(symbol))
      .filter(({ flags, name, declarations: [declaration] = [] }) => {
        const isHidden = declaration && ts.getCombinedModifierFlags(declaration) & ts.ModifierFlags.Protected;
        return flags & ts.SymbolFlags.Method && !name.startsWith('__') && !isHidden;
      })
      .map(
        ({ name }) =>
          `export function ${exported.name}_${name}(it: ${owner}, ...args: Parameters<${owner}['${name}']>) { return it.${name}(...args); }`,
      );
  });
  return [`import * as tokens from 'nestjs-idp-tokens';`, ...calls].join('\n');
}

describe('The builds of the package', () => {
  it('are one copy in a process, whether it is imported or required', async () => {
    await expect(printedBy('host.js')).resolves.toEqual(ONE_COPY);
  });

  it('are one copy in a bundle, whether it is imported or required', async () => {
    await expect(runNode('bundler.js')).resolves.toEqual({ exitCode: 0, output: '' });
    await expect(readFile(join(host.folder, 'bundle.js'), 'utf8')).resolves.not.toMatch(/from "nestjs-idp-tokens"/);
    await expect(printedBy('bundle.js')).resolves.toEqual(ONE_COPY);
  });

  it('have the same exports, class names, migrations and types for injection', async () => {
    const esm = (await printedBy('esm.js')) as { providers: [string, string[]][] };
    expect(esm.providers).toContainEqual(['TokenManager', expect.arrayContaining(['AuthTokenStore'])]);
    await expect(printedBy('cjs.js')).resolves.toEqual(esm);
  });

  it('warn once when a process has both nevertheless', async () => {
    const { exitCode, output } = await runNode('copies.js');
    expect(exitCode).toBe(0);
    expect(
      output.match(/\[NESTJS_IDP_TOKENS_COPIES\] TokensWarning: .*dist\/process-copies\.js and .*\/dist\/cjs\//g),
    ).toHaveLength(1);
  });

  it('verify Keycloak tokens in CommonJS too, where jose and oauth4webapi are copies', async () => {
    await expect(runNode('keycloak.js')).resolves.toEqual({ exitCode: 0, output: 'ada\n' });
  });

  it('have one set of types, so that ES modules and CommonJS exchange instances', () => {
    expect(compile(['types/giver.mts', 'types/taker.cts'], {})).toEqual([]);
  });

  it('let the compiler name the result of every public method', async () => {
    const program = inferringProgram();
    expect(program).toContain('TokenManager_getIdpToken');
    await writeFile(join(host.folder, 'types/inferred.ts'), program);
    expect(compile(['types/inferred.ts'], {})).toEqual([]);
  });

  it('take undefined for what may be absent, also under exactOptionalPropertyTypes', async () => {
    await writeFile(join(host.folder, 'types/absent.ts'), ABSENT);
    expect(compile(['types/absent.ts'], { exactOptionalPropertyTypes: true })).toEqual([]);
  });

  it('name only types of the peers, because each package manager and each compiler option finds these', async () => {
    const declarations = packed.files.filter((path) => path.endsWith('.d.ts'));
    const texts = await Promise.all(
      declarations.map((path) => readFile(join(host.folder, 'node_modules/nestjs-idp-tokens', path), 'utf8')),
    );
    const named = texts.flatMap((text) =>
      [...text.matchAll(/(?:from |import\()['"]([^.'"][^'"]*)/g)].map(([, name]) => name),
    );
    const packages = [...new Set(named)].filter((name) => !name?.startsWith('node:')).sort();
    const peers = ['@nestjs/common', '@nestjs/core', '@nestjs/terminus', '@nestjs/typeorm', 'pg', 'rxjs', 'typeorm'];
    expect(packages).toEqual(peers);
  });

  it('load @nestjs/terminus for health checks only, so that other hosts do without it', async () => {
    // This host has no terminus, and the tests before this one have used every other part of the package.
    const { exitCode, output } = await runNode('health.js');
    expect(exitCode).not.toBe(0);
    expect(output).toContain("Cannot find package '@nestjs/terminus'");
    const terminus = join(host.folder, 'node_modules/@nestjs/terminus');
    await symlink(resolve('node_modules/@nestjs/terminus'), terminus, 'dir');
    const types = 'HealthIndicatorService KeyRingCheck RefreshCommitter RefreshDrain';
    const found = await host.run(process.execPath, ['--no-warnings', 'health.js']);
    expect(found).toEqual({ exitCode: 0, output: `true ${types}\ntrue ${types}\nfalse ${types}\n` });
    for (const file of ['types/health.mts', 'types/health.cts']) {
      expect(compile([file], { skipLibCheck: true })).toEqual([]); // terminus names packages that hosts may lack
    }
  });

  it('stop the boot on a version that they do not support, and name what is supported', async () => {
    const typeorm = join(host.folder, 'node_modules/typeorm');
    const installed = await readlink(typeorm);
    await rm(typeorm);
    await mkdir(typeorm);
    for (const name of await readdir(installed)) await symlink(join(installed, name), join(typeorm, name));
    await rm(join(typeorm, 'package.json'));
    const manifest = JSON.parse(await readFile(join(installed, 'package.json'), 'utf8')) as object;
    await writeFile(join(typeorm, 'package.json'), JSON.stringify({ ...manifest, version: '0.2.45' }));
    const { exitCode, output } = await runNode('keycloak.js');
    expect(exitCode).not.toBe(0);
    expect(output).toContain(
      'TokensConfigurationError: nestjs-idp-tokens does not work with typeorm 0.2.45: install typeorm ^0.3.15 || ^1.0.0.',
    );
  });
});
