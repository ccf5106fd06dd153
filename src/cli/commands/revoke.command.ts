import { Option } from 'commander';

import { IdentityProviderRegistry } from '../../identity-providers/identity-provider.registry.js';
import { checkKey } from '../../token-input.js';
import { accountInWords } from '../../token-key.js';
import { TokenManager } from '../../token-manager/token-manager.js';
import type { CliCommand } from '../cli-command.js';
import { confirmed, yesOption } from '../confirmation.js';
import { overviewOf } from '../stored-states.js';
import { wrap } from '../text-layout.js';

/**
 * Ends one connection as the module does. The command sends no request to the provider: it notes the pair, and a process
 * of the application revokes it.
 */
export const revokeCommand: CliCommand = {
  name: 'revoke',
  summary: "Delete the tokens of one user's account at a provider, and have them revoked there.",
  arguments: { '<user>': 'the user id', '<idp>': 'the name of the provider' },
  options: [new Option('--account <name>', 'the name of the account (default: the default account)'), yesOption()],
  examples: ['idp-tokens revoke user-1 github', 'idp-tokens revoke user-1 github --account work --yes --json'],
  needs: 'providers',
  run: async (context, call) => {
    const [user = '', idp = ''] = call.arguments;
    const { account: name } = call.options;
    const key = checkKey({ keycloakUserId: user, idp, account: typeof name === 'string' ? name : '' });
    const open = await context.open();
    open.get(IdentityProviderRegistry).get(idp);
    const whose = `user "${user}" at "${idp}"${accountInWords(key)}`;
    await confirmed(`This deletes the tokens of ${whose}.`, call, context);
    const isDeleted = await open.get(TokenManager).revokeIdpTokens(user, idp, { account: key.account });
    const isRevoked = isDeleted && context.settings.identityProviders.get(idp)?.revoke !== undefined;
    const others = isDeleted
      ? []
      : (await overviewOf(open, context.settings).connectionsOf(user)).filter((each) => each.idp === idp);
    const text = !isDeleted
      ? `No tokens of ${whose} were stored.${hintOf(others.map((each) => each.account))}`
      : `The tokens of ${whose} are deleted. ` +
        (isRevoked
          ? 'A running process of the application revokes them at the provider; "idp-tokens status" counts what waits.'
          : 'The provider cannot revoke tokens, so they stay valid there until they expire.');
    return {
      ok: true,
      result: { user, idp, account: key.account, isDeleted, isNotedForRevocation: isRevoked },
      text: (columns) => wrap(text, columns),
    };
  },
};

/** Names the accounts that the operator may have meant. */
function hintOf(accounts: readonly string[]): string {
  if (accounts.length === 0) return '';
  const names = accounts.map((account) => (account === '' ? 'the default one (without --account)' : `"${account}"`));
  return ` The user has other accounts there: ${names.join(', ')}.`;
}
