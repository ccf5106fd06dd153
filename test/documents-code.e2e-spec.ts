import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

import { afterAll, afterEach, beforeAll, describe, expect, it, jest } from '@jest/globals';

import { freePort } from '../examples/support/free-port.js';
import { programsOf } from './support/document-programs.js';
import { codeBlocksOf, listDocuments } from './support/documents.js';
import { type GitHubOverHttp, rerouteGitHub, startGitHubOverHttp } from './support/github-over-http.js';
import {
  type Consumer,
  createConsumer,
  type Outcome,
  packProject,
  type PackedPackage,
} from './support/packed-package.js';
import { signUpProgram } from './support/sign-up-program.js';
import { createTestDatabase, type TestDatabase } from './support/test-database.js';
import { until } from './support/until.js';

/** The package is built and two compilers run here, which takes minutes on a busy machine. */
jest.setTimeout(300_000);

/** As `nest new` has them. */
const compilerOptions = {
  target: 'ES2023',
  module: 'nodenext',
  strict: true,
  strictPropertyInitialization: false,
  isolatedModules: true,
  experimentalDecorators: true,
  emitDecoratorMetadata: true,
  rootDir: '.',
  outDir: 'out',
  skipLibCheck: true,
  types: ['node'],
};

const GETTING_STARTED = 'docs/getting-started.md';
const TESTING = 'docs/guides/testing.md';
/** Documents whose programs are whole applications. */
const APPLICATIONS = ['README.md', GETTING_STARTED];

const documents = await listDocuments();
const languages = (await Promise.all(documents.map(codeBlocksOf))).map((blocks) =>
  blocks.map(({ language }) => language),
);
const withPrograms = documents.filter((_, index) => languages[index]?.includes('ts'));

let packed: PackedPackage;
let consumer: Consumer;
let compiled: Outcome;
let compiledAsCommonJs: Outcome;

beforeAll(async () => {
  packed = await packProject({});
  const esm = await Promise.all(withPrograms.map((document) => filesBelow('esm', document)));
  const commonJs = await Promise.all(APPLICATIONS.map((document) => filesBelow('commonjs', document)));
  consumer = await createConsumer(
    packed,
    {
      'esm/package.json': '{ "type": "module" }',
      'package.json': '{}', // Jest looks for it
      'esm/tsconfig.json': JSON.stringify({ compilerOptions }),
      'commonjs/package.json': '{ "type": "commonjs" }',
      'commonjs/tsconfig.json': JSON.stringify({ compilerOptions }),
      'reroute.mjs': rerouteGitHub,
      'sign-up.mjs': signUpProgram,
      ...Object.fromEntries([...esm, ...commonJs].flatMap((files) => Object.entries(files))),
    },
    [
      ...['typescript', '@types/node', '@types/pg', '@nestjs/platform-express', 'undici'],
      '@nestjs/terminus',
      ...['@nestjs/testing', '@jest/globals', 'jest'],
      ...['typeorm-transactional', 'nestjs-cls'],
      ...['@nestjs-cls/transactional', '@nestjs-cls/transactional-adapter-typeorm'],
    ],
  );
  const tsc = join(consumer.folder, 'node_modules/typescript/bin/tsc');
  compiled = await consumer.run(process.execPath, [tsc, '-p', 'esm']);
  compiledAsCommonJs = await consumer.run(process.execPath, [tsc, '-p', 'commonjs']);
});

afterAll(async () => {
  await consumer.remove();
  await packed.remove();
});

