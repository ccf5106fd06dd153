import { Injectable } from '@nestjs/common';

import { AccountLinks, type LinkAuthorization, type LinkedAccount } from '../account-links/account-links.js';
import { TokensUsageError } from '../tokens.errors.js';

/** Lists and ends the connections in memory. It links no account, because a link needs a provider. */
@Injectable()
export class AccountLinksForTesting extends AccountLinks {
  override begin(): Promise<LinkAuthorization> {
    return Promise.reject(refused('begin'));
  }

  override finish(): Promise<LinkedAccount> {
    return Promise.reject(refused('finish'));
  }
}

function refused(method: string): TokensUsageError {
  return new TokensUsageError(
    `AccountLinks.${method} does not work with TokensTestingModule, because a test has no provider. Give the connections ` +
      'of a user to `tokens` of TokensTestingModule.forRoot, or replace AccountLinks by a provider of the test.',
  );
}
