import { InvalidArgumentError, Option } from 'commander';

import { DEFAULT_BATCH_SIZE, DEFAULT_ROWS_PER_SECOND, type ResealResult } from '../../key-rotation/reseal-walk.js';
import { TokenKeyRotation } from '../../key-rotation/token-key-rotation.js';
import type { TokensError } from '../../tokens-error.js';
import { TokenStoreUnavailableError } from '../../tokens.errors.js';
import type { CliCommand } from '../cli-command.js';
import type { CliContext } from '../cli-context.js';
import { CliError } from '../cli.errors.js';
import { exitCodeOf } from '../error-report.js';
import { ProgressLines } from '../progress-lines.js';
import { nameOfConnection } from '../stored-states.js';
import { renderTable, wrap } from '../text-layout.js';

const UNLIMITED = 'unlimited';
/** The text lists no more unreadable texts. The JSON lists all. */
const LISTED = 20;

/** Seals every stored text by the first key. */
export const keysResealCommand: CliCommand = {
  name: 'keys reseal',
  summary: 'Seal every stored text anew by the first key. Ctrl-C ends it after a batch.',
  options: [
    new Option('--batch <rows>', 'rows of one statement, 1 to 10000').argParser(readBatch).default(DEFAULT_BATCH_SIZE),
    new Option('--rate <rows>', `rows that get new texts in a second at most, or "${UNLIMITED}"`)
      .argParser(readRate)
      .default(DEFAULT_ROWS_PER_SECOND),
  ],
  examples: ['idp-tokens keys reseal', 'idp-tokens keys reseal --batch 200 --rate 1000'],
  needs: 'keys',
  endsBySignal: true,
  run: async (context, { options }) => {
    const { get } = await context.open();
    const result = await reseal(context, get(TokenKeyRotation), options);
    const isInterrupted = context.signal.aborted && !result.isComplete;
    return {
      ok: result.isComplete && result.unreadable.length === 0,
      result: { ...result, isInterrupted },
      text: (columns) => describe(result, isInterrupted, columns),
    };
  },
};

async function reseal(
  { output, signal }: CliContext,
  rotation: TokenKeyRotation,
  { batch, rate }: Readonly<Record<string, unknown>>,
): Promise<ResealResult> {
  const progress = new ProgressLines(output);
  try {
    return await rotation.reseal({
      signal,
      onProgress: (each) => {
        progress.show(each);
      },
      batchSize: Number(batch),
      maxRowsPerSecond: Number(rate),
    });
  } catch (error) {
    if (!(error instanceof TokenStoreUnavailableError) || error.sqlState === '42P01') throw error;
    throw resumable(error);
  } finally {
    progress.end();
  }
}

function resumable(error: TokensError): CliError {
  const remedy = 'Nothing is lost. Run the command again: it resumes, because it skips what is done.';
  return Object.assign(new CliError(error.message, exitCodeOf(error), remedy), { cause: error });
}

function describe(
  { resealed, unchanged, unreadable, isComplete }: ResealResult,
  isInterrupted: boolean,
  columns: number,
) {
  const lines = [`${resealed} rows are sealed anew, ${unchanged} rows needed nothing.`];
  if (!isComplete) {
    const why = isInterrupted ? 'The command was interrupted.' : 'Some rows were locked for too long.';
    lines.push(`${why} Run it again to go on: it skips what is done.`);
  }
  const text = lines.map((line) => wrap(line, columns)).join('\n');
  if (unreadable.length === 0) return text;
  const table = renderTable(
    {
      headers: ['table', 'user', 'provider', 'column', 'key'],
      rows: unreadable
        .slice(0, LISTED)
        .map((each) => [each.table, each.keycloakUserId, nameOfConnection(each), each.column, each.keyId ?? '(none)']),
    },
    columns,
  );
  const more = unreadable.length > LISTED ? `\n… and ${unreadable.length - LISTED} more: --json lists all.` : '';
  return `${text}\n${wrap(`Texts that do not open, and stay as they are: ${unreadable.length}`, columns)}\n${table}${more}`;
}

function readBatch(text: string): number {
  const rows = Number(text);
  if (!Number.isInteger(rows) || rows < 1 || rows > 10_000) {
    throw new InvalidArgumentError('Give a whole number from 1 to 10000.');
  }
  return rows;
}

function readRate(text: string): number {
  if (text === UNLIMITED) return Infinity;
  const rows = Number(text);
  if (rows > 0 && Number.isFinite(rows)) return rows;
  throw new InvalidArgumentError(`Give a number above 0, or "${UNLIMITED}".`);
}
