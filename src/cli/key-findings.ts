import type { KeyRingCheck } from '../key-rotation/key-ring-check.js';
import type { KeyRotationStatus, TextsByTable, TokenKeyStatus } from '../key-rotation/token-key-rotation.js';
import type { Keyring } from '../sealing/keyring.js';
import { SEALED_TABLES } from '../storage/sealed-texts/sealed-texts.table.js';
import { type Finding, findingsOf } from './doctor/finding.js';

const { warning, fault } = findingsOf('keys');

/**
 * Returns what is wrong with the keys: why no process boots with the key ring, which stored texts it does not open, and
 * which texts name a retired key. It registers nothing.
 */
export async function keyFindings(
  keyring: Keyring,
  check: KeyRingCheck,
  { keys, legacyTexts }: KeyRotationStatus,
): Promise<Finding[]> {
  const legacyCount = textsOf(legacyTexts);
  return [
    ...(await check.presentFaults()).map((text) =>
      fault(capitalised(text), 'No process boots with this key ring. See docs/guides/key-rotation.md.'),
    ),
    ...keys.flatMap(findingsOfKey),
    ...(legacyCount > 0 && keyring.fernetKeyId === undefined ? [closedLegacyTexts(legacyCount)] : []),
  ];
}

/** Returns how many texts all tables have. */
export function textsOf(texts: TextsByTable): number {
  return SEALED_TABLES.reduce((sum, table) => sum + texts[table], 0);
}

/** Returns "1 stored text names" or "2 stored texts name". */
export function storedTextsName(count: number): string {
  return `${count.toLocaleString('en')} stored ${count === 1 ? 'text names' : 'texts name'}`;
}

function findingsOfKey({ id, isInRing, retiredAt, texts }: TokenKeyStatus): Finding[] {
  const count = textsOf(texts);
  if (count === 0) return [];
  if (!isInRing) {
    return [
      fault(
        `${storedTextsName(count)} the key "${id}", which is not in encryption.keys, so they do not open.`,
        'Add the key again, after the first one. If its secret is lost, these users connect their accounts again.',
      ),
    ];
  }
  if (!retiredAt) return [];
  return [
    warning(
      `${storedTextsName(count)} the key "${id}", which is retired since ${retiredAt.toISOString()}. A process still seals by it.`,
      'Restart every process with the present encryption.keys, and then run idp-tokens keys reseal. Keep the key until then.',
    ),
  ];
}

function closedLegacyTexts(count: number): Finding {
  return fault(
    `${storedTextsName(count)} no key, and encryption.keys has no legacyFernetSecret, so they do not open.`,
    'Add the legacyFernetSecret of the system that sealed them. See docs/guides/adopting-existing-tables.md.',
  );
}

function capitalised(text: string): string {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}`;
}
