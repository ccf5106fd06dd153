import { registryFaults } from '../../key-rotation/registry-faults.js';
import { SEALED_TABLES, SealedTextsTable } from '../../storage/sealed-texts/sealed-texts.table.js';
import type { RegisteredKey } from '../../storage/token-keys/token-keys.statements.js';
import { TokenKeysTable } from '../../storage/token-keys/token-keys.table.js';
import type { DoctorContext } from './doctor-context.js';
import { type Finding, findingsOf } from './finding.js';

const { ok, warning, fault } = findingsOf('keys');

/**
 * Does the key ring fit the registered keys, and does it have the key of every stored text? It registers nothing. It
 * reads every table with sealed texts once.
 */
export async function checkKeys(context: DoctorContext): Promise<Finding[]> {
  const { dataSource, executor, settings } = context;
  const registered = await new TokenKeysTable(dataSource, executor).list();
  const texts = await countTexts(new SealedTextsTable(dataSource, executor));
  const { keyring } = settings;
  const found = registryFaults(keyring, registered).map((text) => {
    const message = `${text.charAt(0).toUpperCase()}${text.slice(1)}`;
    return fault(message, 'Applications with this key ring do not boot. See docs/guides/key-rotation.md.');
  });
  for (const [keyId, count] of texts) {
    const finding = keyId === null ? ofLegacyTexts(count, context) : ofNamedKey(keyId, count, registered, context);
    if (finding) found.push(finding);
  }
  if (found.length > 0) return found;
  const { id } = keyring.sealingKey;
  const total = [...texts.values()].reduce((sum, count) => sum + count, 0);
  const isNew = registered.every((key) => key.id !== id);
  return [
    ok(
      `Key "${id}" seals${isNew ? ', and the first boot registers it' : ''}. ` +
        `The key ring has the keys of all ${total.toLocaleString('en')} stored texts.`,
    ),
  ];
}

/** Returns how many stored texts name each key. The key is null for the texts that name none. */
async function countTexts(table: SealedTextsTable): Promise<Map<string | null, number>> {
  const counts = new Map<string | null, number>();
  for (const name of SEALED_TABLES) {
    for (const { keyId, texts } of await table.count(name)) counts.set(keyId, (counts.get(keyId) ?? 0) + texts);
  }
  return counts;
}

function ofNamedKey(
  keyId: string,
  count: number,
  registered: readonly RegisteredKey[],
  { settings: { keyring } }: DoctorContext,
): Finding | undefined {
  const texts = `${count.toLocaleString('en')} stored text${count === 1 ? ' names' : 's name'}`;
  const row = registered.find(({ id }) => id === keyId);
  if (!keyring.find(keyId)) {
    return fault(
      `${texts} the key "${keyId}", which is not in encryption.keys, so they do not open.`,
      'Add the key again, after the first one. If its secret is lost, these users connect their accounts again.',
    );
  }
  if (!row?.retiredAt) return undefined;
  return warning(
    `${texts} the key "${keyId}", which is retired since ${row.retiredAt.toISOString()}. A process still seals by it.`,
    'Restart every process with the present encryption.keys, and then run idp-tokens keys reseal. Keep the key until then.',
  );
}

function ofLegacyTexts(count: number, { settings: { keyring } }: DoctorContext): Finding {
  const texts = `${count.toLocaleString('en')} stored text${count === 1 ? ' names' : 's name'} no key`;
  if (keyring.fernetKeyId === undefined) {
    return fault(
      `${texts}, and encryption.keys has no legacyFernetSecret, so they do not open.`,
      'Add the legacyFernetSecret of the system that sealed them. See docs/guides/adopting-existing-tables.md.',
    );
  }
  return warning(
    `${texts}. They are of the adopted system, whose secret "${keyring.fernetKeyId}" opens them.`,
    'Run idp-tokens keys reseal, and then remove the legacyFernetSecret.',
  );
}
