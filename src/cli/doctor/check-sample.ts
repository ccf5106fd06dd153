import type { TextsOfRow } from '../../storage/sealed-texts/sealed-texts.statements.js';
import { SEALED_TABLES, type SealedTable } from '../../storage/sealed-texts/sealed-texts.table.js';
import { accountInWords } from '../../token-key.js';
import type { DoctorContext } from './doctor-context.js';
import { type Finding, findingsOf } from './finding.js';

const { ok, fault } = findingsOf('sample');

/** So many rows that were written last, and so many at random, of each table. */
const ROWS = 50;
/** A finding names at most so many rows of a table. */
const NAMED_ROWS = 5;

/** Do stored texts open by the key ring? It opens the newest and some other rows of each table, and keeps no text. */
export async function checkSample({ texts, sealer }: DoctorContext): Promise<Finding[]> {
  const found: Finding[] = [];
  const opened: string[] = [];
  for (const table of SEALED_TABLES) {
    const rows = await texts.sample(table, ROWS);
    const closed = rows.filter((row) => sealer.unreadableIn(table, row).length > 0);
    if (closed.length > 0) found.push(closedFinding(table, closed, rows.length));
    else opened.push(`${rows.length} of ${table}`);
  }
  return found.length > 0 ? found : [ok(`The rows of a sample open: ${opened.join(', ')}.`)];
}

function closedFinding(table: SealedTable, closed: readonly TextsOfRow[], sampled: number): Finding {
  const named = closed
    .slice(0, NAMED_ROWS)
    .map((row) =>
      table === 'offline_tokens'
        ? `user "${row.keycloakUserId}"`
        : `row ${row.id} of user "${row.keycloakUserId}", provider "${row.idp}"${accountInWords(row)}`,
    );
  const more = closed.length > NAMED_ROWS ? `; and ${closed.length - NAMED_ROWS} more` : '';
  return fault(
    `${closed.length} of ${sampled} sampled rows of ${table} do not open: ${named.join('; ')}${more}.`,
    'Add the key that sealed them, or restore the rows. Otherwise these users connect their accounts again. ' +
      'idp-tokens keys reseal lists all of them.',
  );
}
