import { readFile } from 'node:fs/promises';

import { describe, expect, it } from '@jest/globals';
import ts from 'typescript';

import { answerToError } from '../src/http/answer-to-error.js';
import * as api from '../src/index.js';
import { KeycloakSettings } from '../src/keycloak/keycloak.options.js';
import { RefreshSettings } from '../src/refresh/refresh.options.js';
import { loadTokensSettings } from '../src/tokens.options.js';
import { tableRowsOf } from './support/documents.js';
import { newKey } from './support/tokens-app.js';

const subject = { keycloakUserId: 'ada', idp: 'github' };

/** An error of each class, and of each answer. */
const errors: api.TokensError[] = [
  new api.TokensConfigurationError('…'),
  new api.TokensUsageError('…'),
  new api.InvalidTokenInputError('…'),
  new api.TokensNotFoundError(subject),
  new api.AmbiguousAccountError(subject, ['home', 'work']),
  new api.InsufficientScopeError(subject, ['repo']),
  new api.ReauthenticationRequiredError(subject, 'refresh_rejected'),
  new api.RefreshInProgressError(subject),
  new api.RefreshUnavailableError(subject, '…'),
  new api.ProviderMisconfiguredError(subject, '…'),
  new api.UnsupportedProviderError('github', []),
  new api.TokenDecryptionError('…'),
  new api.KeyInUseError('a', '…', '…', {}),
  new api.TokenStoreUnavailableError('…'),
  new api.TokenStoreUnavailableError('…', '42P01'),
  new api.KeycloakUnavailableError('…'),
  new api.KeycloakMisconfiguredError('…'),
  new api.AuthenticationRequiredError(),
  new api.KeycloakSessionExpiredError('…'),
  new api.LinkRefusedError('denied'),
  new api.LinkRefusedError('other_user'),
  new api.ProviderUnavailableError('github', '…'),
];

/** Returns the names of the properties of an exported type. */
function propertiesOf(type: string): string[] {
  const symbol = exported.find(({ name }) => name === type);
  if (!symbol) throw new Error(`${type} is not exported.`);
  const declared = symbol.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(symbol) : symbol;
  return checker
    .getDeclaredTypeOfSymbol(declared)
    .getProperties()
    .map(({ name }) => name);
}

const program = ts.createProgram(['src/index.ts'], {
  module: ts.ModuleKind.NodeNext,
  target: ts.ScriptTarget.ES2023,
  strict: true,
  experimentalDecorators: true,
  types: ['node'],
});
const checker = program.getTypeChecker();
const source = program.getSourceFile('src/index.ts');
const index = source && checker.getSymbolAtLocation(source);
const exported = index ? checker.getExportsOfModule(index) : [];

/** Returns the text of a cell that is a name in code, such as `refresh.leewaySeconds`. */
function inCode(cell = ''): string {
  return /^`([^`]+)`$/.exec(cell)?.[1] ?? cell;
}

describe('The table of options', () => {
  const below = (prefix: string, type: string) => propertiesOf(type).map((name) => prefix + name);

  it('has every option of the module, and no other', async () => {
    const rows = (await tableRowsOf('docs/reference/options.md')).map(([option]) => inCode(option));
    const options = [
      ...below('', 'TokensModuleOptions').filter((name) => name !== 'encryption'),
      ...below('', 'TokensModuleExtras'),
      ...below('encryption.', 'EncryptionOptions'),
      ...below('encryption.keys[].', 'SealingKeyOptions'),
      'encryption.keys[].legacyFernetSecret',
      ...below('refresh.', 'RefreshOptions'),
      ...below('accountLinks.', 'AccountLinksOptions'),
      ...below('keycloak.', 'KeycloakModuleOptions'),
    ];
    expect(rows.toSorted()).toEqual(options.toSorted());
  });

  it('has the defaults of the code', async () => {
    const settings = await loadTokensSettings({
      encryption: { keys: [{ id: 'test', secret: newKey() }] },
      identityProviders: {},
    });
    const { preparedStatements, connectionTimeoutMs } = settings;
    const defaults = {
      preparedStatements,
      connectionTimeoutMs,
      ...prefixed('refresh.', new RefreshSettings()),
      ...prefixed('keycloak.', new KeycloakSettings()),
    };
    const rows = new Map(
      (await tableRowsOf('docs/reference/options.md')).map(([option, text]) => [inCode(option), inCode(text)]),
    );
    expect(Object.entries(defaults).map(([option]) => [option, rows.get(option)])).toEqual(
      Object.entries(defaults).map(([option, value]) => [option, String(value)]),
    );
  });

  it.each([
    'GitHubOptions',
    'GitLabOptions',
    'BitbucketOptions',
    'BitbucketDataCenterOptions',
    'AzureDevOpsOptions',
    'OAuth2Options',
    'RefreshPolicy',
  ])('of providers has every option of %s', async (type) => {
    const cells = (await tableRowsOf('docs/reference/providers.md')).flat().join(' ');
    expect(propertiesOf(type).filter((name) => !cells.includes(`\`${name}\``))).toEqual([]);
  });
});

