import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';

import { describeForeignError } from '../foreign-error.js';
import { CliError } from './cli.errors.js';
import { ExitCode } from './exit-code.js';

/** What a configuration file exports, with its functions called. Nothing of it is checked yet. */
export interface LoadedConfig {
  readonly dataSource: object;
  readonly tokens: object;
}

const EXTENSIONS = ['js', 'mjs', 'cjs', 'ts', 'mts', 'cts'] as const;
const NAME = 'idp-tokens.config';
/** A message of Node.js that has names of packages and files, and nothing else. */
const NOT_FOUND = new Set(['ERR_MODULE_NOT_FOUND', 'MODULE_NOT_FOUND']);

/** Returns the configuration file in a folder; undefined if there is none. */
export function findConfigFile(folder: string): string | undefined {
  return EXTENSIONS.map((extension) => resolve(folder, `${NAME}.${extension}`)).find((path) => existsSync(path));
}

/**
 * Imports a configuration file, and calls the functions in it.
 *
 * @throws {@link CliError} that names the file and what to do, and no value of it
 */
export async function loadConfigFile(file: string): Promise<LoadedConfig> {
  if (!existsSync(file)) throw wrong(`The configuration file ${file} does not exist.`, `Correct --config.`);
  const config = defaultExportOf(await importFile(file));
  if (config === undefined) {
    throw wrong(
      `The configuration file ${file} has no default export.`,
      'Write "export default defineTokensConfig({ dataSource, tokens });" there.',
    );
  }
  if (typeof config !== 'object' || config === null) {
    throw wrong(
      `The default export of ${file} is no object.`,
      'Export the result of defineTokensConfig({ dataSource, tokens }).',
    );
  }
  return { dataSource: await partOf(file, config, 'dataSource'), tokens: await partOf(file, config, 'tokens') };
}

async function importFile(file: string): Promise<object> {
  try {
    return (await import(pathToFileURL(file).href)) as object;
  } catch (error) {
    const code: unknown = Reflect.get(Object(error) as object, 'code');
    if (code === 'ERR_UNKNOWN_FILE_EXTENSION' && /\.[mc]?ts$/.test(file)) {
      throw wrong(
        `Node.js ${process.version} does not read TypeScript, so ${file} cannot be loaded.`,
        'Use Node.js 22.18 or 24 and newer, which strip types, write the file in JavaScript, or run the command with a ' +
          'loader: NODE_OPTIONS="--import tsx".',
      );
    }
    const detail = NOT_FOUND.has(String(code)) && error instanceof Error ? ` ${firstLineOf(error.message)}.` : '';
    throw thrown(file, 'threw', error, detail);
  }
}

/** Also reads a CommonJS module that a compiler wrote, which has its default export as a property. */
function defaultExportOf(exports: object): unknown {
  const found: unknown = Reflect.get(exports, 'default');
  if (typeof found !== 'object' || found === null || Reflect.get(found, '__esModule') !== true)
    return found ?? undefined;
  return Reflect.get(found, 'default') ?? undefined;
}

async function partOf(file: string, config: object, name: keyof LoadedConfig): Promise<object> {
  const part: unknown = Reflect.get(config, name);
  let value: unknown;
  try {
    value = await (typeof part === 'function' ? (part as () => unknown)() : part);
  } catch (error) {
    throw thrown(file, `has a function "${name}" that threw`, error, '');
  }
  if (typeof value === 'object' && value !== null) return value;
  throw wrong(
    `The default export of ${file} has no "${name}".`,
    `Give it to defineTokensConfig: ${name === 'tokens' ? 'the options of TokensModule' : 'the options of the data source'}.`,
  );
}

function thrown(file: string, did: string, error: unknown, detail: string): CliError {
  const failure = wrong(
    `The configuration file ${file} ${did} ${describeForeignError(error)}.${detail}`,
    'Run the file with node to see the whole error. It is not shown here, because it may have a secret.',
  );
  return Object.assign(failure, { cause: error });
}

function wrong(message: string, remedy: string): CliError {
  return new CliError(message, ExitCode.wrongUse, remedy);
}

function firstLineOf(message: string): string {
  return (message.split('\n')[0] ?? '').replace(/\.$/, '');
}