describe('The code in the documents', () => {
  it('is in no other language than those that the tests know', () => {
    expect([...new Set(languages.flat())].sort()).toEqual(['mermaid', 'sh', 'sql', 'text', 'ts', 'yaml']);
  });

  it.each(withPrograms)('compiles against the package: %s', (document) => {
    expect(compiled.output.split('\n').filter((line) => line.startsWith(`esm/${folderOf(document)}/`))).toEqual([]);
  });

  it('compiles without any other complaint', () => {
    expect(compiled).toEqual({ exitCode: 0, output: '' });
  });

  it('compiles in a CommonJS project, where it is an application', () => {
    expect(compiledAsCommonJs).toEqual({ exitCode: 0, output: '' });
  });

  it('passes as tests of a reader', async () => {
    const { exitCode, output } = await consumer.run(
      process.execPath,
      ['--experimental-vm-modules', 'node_modules/jest/bin/jest.js', '--rootDir', join('esm/out', folderOf(TESTING))],
      { TOKENS_KEY: '', DATABASE_URL: '' },
    );
    expect(output).toMatch(/^Tests: +3 passed, 3 total$/m);
    expect(exitCode).toBe(0);
  });

  it.each(documents.filter((_, index) => languages[index]?.includes('sql')))(
    'runs in PostgreSQL: %s',
    async (document) => {
      const database = await createTestDatabase();
      try {
        const blocks = (await codeBlocksOf(document)).filter(({ language }) => language === 'sql');
        for (const { code } of blocks) {
          // Rolled back, because a statement may change more than this database.
          const ran = database.query(`BEGIN; ${code}; ROLLBACK`).then(() => 'ran');
          await expect(ran).resolves.toBe('ran');
        }
      } finally {
        await database.drop();
      }
    },
  );
});

describe.each(['esm', 'commonjs'])('The application of the documents as %s', (format) => {
  const tokensKey = randomBytes(32).toString('base64');
  let database: TestDatabase;
  let github: GitHubOverHttp;
  let server: ChildProcess;

  beforeAll(async () => {
    database = await createTestDatabase({ empty: true });
    github = await startGitHubOverHttp();
  });

  afterEach(async () => {
    const isEnded = once(server, 'exit');
    server.kill('SIGTERM');
    // Node ends by the signal when the shutdown hooks have run.
    await expect(isEnded).resolves.toEqual([null, 'SIGTERM']);
  });

  afterAll(async () => {
    await github.close();
    await database.drop();
  });

  it('serves the first token word by word, as getting started says, and refreshes it once', async () => {
    const app = await start(GETTING_STARTED);
    const guide = await readFile(GETTING_STARTED, 'utf8');
    const [first, begin, second] = [...guide.matchAll(/^curl .*$/gm)].map(([command]) => command);

    const before = await curl(app, first);
    const [head = '', , body = ''] =
      (await codeBlocksOf(GETTING_STARTED))
        .find(({ language }) => language === 'text')
        ?.code.split(/\n(?=Content)|\n\n/) ?? [];
    expect(head).toBe(`HTTP/1.1 ${before.status} ${before.statusText}`);
    expect(before.headers.get('content-type')).toBe('application/problem+json; charset=utf-8');
    expect(await before.text()).toBe(body);

    expect(await connect(app, await curl(app, begin))).toBe('/connections');
    const listed = await asAda(`${app}/connections`);
    expect(await listed.json()).toMatchObject([{ idp: 'github', subject: '1815', name: 'ada-at-github' }]);
    const after = await curl(app, second);
    expect(await after.json()).toEqual({ id: 1815, login: 'ada-at-github' });

    const [select = '', expire = ''] = [...guide.matchAll(/psql -U postgres -c '([^']+)'/g)].map(([, sql = '']) => sql);
    const [row] = await database.query(select);
    expect(row).toEqual({
      keycloak_user_id: 'ada',
      identity_provider: 'github',
      access_token: expect.stringMatching(/^v1\.2026-11\.[\w-]+$/),
    });

    await database.query(expire);
    const answers = await Promise.all(Array.from({ length: 10 }, () => curl(app, second)));
    expect(answers.map(({ status }) => status)).toEqual(Array(10).fill(200));
    expect(github.redeemed).toBe(1);
  });

  it('refuses an answer of GitHub that another user or nobody asked for', async () => {
    const app = await start(GETTING_STARTED);
    const callback = `${app}/connections/github/callback?code=${github.code}&state=forged`;
    const forged = await asAda(callback);
    expect([forged.status, await forged.json()]).toEqual([400, expect.objectContaining({ reason: 'unknown_attempt' })]);
    const nobody = await fetch(callback);
    expect([nobody.status, nobody.headers.get('www-authenticate')]).toEqual([401, 'Basic']);
  });

  it('runs as the README has it', async () => {
    const app = await start('README.md');
    expect(await connect(app, await fetch(`${app}/connections/github`, { method: 'POST' }))).toBe('/');
    expect(await (await fetch(`${app}/github/user`)).json()).toEqual({ id: 1815, login: 'ada-at-github' });
  });

  /** Starts the application of a document, and returns its URL when it serves requests. */
  async function start(document: string): Promise<string> {
    const port = await freePort();
    const main = join(format, 'out', folderOf(document), 'src/main.js');
    server = spawn(process.execPath, ['--import', './reroute.mjs', main], {
      cwd: consumer.folder,
      stdio: ['ignore', 'ignore', 'inherit'],
      env: {
        ...process.env,
        NODE_OPTIONS: '--disable-warning=ExperimentalWarning',
        NO_COLOR: '1',
        PORT: String(port),
        DATABASE_URL: database.url,
        TOKENS_KEY: tokensKey,
        GITHUB_ID: 'id',
        GITHUB_SECRET: 'secret',
        GITHUB_OVER_HTTP: github.url,
      },
    });
    const url = `http://127.0.0.1:${port}`;
    await until(
      () =>
        fetch(url).then(
          () => true,
          () => false,
        ),
      60_000,
    );
    return url;
  }

  /** What the browser does: it opens the URL at GitHub, and comes back with a code. Returns where it is led then. */
  async function connect(app: string, begun: Response): Promise<string | null> {
    expect(begun.status).toBe(201);
    const { authorizationUrl } = (await begun.json()) as { authorizationUrl: string };
    const { origin, pathname, searchParams } = new URL(authorizationUrl);
    expect(origin + pathname).toBe('https://github.com/login/oauth/authorize');
    expect(searchParams.get('redirect_uri')).toBe('http://localhost:3000/connections/github/callback');
    const query = new URLSearchParams({ code: github.code, state: searchParams.get('state') ?? '' });
    const callback = await asAda(`${app}/connections/github/callback?${query.toString()}`);
    expect(callback.status).toBe(303);
    return callback.headers.get('location');
  }
});

