import type { Results } from '../suites.js';
import type { Standing } from './race.js';
import type { Spread } from './statistics.js';

/** Returns the results as Markdown tables, with medians and with quartiles in brackets. */
export function tables({ reads, stores, sealing, http, storm, growth, latency, neighbour, rotation }: Results): string {
  const blocks: string[] = [];
  if (reads) {
    const rows = reads.flatMap(({ callers, standings }) => standings.map((standing) => [callers, ...row(standing)]));
    blocks.push(table('Reads of fresh tokens', ['callers', ...STANDING_COLUMNS], rows));
    const over = reads.map(({ callers, overBetterAuth }) => [callers, spread(overBetterAuth, 1)]);
    blocks.push(table('getIdpToken ÷ better-auth', ['callers', 'ratio'], over));
  }
  if (stores) blocks.push(table('Stores', STANDING_COLUMNS, stores.map(row)));
  if (sealing) {
    const rows = sealing.map((each) => [each.form, spread(each.sealUs), spread(each.openUs), each.characters]);
    blocks.push(table('One token', ['form', 'seal, µs', 'open, µs', 'characters'], rows));
  }
  if (http) {
    const rows = http.routes.map((form) => [
      form.route,
      count(form.barePerSecond.median),
      count(form.noopPerSecond.median),
      count(form.guardedPerSecond.median),
      spread(form.ratio),
      spread(form.ratioToNoop),
    ]);
    const title = `A route on Fastify, ${http.connections} connections`;
    const columns = ['bare, requests/s', 'no-op guard and parameter', 'IdpTokenGuard', '÷ bare', '÷ no-op'];
    blocks.push(table(title, ['route', ...columns], rows));
  }
  if (storm) {
    const { users, poolSize, providerMs, bareMs, moduleMs, rowLockMs } = storm;
    const rows = [
      ['bare fetch', spread(bareMs, 0), ''],
      ['getIdpToken', spread(moduleMs, 0), spread(storm.ratio)],
      ['row lock over the call', count(rowLockMs), (rowLockMs / bareMs.median).toFixed(0)],
    ];
    const title = `${users} expired tokens, pool of ${poolSize}, provider answers in ${providerMs} ms`;
    blocks.push(table(title, ['refreshed by', 'ms', '÷ bare fetch'], rows));
    const readers = [
      ['undisturbed', count(storm.calmReadsPerSecond), ''],
      [
        `during a storm of ${storm.stormWithReadersMs.toFixed(0)} ms`,
        count(storm.stormReadsPerSecond),
        spread(storm.readsRatio),
      ],
    ];
    blocks.push(table('Readers of fresh tokens', ['', 'reads/s', 'ratio'], readers));
    blocks.push(
      `Refresh tokens redeemed for each user: ${storm.redemptionsPerUser}. ` +
        `HOT share of the updates: ${storm.hotShare.toFixed(3)}, of neighbours in the table: ${storm.hotShareOfNeighbours.toFixed(3)}.`,
    );
  }
  if (growth) {
    const rows = growth.sizes.map(({ rows, readsPerSecond, costRatio, bytesPerRow }) => [
      count(rows),
      count(readsPerSecond),
      costRatio.toFixed(2),
      bytesPerRow.toFixed(0),
    ]);
    blocks.push(table('Growth', ['rows', 'reads/s', 'cost of a read', 'bytes/row'], rows));
    const { reads, bytesBefore, bytesAfter } = growth.memory;
    blocks.push(
      `10^8 rows by extrapolation: ${(growth.bytesAt100Million / 1e9).toFixed(1)} GB. Memory in use before and after ` +
        `${count(reads)} reads: ${(bytesBefore / 1e6).toFixed(1)} and ${(bytesAfter / 1e6).toFixed(1)} MB.`,
    );
  }
  if (latency) {
    const { refreshesPerSecond, seconds, nothing, reads, refreshes } = latency;
    const rows = Object.entries({ reads, refreshes, 'calls that do nothing': nothing }).map(([name, calls]) => [
      name,
      calls.p50Ms.toFixed(2),
      calls.p99Ms.toFixed(2),
      calls.maxMs.toFixed(1),
      count(calls.calls),
      calls.perSecond.toFixed(1),
      `${count(calls.lateStarts)} (${((100 * calls.lateStarts) / calls.calls).toFixed(2)} %)`,
      calls.errors,
    ]);
    const title = `${count(latency.readsPerSecond)} reads/s and ${refreshesPerSecond} refreshes/s for ${seconds} s`;
    const columns = ['p50, ms', 'p99, ms', 'max, ms', 'calls', 'calls/s', 'started > 1 ms late', 'errors'];
    blocks.push(table(title, ['from the due time', ...columns], rows));
  }
  if (neighbour) {
    const { callers, alonePerSecond, each, sum } = neighbour;
    const rows = [
      ['one process alone', spread(alonePerSecond, 0), ''],
      ...each.map(({ perSecond, ratio }, index) => [`process ${index + 1} of 2`, spread(perSecond, 0), spread(ratio)]),
      ['both in sum', spread(sum.perSecond, 0), spread(sum.ratio)],
    ];
    blocks.push(table(`A second process, ${callers} callers in each`, ['', 'reads/s', 'ratio to alone'], rows));
  }
  if (rotation) {
    const { callers, aloneRowsPerSecond, beside, status, read } = rotation;
    const rows = [
      ['alone, no limit', spread(aloneRowsPerSecond, 0), '', ''],
      ...beside.map(({ name, rowsPerSecond, readsPerSecond, readersShare }) => [
        name,
        spread(rowsPerSecond, 0),
        spread(readsPerSecond, 0),
        spread(readersShare),
      ]),
    ];
    const columns = ['reseal', 'rows/s', 'reads/s', 'ratio to reads alone'];
    blocks.push(table(`A reseal beside ${callers} readers`, columns, rows));
    blocks.push(
      `status() over ${count(status.rows)} rows: ${spread(status.seconds, 1)} s, the command idp-tokens status: ` +
        `${spread(status.commandSeconds, 1)} s. Statements of a read: ` +
        `${read.statements}, of these to the registry of keys: ${read.ofRegistry}.`,
    );
  }
  return blocks.join('\n\n');
}

const STANDING_COLUMNS = ['rival', 'calls/s', 'ratio to the first', 'latency, µs', 'latency ratio'];

function row({ name, perSecond, throughputRatio, latencyUs, latencyRatio }: Standing): string[] {
  return [name, count(perSecond.median), spread(throughputRatio), count(latencyUs.median), spread(latencyRatio)];
}

function spread({ median, low, high }: Spread, digits = 2): string {
  return `${median.toFixed(digits)} [${low.toFixed(digits)}–${high.toFixed(digits)}]`;
}

function count(value: number): string {
  return Math.round(value).toLocaleString('en');
}

function table(title: string, columns: string[], rows: (string | number)[][]): string {
  const lines = [columns, columns.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |`);
  return `**${title}**\n\n${lines.join('\n')}`;
}
