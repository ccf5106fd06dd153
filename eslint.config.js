import { readdirSync } from 'node:fs';

import { defineConfig } from 'eslint/config';
import { createNodeResolver, importX } from 'eslint-plugin-import-x';
import tseslint from 'typescript-eslint';

/**
 * Every file and folder of src/. An entry imports only later entries of this list. The first three entries are the public
 * API, and the last one imports nothing.
 */
const LAYERS = [
  'index.ts',
  'testing',
  'health',
  'cli',
  'tokens.module.ts',
  'tokens-config.ts',
  'tokens.module-definition.ts',
  'tokens.options.ts',
  'http',
  'account-links',
  'token-manager',
  'key-rotation',
  'keycloak',
  'refresh',
  'storage/tokens-entities.ts',
  'storage/overview',
  'storage/sealed-texts',
  'storage/auth-tokens',
  'storage/offline-tokens',
  'storage/token-revocations',
  'storage/disconnected-accounts',
  'storage/link-attempts',
  'storage/token-keys',
  'storage/leases',
  'storage/token-locations.ts',
  'storage/stored-tokens.ts',
  'identity-providers',
  'oauth-http',
  'sealing',
  'postgres',
  'process-copies.ts',
  'supported-versions.ts',
  'within.ts',
  'foreign-error.ts',
  'random-bytes.ts',
  'options-validation.ts',
  'token-input.ts',
  'scopes.ts',
  'tokens.errors.ts',
  'account.errors.ts',
  'link.errors.ts',
  'tokens-error.ts',
  'token-key.ts',
];

/** A unit test belongs to the layer of its source. */
const filesOf = (layer) => (layer.endsWith('.ts') ? [layer, layer.replace(/\.ts$/, '.spec.ts')] : [layer]);

const unlisted = readdirSync(new URL('./src', import.meta.url), { recursive: true }).filter(
  (path) =>
    path.endsWith('.ts') && !LAYERS.some((layer) => filesOf(layer).includes(path) || path.startsWith(`${layer}/`)),
);
if (unlisted.length > 0) throw new Error(`Give src/${unlisted.join(', src/')} a place in LAYERS of eslint.config.js.`);

const zones = LAYERS.map((layer, position) => ({
  target: filesOf(layer).map((path) => `./src/${path}`),
  from: LAYERS.slice(0, position).map((above) => `./src/${above}`),
  message: `Imports point one way. ${layer} may import only what LAYERS has after it.`,
})).filter(({ from }) => from.length > 0);

export default defineConfig(
  { ignores: ['dist', 'build', 'coverage', 'bench/node_modules', 'test/servers/node_modules', 'test/hosts/*/'] },
  { files: ['**/*.js'], languageOptions: { sourceType: 'module' } },
  {
    files: ['**/*.ts'],
    extends: [...tseslint.configs.strictTypeChecked],
    plugins: { 'import-x': importX },
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    settings: {
      'import-x/extensions': ['.ts', '.js'],
      'import-x/parsers': { '@typescript-eslint/parser': ['.ts'] },
      'import-x/resolver-next': [
        createNodeResolver({ extensions: ['.ts', '.js'], extensionAlias: { '.js': ['.ts', '.js'] } }),
      ],
    },
    rules: {
      'import-x/order': [
        'error',
        {
          groups: ['builtin', 'external', ['parent', 'sibling', 'index']],
          // By its name, because it can be resolved only after a build.
          pathGroups: [{ pattern: 'nestjs-idp-tokens', group: 'external' }],
          pathGroupsExcludedImportTypes: ['builtin'],
          'newlines-between': 'always',
          alphabetize: { order: 'asc', caseInsensitive: true },
        },
      ],
      'import-x/no-cycle': ['error', { ignoreExternal: true }],
      'import-x/no-restricted-paths': ['error', { zones, basePath: import.meta.dirname }],
      '@typescript-eslint/no-floating-promises': 'error',
      '@typescript-eslint/no-explicit-any': 'error',
      '@typescript-eslint/consistent-type-imports': 'error',
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true }],
      // Nest and its ecosystem type options as classes, and a host passes them as object literals.
      '@typescript-eslint/no-unsafe-class-instance-assignment': 'off',
      // Nest modules and TypeORM entities are classes that have only decorators.
      '@typescript-eslint/no-extraneous-class': ['error', { allowWithDecorator: true }],
    },
  },
  {
    files: ['**/*.entity.ts'],
    // TypeORM assigns the columns of an entity after its construction.
    rules: { '@typescript-eslint/no-non-null-assertion': 'off' },
  },
);