describe('The transaction libraries of the documents', () => {
  it.each(['with-typeorm-transactional', 'with-nestjs-cls'])(
    'commit and roll back the tokens with the rows of the host: %s',
    async (host) => {
      const database = await createTestDatabase({ empty: true });
      try {
        const program = `./esm/out/docs-guides-transactions/src/${host}.js`;
        const { output } = await consumer.run(process.execPath, ['sign-up.mjs', program], {
          NODE_OPTIONS: '--disable-warning=ExperimentalWarning',
          DATABASE_URL: database.url,
          TOKENS_KEY: randomBytes(32).toString('base64'),
          GITHUB_ID: 'id',
          GITHUB_SECRET: 'secret',
        });
        expect(JSON.parse(output)).toEqual({
          committed: ['done', 'token of ada'],
          rolledBack: ['23505', 'ERR_TOKENS_NOT_FOUND'],
          atOnce: ['done', '23505', 'done'],
          tokensAtOnce: ['token of grace', 'ERR_TOKENS_NOT_FOUND', 'token of edsger'],
          outside: ['done', 'token of alan'],
          connectionsInUse: 0,
        });
      } finally {
        await database.drop();
      }
    },
  );
});

/** Sends the request of a `curl` command of a document to the application. */
function curl(app: string, command = ''): Promise<Response> {
  const [, user = ''] = / -u (\S+)/.exec(command) ?? [];
  const [, form] = / -d (\S+)/.exec(command) ?? [];
  const [, path = ''] = / http:\/\/localhost:3000(\S+)$/.exec(command) ?? [];
  expect(path).not.toBe('');
  const headers = { authorization: `Basic ${btoa(user)}` };
  return fetch(app + path, form ? { method: 'POST', body: new URLSearchParams(form), headers } : { headers });
}

function asAda(url: string): Promise<Response> {
  return fetch(url, { headers: { authorization: `Basic ${btoa('ada:lovelace')}` }, redirect: 'manual' });
}

function folderOf(document: string): string {
  return document.replace(/\.md$/, '').replaceAll('/', '-');
}

/** Returns the programs of a document below the folder of a project. The README has no `main.ts` of its own. */
async function filesBelow(project: string, document: string): Promise<Record<string, string>> {
  const programs = await programsOf(document);
  if (document === 'README.md') programs['src/main.ts'] ??= (await programsOf(GETTING_STARTED))['src/main.ts'] ?? '';
  return Object.fromEntries(
    Object.entries(programs).map(([path, code]) => [join(project, folderOf(document), path), code]),
  );
}
