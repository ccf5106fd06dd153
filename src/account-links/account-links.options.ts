import { ValidateBy } from 'class-validator';

import type { OptionsOf } from '../options-validation.js';
import { allowListFault } from './return-to.js';

/** The rules of the options `accountLinks`, with their defaults. */
export class AccountLinksSettings {
  /**
   * The URLs at other hosts to which the browser may return after a link: origins, or URLs with the path below which
   * every path is allowed. Default: none, so that only paths of the host are allowed.
   */
  @ValidateBy({
    name: 'allowedReturnTo',
    validator: {
      validate: (value) => allowListFault(value) === undefined,
      defaultMessage: () => `$property ${allowListFault(undefined) ?? ''}`,
    },
  })
  allowedReturnTo: readonly string[] = [];
}

/**
 * Options for {@link AccountLinks}.
 *
 * @interface
 */
export type AccountLinksOptions = Partial<OptionsOf<AccountLinksSettings>>;
