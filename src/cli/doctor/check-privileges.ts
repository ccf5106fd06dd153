import type { DoctorContext } from './doctor-context.js';
import { type Finding, findingsOf } from './finding.js';

const privileges = findingsOf('privileges');
const writable = findingsOf('writable');

/** The rights that the statements of the module need. A conflict of an insertion also needs SELECT and UPDATE. */
const NEEDED: Readonly<Record<string, readonly string[]>> = {
  auth_tokens: ['SELECT', 'INSERT', 'UPDATE', 'DELETE'],
  offline_tokens: ['SELECT', 'INSERT', 'UPDATE', 'DELETE'],
  token_revocations: ['SELECT', 'INSERT', 'UPDATE', 'DELETE'],
  disconnected_accounts: ['SELECT', 'INSERT', 'UPDATE', 'DELETE'],
  link_attempts: ['SELECT', 'INSERT', 'UPDATE', 'DELETE'],
  token_keys: ['SELECT', 'INSERT', 'UPDATE'],
};

/** May the role do what the module does, and does row security hide rows from it? */
export async function checkPrivileges(context: DoctorContext): Promise<Finding[]> {
  const missing = new Set<string>();
  let existing = 0;
  const secured: string[] = [];
  for (const { name, tableName, path } of context.tables) {
    const rights = NEEDED[name] ?? [];
    const row = await context.row(
      'read the privileges of the role',
      // A name in a schema that the role may not use is not found, so such a schema is looked for by the table's name.
      `SELECT named.oid IS NOT NULL AS exists,
         ARRAY(SELECT hidden.nspname::text FROM pg_class JOIN pg_namespace AS hidden ON hidden.oid = relnamespace
           WHERE named.oid IS NULL AND relname = $tableName AND relkind IN ('r', 'p')
             AND NOT has_schema_privilege(hidden.oid, 'USAGE')) AS hidden,
         row_security_active(named.oid) AS is_secured,
         ARRAY(SELECT asked.name FROM unnest($rights::text[]) AS asked (name)
           WHERE NOT has_table_privilege(named.oid, asked.name)) AS missing,
         ARRAY(SELECT sequence FROM pg_attrdef JOIN pg_attribute ON attrelid = adrelid AND attnum = adnum,
             pg_get_serial_sequence($path::text, attname) AS sequence
           WHERE adrelid = named.oid AND attidentity = '' AND sequence IS NOT NULL
             AND NOT has_sequence_privilege(sequence, 'USAGE')) AS sequences
       FROM (SELECT) AS nothing LEFT JOIN pg_class AS named ON named.oid = to_regclass($path::text)`,
      { rights, path, tableName },
    );
    for (const schema of row.hidden as string[]) missing.add(`USAGE on SCHEMA ${schema}`);
    if (row.exists !== true) continue; // the check "drift" names a missing table
    existing++;
    const lacking = row.missing as string[];
    if (lacking.length > 0) missing.add(`${lacking.join(', ')} ON ${path}`);
    for (const sequence of row.sequences as string[]) missing.add(`USAGE on SEQUENCE ${sequence}`);
    if (row.is_secured === true) secured.push(path);
  }
  return [...privilegeFindings([...missing], secured, existing), await writableFinding(context)];
}

function privilegeFindings(missing: readonly string[], secured: readonly string[], existing: number): Finding[] {
  const found: Finding[] = [];
  if (missing.length > 0) {
    found.push(
      privileges.fault(
        `The role lacks ${missing.join('; ')}.`,
        `Run as the owner of the tables: ${missing.map((right) => `GRANT ${right} TO …;`).join(' ')}`,
      ),
    );
  }
  if (secured.length > 0) {
    found.push(
      privileges.warning(
        `Row security hides rows of ${secured.join(', ')} from the role, unless a policy shows all of them.`,
        'Give the role a policy that shows it every row, or BYPASSRLS. A hidden row counts as missing.',
      ),
    );
  }
  if (found.length > 0) return found;
  if (existing === Object.keys(NEEDED).length) {
    return [privileges.ok('The role may read and write all tables of the module.')];
  }
  return [
    privileges.warning(
      `Only ${existing} of ${Object.keys(NEEDED).length} tables exist. The rights to the others were not checked.`,
      'Run idp-tokens migrate, and run the doctor again.',
    ),
  ];
}

async function writableFinding(context: DoctorContext): Promise<Finding> {
  const { standby, read_only } = await context.row(
    'read whether the server is read-only',
    `SELECT pg_is_in_recovery() AS standby, current_setting('transaction_read_only')::boolean AS read_only`,
  );
  if (standby === true) {
    return writable.fault('The server is a standby, which stores nothing.', 'Point the data source at the primary.');
  }
  if (read_only === true) {
    return writable.fault(
      'Transactions are read-only, so no token can be stored.',
      'Look for default_transaction_read_only: ALTER ROLE … or ALTER DATABASE … RESET default_transaction_read_only.',
    );
  }
  return writable.ok('The server is the primary, and transactions may write.');
}
