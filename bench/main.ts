/**
 * The program of `npm run bench`. It measures the module beside its rivals, prints tables, and writes the results as
 * JSON and as plots. `npm run bench -- reads storm` runs only the named suites and writes nothing.
 */
import { mkdir, writeFile } from 'node:fs/promises';
import { cpus } from 'node:os';

import { startScript } from '../examples/support/child-process.js';
import { type Results, SUITES, type SuiteName } from './suites.js';
import { plots } from './support/plots.js';
import { tables } from './support/tables.js';

const OUTPUT = new URL('../docs/performance/', import.meta.url);

const names = Object.keys(SUITES) as SuiteName[];
const asked = process.argv.slice(2);
const unknown = asked.filter((name) => !names.includes(name as SuiteName));
if (unknown.length > 0) {
  console.error(`There is no suite ${unknown.join(', ')}. The suites are ${names.join(', ')}.`);
  process.exit(1);
}

const startedAt = performance.now();
const results: Results = {};
for (const name of names.filter((name) => asked.length === 0 || asked.includes(name))) {
  console.error(`${name} …`);
  const script = await startScript<{ result: never }>(new URL('./suite.process', import.meta.url), [name]);
  results[name] = script.ready.result;
  await script.stop();
  console.log(tables({ [name]: script.ready.result }));
}
console.error(`${((performance.now() - startedAt) / 1000).toFixed(0)} s`);

if (asked.length === 0) {
  await mkdir(OUTPUT, { recursive: true });
  const machine = { cpu: cpus()[0]?.model, cores: cpus().length, node: process.version };
  const json = JSON.stringify({ machine, ...results }, null, 2);
  await writeFile(new URL('results.json', OUTPUT), `${json}\n`);
  for (const [name, svg] of Object.entries(plots(results))) await writeFile(new URL(`${name}.svg`, OUTPUT), svg);
}
