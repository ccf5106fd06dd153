import { keyFindings, storedTextsName, textsOf } from '../key-findings.js';
import type { DoctorContext } from './doctor-context.js';
import { type Finding, findingsOf } from './finding.js';

const { ok, warning } = findingsOf('keys');

/**
 * Does the key ring fit the registered keys, and does it have the key of every stored text? It registers nothing. It
 * reads every table with sealed texts once.
 */
export async function checkKeys({ ringCheck, rotation, settings: { keyring } }: DoctorContext): Promise<Finding[]> {
  const status = await rotation.status();
  const found = await keyFindings(keyring, ringCheck, status);
  const legacyCount = textsOf(status.legacyTexts);
  if (legacyCount > 0 && keyring.fernetKeyId !== undefined) found.push(adoptedTexts(legacyCount, keyring.fernetKeyId));
  if (found.length > 0) return found;
  const { id } = keyring.sealingKey;
  const total = status.keys.reduce((sum, { texts }) => sum + textsOf(texts), 0);
  const isNew = status.keys.some((key) => key.id === id && !key.isRegistered);
  return [
    ok(
      `Key "${id}" seals${isNew ? ', and the first boot registers it' : ''}. ` +
        `The key ring has the keys of all ${total.toLocaleString('en')} stored texts.`,
    ),
  ];
}

function adoptedTexts(count: number, fernetKeyId: string): Finding {
  return warning(
    `${storedTextsName(count)} no key. They are of the adopted system, whose secret "${fernetKeyId}" opens them.`,
    'Run idp-tokens keys reseal, and then remove the legacyFernetSecret.',
  );
}
