import { existsSync, readdirSync } from 'node:fs';

/** The entry points of the package: `src/index.ts`, and the `index.ts` of a folder that has one. */
const entryPoints = ['src', ...readdirSync('src').map((name) => `src/${name}`)]
  .map((folder) => `${folder}/index.ts`)
  .filter((path) => existsSync(path));

/** The API reference of `npm run docs`. A description that is missing and a link that leads nowhere fail the run. */
export default {
  entryPoints,
  tsconfig: 'tsconfig.build.json',
  name: 'nestjs-idp-tokens',
  out: 'build/api',
  readme: 'none',
  disableSources: true,
  excludeInternal: true,
  excludePrivate: true,
  validation: { invalidLink: true, invalidPath: true, notDocumented: true, notExported: false },
  requiredToBeDocumented: ['Accessor', 'Class', 'Enum', 'Function', 'Interface', 'Method', 'TypeAlias', 'Variable'],
  treatWarningsAsErrors: true,
};
