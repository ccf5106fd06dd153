import { Injectable } from '@nestjs/common';

import { formOf, OfflineTokenVault } from '../keycloak/offline-token-vault.js';
import { prefixOf } from '../sealing/check-text.js';
import { Keyring } from '../sealing/keyring.js';
import type { TokenLocation } from '../sealing/sealed-token.js';
import { TokenCipher } from '../sealing/token-cipher.js';
import type { TextsOfRow, TextsToReplace } from '../storage/sealed-texts/sealed-texts.statements.js';
import type { SealedTable } from '../storage/sealed-texts/sealed-texts.table.js';
import { authTokenLocation, codeVerifierLocation, offlineTokenLocation } from '../storage/token-locations.js';
import { TokenDecryptionError } from '../tokens.errors.js';

/** A stored text that does not open. Nothing changes it. */
export interface UnreadableText {
  readonly table: SealedTable;
  /** The primary key of the row. */
  readonly id: string;
  readonly keycloakUserId: string;
  /** Empty for an offline token. */
  readonly idp: string;
  /** Absent for the default account, and for an offline token. */
  readonly account?: string;
  readonly column: 'access_token' | 'refresh_token' | 'offline_token' | 'code_verifier';
  /** The key that the text names; null if it names none. */
  readonly keyId: string | null;
}

/** The first column of each table that has a text. Only pairs have a second one. */
const FIRST_COLUMN: Readonly<Record<SealedTable, UnreadableText['column']>> = {
  auth_tokens: 'access_token',
  offline_tokens: 'offline_token',
  token_revocations: 'access_token',
  link_attempts: 'code_verifier',
};

/** What became of the texts of one row. */
export interface SealedRow {
  /** Null if every text of the row is sealed by the first key, or does not open. */
  readonly toReplace: TextsToReplace | null;
  readonly unreadable: readonly UnreadableText[];
}

/** Seals the texts of rows anew, by the first key of the key ring. It does not touch the database. */
@Injectable()
export class TextSealer {
  /** How every text begins that the first key has sealed. */
  readonly sealedPrefix: string;

  constructor(
    keyring: Keyring,
    private readonly cipher: TokenCipher,
    private readonly vault: OfflineTokenVault,
  ) {
    this.sealedPrefix = prefixOf(keyring.sealingKey.id);
  }

  /** Seals the texts of a row that another key has sealed. A text that does not open is named, and stays. */
  seal(table: SealedTable, row: TextsOfRow): SealedRow {
    const { id, first, second } = row;
    const anew = workOnTexts(table, row, (text, column) => this.#seal(row, text, column));
    const [newFirst, newSecond] = anew.results;
    const hasNone = newFirst === null && newSecond === null;
    return {
      toReplace: hasNone
        ? null
        : { id, oldFirst: newFirst && first, newFirst, oldSecond: newSecond && second, newSecond },
      unreadable: anew.unreadable,
    };
  }

  /** Opens the texts of a row, also those of the first key, and names those that do not open. */
  unreadableIn(table: SealedTable, row: TextsOfRow): readonly UnreadableText[] {
    return workOnTexts(table, row, (text, column) => this.#open(row, text, column)).unreadable;
  }

  #seal(row: TextsOfRow, text: string, column: UnreadableText['column']): string | null {
    if (column === 'offline_token') {
      // The form of the adopted system can have blanks, so only Node.js sees who sealed the text.
      return formOf(text).sealed.startsWith(this.sealedPrefix) ? null : this.vault.reseal(row.keycloakUserId, text);
    }
    return this.cipher.seal(this.#open(row, text, column), locationOf(row, column));
  }

  #open(row: TextsOfRow, text: string, column: UnreadableText['column']): string {
    const sealed = column === 'offline_token' ? formOf(text).sealed : text;
    return this.cipher.open(sealed, locationOf(row, column));
  }
}

/** A pair keeps the place of auth_tokens when it moves to token_revocations. */
function locationOf(row: TextsOfRow, column: UnreadableText['column']): TokenLocation {
  if (column === 'offline_token') return offlineTokenLocation(row.keycloakUserId);
  return column === 'code_verifier' ? codeVerifierLocation(row, row.id) : authTokenLocation(row, column);
}

/** Works on each text of a row. The result is null where there is no text, and where the text does not open. */
function workOnTexts(
  table: SealedTable,
  row: TextsOfRow,
  work: (text: string, column: UnreadableText['column']) => string | null,
): { readonly results: readonly [string | null, string | null]; readonly unreadable: readonly UnreadableText[] } {
  const unreadable: UnreadableText[] = [];
  const resultOf = (text: string | null, column: UnreadableText['column']): string | null => {
    if (text === null) return null;
    try {
      return work(text, column);
    } catch (error) {
      if (!(error instanceof TokenDecryptionError)) throw error;
      const { id, keycloakUserId, idp, account } = row;
      const key = { keycloakUserId, idp, ...(account && { account }) };
      unreadable.push({ table, id, ...key, column, keyId: error.keyId ?? null });
      return null;
    }
  };
  const first = resultOf(row.first, FIRST_COLUMN[table]);
  return { results: [first, resultOf(row.second, 'refresh_token')], unreadable };
}
