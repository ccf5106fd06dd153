import { defineConfig } from 'eslint/config';
import { createNodeResolver, importX } from 'eslint-plugin-import-x';
import tseslint from 'typescript-eslint';

/** Folders of src/ from the public face down to the leaves: each may import only what stands after it. */
const layers = [
  ['index', './src/index.ts'],
  ['module', './src/tokens.module.ts'],
  ['http', './src/http'],
  ['token-manager', './src/token-manager'],
  ['auth-tokens', './src/auth-tokens'],
  ['keycloak', './src/keycloak'],
  ['refresh', './src/refresh'],
  ['storage', './src/storage'],
  ['identity-providers', './src/identity-providers'],
  ['crypto', './src/crypto'],
  ['postgres', './src/postgres'],
  ['errors', './src/tokens.errors.ts'],
];

const zones = layers.flatMap(([name, target], position) =>
  layers
    .slice(0, position)
    .filter(([other]) => other !== name)
    .map(([, from]) => ({
      target,
      from,
      message:
        'Imports point one way: index, module, http, token-manager, auth-tokens, keycloak, refresh, storage, identity-providers, crypto, postgres, errors.',
    })),
);

export default defineConfig(
  { ignores: ['dist', 'build', 'coverage', 'bench/node_modules'] },
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
      'import-x/no-cycle': ['error', { ignoreExternal: true }],
      'import-x/no-restricted-paths': ['error', { zones, basePath: import.meta.dirname }],
      '@typescript-eslint/no-floating-promises': 'error',
      '@typescript-eslint/no-explicit-any': 'error',
      '@typescript-eslint/consistent-type-imports': 'error',
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true }],
      // The options of Nest and its ecosystem are typed as classes and passed as object literals.
      '@typescript-eslint/no-unsafe-class-instance-assignment': 'off',
      // Nest modules and TypeORM entities are classes that carry only decorators.
      '@typescript-eslint/no-extraneous-class': ['error', { allowWithDecorator: true }],
    },
  },
  {
    files: ['**/*.entity.ts'],
    // TypeORM assigns the columns of an entity after construction.
    rules: { '@typescript-eslint/no-non-null-assertion': 'off' },
  },
);
