import { defineStatement, noColumns, type Statement } from '../../postgres/statement.js';

/** A registered key. */
export interface RegisteredKey {
  readonly id: string;
  readonly checkText: string;
  readonly retiredAt: Date | null;
}

/** A key to register, with the text that it has sealed. */
export interface KeyToRegister {
  readonly keyId: string;
  readonly checkText: string;
}

/** The statements on `token_keys`, named by what they do. */
export interface TokenKeysStatements {
  readonly list: Statement<object, RegisteredKey>;
  readonly register: Statement<KeyToRegister, true>;
  readonly retire: Statement<KeyToRegister, true>;
}

/** @param table quoted path of the table */
export function tokenKeysStatements(table: string): TokenKeysStatements {
  return {
    list: defineStatement({
      label: 'list_keys',
      action: 'read the registered encryption keys',
      isRepeatable: true,
      text: `SELECT stored.id, stored.check_text, date_part('epoch', stored.retired_at) AS retired_at
        FROM ${table} AS stored ORDER BY stored.created_at, stored.id`,
      read: (row) => ({
        id: String(row.id),
        checkText: String(row.check_text),
        retiredAt: row.retired_at === null ? null : new Date(Number(row.retired_at) * 1000),
      }),
    }),

    // Two processes may register one key at once. The first one wins, and each process reads the row afterwards.
    register: defineStatement({
      label: 'register_key',
      action: 'register an encryption key',
      isRepeatable: true,
      text: `INSERT INTO ${table} AS stored (id, check_text) VALUES ($keyId, $checkText) ON CONFLICT (id) DO NOTHING`,
      read: noColumns,
    }),

    // The key may have no row, because it sealed before the table existed. The row then keeps the key out of first place.
    retire: defineStatement({
      label: 'retire_key',
      action: 'retire an encryption key',
      isRepeatable: true, // the second try keeps the time of the first one
      text: `INSERT INTO ${table} AS stored (id, check_text, retired_at) VALUES ($keyId, $checkText, now())
        ON CONFLICT (id) DO UPDATE SET retired_at = coalesce(stored.retired_at, now())`,
      read: noColumns,
    }),
  };
}
