import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';

/** The versions with which the module works, as `engines` and `peerDependencies` of package.json have them. */
export const SUPPORTED_VERSIONS = {
  node: '^20.19.0 || ^22.13.0 || >=24.0.0',
  '@nestjs/common': '^11.0.0 || ^12.0.0',
  '@nestjs/typeorm': '^11.0.0 || ^12.0.0',
  typeorm: '^0.3.15 || ^1.0.0',
};

/**
 * Returns a sentence for each version that the module does not support. It says nothing about a package whose version
 * it cannot read, because a bundled application has no packages, nor about a build without a version (0.0.0).
 */
export function versionFaults(versionOf: (name: string) => string | undefined = installedVersion): string[] {
  return Object.entries(SUPPORTED_VERSIONS).flatMap(([name, range]) => {
    const version = versionOf(name);
    if (version === undefined || isInRange(version, range)) return [];
    const subject = name === 'node' ? 'Node.js' : name;
    return [`nestjs-idp-tokens does not work with ${subject} ${version}: install ${subject} ${range}`];
  });
}

function installedVersion(name: string): string | undefined {
  if (name === 'node') return process.versions.node;
  // Reads the file itself, because the `exports` of TypeORM do not have it.
  const folders = createRequire(import.meta.url).resolve.paths(name) ?? [];
  const path = folders.map((folder) => join(folder, name, 'package.json')).find((file) => existsSync(file));
  if (path === undefined) return undefined;
  const { version } = JSON.parse(readFileSync(path, 'utf8')) as { version?: string };
  return version?.startsWith('0.0.0') ? undefined : version;
}

/** Tells whether a version is in a range of npm. It knows `^`, `>=` and `||`. A text that is no version is in each. */
function isInRange(version: string, range: string): boolean {
  const given = numbers(version);
  if (given.some(Number.isNaN)) return true;
  return range.split(' || ').some((part) => {
    const least = numbers(part.replace(/^\D+/, ''));
    const fixed = part.startsWith('^') ? least.findIndex((number) => number !== 0) + 1 : 0;
    return least.slice(0, fixed).every((number, index) => number === given[index]) && compare(given, least) >= 0;
  });
}

/** Major, minor and patch. A pre-release counts as its release. */
function numbers(version: string): number[] {
  return [0, 1, 2].map((index) => Number.parseInt(version.split('.')[index] ?? '', 10));
}

function compare(a: number[], b: number[]): number {
  return a.map((number, index) => number - (b[index] ?? 0)).find((difference) => difference !== 0) ?? 0;
}
