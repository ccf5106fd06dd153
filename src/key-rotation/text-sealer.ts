import { Injectable } from '@nestjs/common';

import { formOf, OfflineTokenVault } from '../keycloak/offline-token-vault.js';
import { prefixOf } from '../sealing/check-text.js';
import { Keyring } from '../sealing/keyring.js';
import { TokenCipher } from '../sealing/token-cipher.js';
import type { TextsOfRow, TextsToReplace } from '../storage/sealed-texts/sealed-texts.statements.js';
import type { SealedTable } from '../storage/sealed-texts/sealed-texts.table.js';
import { authTokenLocation, codeVerifierLocation } from '../storage/token-locations.js';
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
    const unreadable: UnreadableText[] = [];
    const sealed = (text: string | null, column: UnreadableText['column']): string | null => {
      if (text === null) return null;
      try {
        return this.#seal(row, text, column);
      } catch (error) {
        if (!(error instanceof TokenDecryptionError)) throw error;
        const { id, keycloakUserId, idp, account } = row;
        unreadable.push({
          table,
          id,
          keycloakUserId,
          idp,
          ...(account && { account }),
          column,
          keyId: error.keyId ?? null,
        });
        return null;
      }
    };
    const { id, first, second } = row;
    const newFirst = sealed(first, FIRST_COLUMN[table]);
    const newSecond = sealed(second, 'refresh_token');
    const hasNone = newFirst === null && newSecond === null;
    return {
      toReplace: hasNone
        ? null
        : { id, oldFirst: newFirst && first, newFirst, oldSecond: newSecond && second, newSecond },
      unreadable,
    };
  }

  #seal(row: TextsOfRow, text: string, column: UnreadableText['column']): string | null {
    if (column === 'offline_token') {
      // The form of the adopted system can have blanks, so only Node.js sees who sealed the text.
      return formOf(text).sealed.startsWith(this.sealedPrefix) ? null : this.vault.reseal(row.keycloakUserId, text);
    }
    // A pair keeps the place of auth_tokens when it moves to token_revocations.
    const location = column === 'code_verifier' ? codeVerifierLocation(row, row.id) : authTokenLocation(row, column);
    return this.cipher.seal(this.cipher.open(text, location), location);
  }
}
