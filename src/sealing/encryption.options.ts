import { ArrayNotEmpty, IsArray, IsIn, IsNotEmpty, IsOptional, IsString, Matches } from 'class-validator';

import type { OptionsOf } from '../options-validation.js';

/**
 * A key that seals and opens. It is 32 random bytes in base64, for example from `openssl rand -base64 32`.
 *
 * @interface
 */
export type SealingKeyOptions = OptionsOf<SealingKeySettings>;

/**
 * A key that only opens. It opens the Fernet texts of the system whose database the host has adopted. The next write of
 * a row seals its tokens with the first key.
 *
 * @interface
 */
export type LegacyFernetKeyOptions = OptionsOf<LegacyFernetKeySettings>;

/** One key of the key ring. The name of its secret says of which kind it is. */
export type EncryptionKeyOptions = SealingKeyOptions | LegacyFernetKeyOptions;

/**
 * Keys of the token encryption. The first key seals; every key opens.
 *
 * @interface
 */
export type EncryptionOptions = OptionsOf<EncryptionSettings>;

/**
 * Returns the key ring. The module calls it once when the application boots, before anything opens. It may read a file,
 * or ask a key management service.
 */
export type EncryptionKeysLoader = () => readonly EncryptionKeyOptions[] | Promise<readonly EncryptionKeyOptions[]>;

/** The {@link EncryptionOptions} with their rules. */
export class EncryptionSettings {
  /**
   * The key ring, or a function that returns it, which may be async. The first sealing key seals; every key opens. The
   * module calls the function once when the application boots. The boot fails if the function throws, rejects, or takes
   * longer than 30 s.
   */
  @IsArray()
  @ArrayNotEmpty({ message: 'keys must hold at least one key' })
  keys!: readonly EncryptionKeyOptions[] | EncryptionKeysLoader;
}

/** The form of a key id. It has no dot, because dots separate the parts of a sealed text. */
export const KEY_ID = /^[A-Za-z0-9_-]{1,64}$/;
const KEY_ID_RULE = 'id must be 1 to 64 letters, digits, "-" or "_"';

/** The {@link SealingKeyOptions} with their rules. */
export class SealingKeySettings {
  /**
   * The key id, in every text that this key seals. At most 64 letters, digits, `-` and `_`. Never use it again for
   * another secret.
   */
  @Matches(KEY_ID, { message: KEY_ID_RULE })
  id!: string;

  /** 32 random bytes in base64. */
  @Matches(/^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$/, {
    message: 'secret must be 32 bytes in base64; make one with: openssl rand -base64 32',
  })
  secret!: string;

  /**
   * The algorithm of every text that this key seals and opens. Never change it for a key id that has sealed. Default:
   * `xchacha20-poly1305`. Give `aes-256-gcm` where your rules demand it, such as FIPS 140.
   */
  @IsOptional()
  @IsIn(['xchacha20-poly1305', 'aes-256-gcm'])
  algorithm?: 'xchacha20-poly1305' | 'aes-256-gcm';
}

/** The {@link LegacyFernetKeyOptions} with their rules. */
export class LegacyFernetKeySettings {
  /** The key id. No text contains it. At most 64 letters, digits, `-` and `_`. */
  @Matches(KEY_ID, { message: KEY_ID_RULE })
  id!: string;

  /** The text whose SHA-256 digest is the Fernet key. */
  @IsString()
  @IsNotEmpty()
  legacyFernetSecret!: string;
}