describe('The tables of errors', () => {
  const codeOf = ({ code }: api.TokensError) => code.replace('ERR_TOKENS_', '');

  it('have the code of every class, and whether it is retryable', async () => {
    const rows = await tableRowsOf('docs/reference/errors.md');
    const classes = rows
      .filter(([name = '']) => /^`\w+Error`$/.test(name))
      .map(([name, code, retryable]) => [inCode(name), inCode(code), retryable]);
    const known = new Map<string, string[]>();
    for (const error of errors) {
      const isBoth = errors.some(({ name, retryable }) => name === error.name && retryable !== error.retryable);
      known.set(error.name, [error.name, codeOf(error), isBoth ? 'yes or no' : error.retryable ? 'yes' : 'no']);
    }
    expect(classes.toSorted()).toEqual([...known.values()].toSorted());
    expect([...known.keys()].toSorted()).toEqual(
      Object.keys(api)
        .filter((name) => name.endsWith('Error') && name !== 'TokensError')
        .toSorted(),
    );
  });

  it('have what the HTTP client sees', async () => {
    const rows = (await tableRowsOf('docs/reference/errors.md')).filter(([, status = '']) => /^\d{3}$/.test(status));
    const answers = errors.map((error) => {
      const { status, headers, problem } = answerToError(error);
      const challenge = headers['WWW-Authenticate'];
      const header = challenge ? `\`WWW-Authenticate: ${challenge}\`` : headers['Retry-After'] ? '`Retry-After`' : '';
      const ofStore = error.retryable ? ', retryable' : ', otherwise';
      const ofOthers = error instanceof api.LinkRefusedError && status === 403 ? `, \`${error.reason}\`` : '';
      const kind = codeOf(error) === 'STORE_UNAVAILABLE' ? ofStore : ofOthers;
      return [`\`${codeOf(error)}\`${kind}`, String(status), header, problem.detail];
    });
    expect(rows.toSorted()).toEqual(answers.toSorted());
  });

  it.each([
    ['ReauthenticationReason', 'docs/reference/errors.md'],
    ['LinkRefusalReason', 'docs/guides/connect-accounts.md'],
  ])('have every %s', async (union, page) => {
    const rows = (await tableRowsOf(page)).map(([reason]) => inCode(reason));
    const reasons = exported.find(({ name }) => name === union);
    if (!reasons) throw new Error(`${union} is not exported.`);
    const type = checker.getDeclaredTypeOfSymbol(checker.getAliasedSymbol(reasons));
    const names = (type.isUnion() ? type.types : []).map((each) => (each.isStringLiteral() ? each.value : ''));
    expect(names.length).toBeGreaterThan(0);
    expect(rows).toEqual(expect.arrayContaining(names));
  });
});

describe('The page of SQL tables', () => {
  it('has every column of the migrated schema, and no other', async () => {
    const schema = await readFile('test/golden/schema.sql', 'utf8');
    const page = await readFile('docs/reference/sql-tables.md', 'utf8');
    const columns = (text: string, pattern: RegExp) => [...text.matchAll(pattern)].map(([, name]) => name);
    const sections = new Map(
      page.split(/^## /m).map((section) => [section.split('\n', 1)[0] ?? '', columns(section, /^\| `(\w+)`/gm)]),
    );
    const state = sections.get('The state of the refresh') ?? [];
    const tables = schema.split(/^TABLE /m).slice(1);
    expect(tables.length).toBe(6);
    for (const table of tables) {
      const name = /^\w+/.exec(table)?.[0] ?? '';
      const own = sections.get(name) ?? [];
      const isLeased = table.includes('  lease_id ');
      const described = isLeased ? [...own, ...state] : own;
      expect([name, ...described.toSorted()]).toEqual([name, ...columns(table, /^ {2}([a-z_]+) /gm).toSorted()]);
    }
  });
});

function prefixed(prefix: string, settings: object): Record<string, unknown> {
  const entries = Object.entries(settings).filter(([, value]) => value !== undefined);
  return Object.fromEntries(entries.map(([name, value]) => [prefix + name, value as unknown]));
}
