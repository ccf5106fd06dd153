/**
 * Builds `dist/cjs` from the ES modules that `nest build` has written to `dist`: the same modules for runtimes that can
 * only `require` CommonJS. The entry points are those of `exports` in package.json.
 */
import { existsSync } from 'node:fs';
import { chmod, copyFile, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, isAbsolute, relative, resolve } from 'node:path';

import { rolldown } from 'rolldown';

const { bin, exports } = JSON.parse(await readFile('package.json', 'utf8'));
const entries = Object.values(exports).flatMap((target) => target.import?.default ?? []);

/** What exists as ES modules only. CommonJS gets a copy, and everything else stays an import. */
const BUNDLED = ['jose', 'oauth4webapi'];

const bundle = await rolldown({
  // The output of the compiler, because the bundler does not know the types that `emitDecoratorMetadata` writes.
  input: Object.fromEntries(entries.map((path) => [relative('dist', path).replace(/\.js$/, ''), resolve(path)])),
  platform: 'node',
  // The files of the output are named after paths, also where node_modules is a link.
  resolve: { symlinks: false },
  external: (id) => !BUNDLED.includes(id) && !isAbsolute(id) && !id.startsWith('.'),
  plugins: [{ name: 'maps of the compiler', load: withMap }],
});
await bundle.write({
  dir: 'dist/cjs',
  format: 'cjs',
  strict: true,
  sourcemap: true,
  // One file a module, so that no name collides: Nest and TypeORM read the names of classes.
  preserveModules: true,
  preserveModulesRoot: 'dist',
  // npm leaves folders called node_modules out of a package.
  entryFileNames: ({ name }) => `${name.replace('node_modules/', 'vendor/')}.js`,
  // Jest has no `import()` in CommonJS.
  dynamicImportInCjs: false,
});
// The compiler writes no file that can be executed. The command line is an ES module only, and no module imports it.
for (const path of Object.values(bin)) await chmod(path, 0o755);
await rm('dist/cjs/cli', { recursive: true });
await writeFile('dist/cjs/package.json', '{ "type": "commonjs" }\n');
for (const name of BUNDLED) {
  await copyFile(`node_modules/${name}/LICENSE.md`, `dist/cjs/vendor/${name}/LICENSE.md`);
}

// One set of declarations for both, because a class with private members is another type in each declaration.
for (const entry of entries) {
  const toRoot = relative(dirname(entry), 'dist') || '.';
  await writeFile(entry.replace(/\.js$/, '.d.ts'), `export * from '${toRoot}/cjs/${relative('dist', entry)}';\n`);
}

/** Gives the bundler the source map of the compiler, so that both builds name the lines of the sources. */
async function withMap(path) {
  if (!existsSync(`${path}.map`) || !path.startsWith(resolve('dist'))) return null;
  return { code: await readFile(path, 'utf8'), map: await readFile(`${path}.map`, 'utf8') };
}
