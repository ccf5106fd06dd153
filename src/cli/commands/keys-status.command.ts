import { KeyRingCheck } from '../../key-rotation/key-ring-check.js';
import {
  TokenKeyRotation,
  type KeyRotationStatus,
  type TokenKeyStatus,
} from '../../key-rotation/token-key-rotation.js';
import { SEALED_TABLES } from '../../storage/sealed-texts/sealed-texts.table.js';
import type { CliCommand } from '../cli-command.js';
import type { CliContext } from '../cli-context.js';
import { keyFindings } from '../key-findings.js';
import { renderTable, wrap } from '../text-layout.js';

/** What is known about the keys. */
export interface KeysReport extends KeyRotationStatus {
  /** Whether the command knows the key ring. If not, it does not say which keys seal or are in it. */
  readonly isRingKnown: boolean;
  /**
   * What is wrong, with what to do: why no process boots with this key ring, which texts it does not open, and which
   * texts name a retired key. Without a key ring there is none.
   */
  readonly faults: readonly string[];
}

/** Counts the texts of each key, and holds the key ring against the registry and the texts. It changes nothing. */
export const keysStatusCommand: CliCommand = {
  name: 'keys status',
  summary: 'Show which keys the stored texts name, and whether the key ring fits them.',
  examples: ['idp-tokens keys status', 'DATABASE_URL=… TOKENS_KEYS=… idp-tokens keys status --json'],
  needs: 'database',
  run: async (context) => {
    const report = await readKeys(context);
    return { ok: report.faults.length === 0, result: report, text: (columns) => describeKeys(report, columns) };
  },
};

/** Reads the state of all keys. Each table is read once. */
export async function readKeys(context: CliContext): Promise<KeysReport> {
  const { get } = await context.open();
  const { hasKeys, settings } = context.configuration;
  const { keyring } = settings;
  const status = await get(TokenKeyRotation).status();
  if (!hasKeys) {
    // Without TOKENS_KEYS the ring has only a placeholder.
    const keys = status.keys.filter(({ id }) => keyring.find(id) === undefined);
    return { ...status, isRingKnown: false, keys, faults: [] };
  }
  const findings = await keyFindings(keyring, get(KeyRingCheck), status);
  const faults = findings.map(({ message, remedy = '' }) => `${message} ${remedy}`);
  return { ...status, isRingKnown: true, faults };
}

/** Returns the keys as a table, and what is wrong with them. */
export function describeKeys({ isRingKnown, keys, legacyTexts, faults }: KeysReport, columns: number): string {
  // An attempt to link an account lives for minutes, so most of the time its column would be empty.
  const counts = [...keys.map(({ texts }) => texts), legacyTexts];
  const tables = SEALED_TABLES.filter((each) => each !== 'link_attempts' || counts.some((texts) => texts[each] > 0));
  const table = renderTable(
    {
      headers: ['key', 'state', ...tables],
      rows: [
        ...keys.map((key) => [key.id, stateOf(key, isRingKnown), ...tables.map((each) => key.texts[each])]),
        ...(tables.some((each) => legacyTexts[each] > 0)
          ? [['(none)', 'legacy', ...tables.map((each) => legacyTexts[each])]]
          : []),
      ],
    },
    columns,
  );
  const lines = keys.length === 0 ? ['No key has sealed here, and no text names one.'] : [table];
  if (!isRingKnown) lines.push(wrap('TOKENS_KEYS is not set, so the key ring is not compared.', columns));
  if (faults.length > 0) lines.push('', 'Something is wrong with the keys:');
  for (const fault of faults) lines.push(wrap(`- ${fault}`, columns, '  '));
  return lines.join('\n');
}

function stateOf({ isSealing, isInRing, isRegistered, retiredAt }: TokenKeyStatus, isRingKnown: boolean): string {
  const states = [
    retiredAt ? 'retired' : '',
    isSealing ? 'seals' : '',
    isInRing && !isSealing ? 'opens' : '',
    isRingKnown && !isInRing && !retiredAt ? 'not in the ring' : '',
    isRegistered ? '' : 'not registered',
  ];
  return states.filter((state) => state !== '').join(', ') || 'registered';
}
