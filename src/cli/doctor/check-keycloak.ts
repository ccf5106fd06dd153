import { KeycloakClient } from '../../keycloak/keycloak-client.js';
import type { KeycloakMetadata } from '../../keycloak/keycloak-metadata.js';
import type { KeycloakRealm } from '../../keycloak/keycloak-realm.js';
import { verifyingKeysIn } from '../../keycloak/verifying-keys.js';
import { TokensError } from '../../tokens-error.js';
import { impossibleToken, isEncrypted } from './check-providers.js';
import type { DoctorContext } from './doctor-context.js';
import { type Finding, findingsOf } from './finding.js';

const realmFindings = findingsOf('keycloak realm');
const client = findingsOf('keycloak client');
const offline = findingsOf('keycloak offline tokens');

/**
 * Does the realm answer with the issuer of the options and with keys, does it accept the client, and does it offer
 * offline tokens? It looks at what the realm shows without the rights of an administrator.
 */
export async function checkKeycloak({ settings: { keycloak } }: DoctorContext): Promise<Finding[]> {
  if (!keycloak) return [findingsOf('keycloak').ok('No Keycloak realm is configured.')];
  const keycloakClient = new KeycloakClient(keycloak);
  let metadata: KeycloakMetadata;
  try {
    metadata = await keycloakClient.metadata();
  } catch (error) {
    return [realmFindings.fault(messageOf(error), 'Correct the options in keycloak, or the settings of the realm.')];
  }
  return [
    await realmFinding(keycloakClient, keycloak, metadata),
    await clientFinding(keycloakClient, keycloak),
    offlineFinding(metadata),
  ];
}

async function realmFinding(
  keycloakClient: KeycloakClient,
  { url, issuer }: KeycloakRealm,
  metadata: KeycloakMetadata,
): Promise<Finding> {
  let keys: object[];
  try {
    keys = await verifyingKeysIn((await keycloakClient.getPublic(new URL(metadata.jwks_uri))).body);
  } catch (error) {
    return realmFindings.fault(messageOf(error), 'Let this machine reach the keys of the realm.');
  }
  if (keys.length === 0) {
    return realmFindings.fault(
      `${url} shows no key that verifies a token, so KeycloakAuthGuard refuses every request.`,
      'Give the realm a key for RS256, PS256, ES256 or EdDSA.',
    );
  }
  const message = `${url} answers as issuer ${issuer}, with ${keys.length} ${keys.length === 1 ? 'key' : 'keys'}.`;
  if (isEncrypted(url)) return realmFindings.ok(message);
  return realmFindings.warning(`${message} The connection is not encrypted.`, 'Use https in keycloak.serverUrl.');
}

async function clientFinding(
  keycloakClient: KeycloakClient,
  { clientId, refreshOwner }: KeycloakRealm,
): Promise<Finding> {
  const answer = await keycloakClient.redeem(impossibleToken());
  const owner =
    refreshOwner === 'module'
      ? 'refreshOwner is "module": let no other program ask the broker for the tokens of providers.'
      : 'refreshOwner is "keycloak": the module asks the broker, and refreshes no pair of a brokered provider.';
  switch (answer.kind) {
    case 'terminal':
      return client.ok(
        `The realm accepts the client "${clientId}" (${answer.code} for a token that cannot exist). ${owner}`,
      );
    case 'configuration':
      return client.fault(answer.error.message, 'Correct keycloak.clientId and keycloak.clientSecret.');
    case 'success':
      return client.fault('The realm issued tokens for a token that does not exist.', 'Correct keycloak.serverUrl.');
    default:
      return client.fault(
        `The token endpoint of the realm gives no usable answer (${answer.code}).`,
        'Check that this machine reaches the token endpoint that the metadata of the realm name.',
      );
  }
}

function offlineFinding(metadata: KeycloakMetadata): Finding {
  // The type has what the module uses. The metadata have more.
  const scopes: unknown = Reflect.get(metadata, 'scopes_supported');
  if (!Array.isArray(scopes)) return offline.ok('The metadata of the realm name no scopes, so this is not to be seen.');
  if (scopes.includes('offline_access')) {
    return offline.ok(
      'The realm has the scope offline_access. Whether the client and its users may use it is not to be seen.',
    );
  }
  return offline.warning(
    'The metadata of the realm do not name the scope offline_access, so it may issue no offline tokens.',
    'If the application stores offline tokens, add the client scope offline_access to the realm.',
  );
}

function messageOf(error: unknown): string {
  if (error instanceof TokensError) return error.message;
  throw error;
}
