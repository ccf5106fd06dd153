import { registryFaults } from '../../key-rotation/registry-faults.js';
import {
  TokenKeyRotation,
  type KeyRotationStatus,
  type TokenKeyStatus,
} from '../../key-rotation/token-key-rotation.js';
import { SEALED_TABLES } from '../../storage/sealed-texts/sealed-texts.table.js';
import { TokenKeysTable } from '../../storage/token-keys/token-keys.table.js';
import type { CliCommand } from '../cli-command.js';
import type { CliContext } from '../cli-context.js';
import { renderTable, wrap } from '../text-layout.js';

/** What is known about the keys. */
export interface KeysReport extends KeyRotationStatus {
  /** Whether the command knows the key ring. If not, it does not say which keys seal or are in it. */
  readonly isRingKnown: boolean;
  /** Why no process would boot with this key ring on this database. */
  readonly faults: readonly string[];
}

/** Counts the texts of each key, and holds the key ring against the registry without changing it. */
export const keysStatusCommand: CliCommand = {
  name: 'keys status',
  summary: 'Show which keys the stored texts name, and whether the key ring fits.',
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
  const registered = await get(TokenKeysTable).list();
  const { keys, legacyTexts } = await get(TokenKeyRotation).status();
  const faults = hasKeys ? registryFaults(settings.keyring, registered) : [];
  // Without TOKENS_KEYS the ring has only a placeholder.
  const known = keys.filter(({ id }) => hasKeys || settings.keyring.find(id) === undefined);
  return { isRingKnown: hasKeys, keys: known, legacyTexts, faults };
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
  if (faults.length > 0) lines.push('', 'No process boots with this key ring:');
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
