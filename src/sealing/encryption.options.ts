import { ArrayNotEmpty, IsArray, IsNotEmpty, IsString, Matches } from 'class-validator';

import type { OptionsOf } from '../options-validation.js';

/** A key that seals and opens: 32 random bytes, base64, for example from `openssl rand -base64 32`. */
export type SealingKeyOptions = OptionsOf<SealingKeySettings>;

/** A key that only opens Fernet texts of the system whose database was adopted; the next write reseals them. */
export type LegacyFernetKeyOptions = OptionsOf<LegacyFernetKeySettings>;

/** One key of the ring: told apart by which secret it has. */
export type EncryptionKeyOptions = SealingKeyOptions | LegacyFernetKeyOptions;

/** Keys of the token encryption. The first key seals; every key opens. */
export type EncryptionOptions = OptionsOf<EncryptionSettings>;

/** {@link EncryptionOptions} with their rules. */
export class EncryptionSettings {
  @IsArray()
  @ArrayNotEmpty({ message: 'keys must hold at least one key' })
  keys!: EncryptionKeyOptions[];
}

/** What a key id looks like: free of the dot that separates the parts of a sealed text. */
export const KEY_ID = /^[A-Za-z0-9_-]{1,64}$/;
const KEY_ID_RULE = 'id must be 1 to 64 letters, digits, "-" or "_"';

/** {@link SealingKeyOptions} with their rules. */
export class SealingKeySettings {
  /** Written into every text this key seals. Letters, digits, `-` and `_`, at most 64; never reused for another secret. */
  @Matches(KEY_ID, { message: KEY_ID_RULE })
  id!: string;

  @Matches(/^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$/, {
    message: 'secret must be 32 bytes in base64; make one with: openssl rand -base64 32',
  })
  secret!: string;
}

/** {@link LegacyFernetKeyOptions} with their rules. */
export class LegacyFernetKeySettings {
  @Matches(KEY_ID, { message: KEY_ID_RULE })
  id!: string;

  /** The text whose SHA-256 digest is the Fernet key. */
  @IsString()
  @IsNotEmpty()
  legacyFernetSecret!: string;
}
