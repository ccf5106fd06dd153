import { IdentityProviderRegistry } from '../../identity-providers/identity-provider.registry.js';
import { checkKey } from '../../token-input.js';
import { TokenManager } from '../../token-manager/token-manager.js';
import type { CliCommand } from '../cli-command.js';
import { confirmed, yesOption } from '../confirmation.js';
import { wrap } from '../text-layout.js';

/**
 * Ends one connection as the module does. The command sends no request to the provider: it notes the pair, and a process
 * of the application revokes it.
 */
export const revokeCommand: CliCommand = {
  name: 'revoke',
  summary: "Delete one user's tokens at a provider, and have them revoked there.",
  arguments: { '<user>': 'the user id', '<idp>': 'the name of the provider' },
  options: [yesOption()],
  examples: ['idp-tokens revoke user-1 github', 'idp-tokens revoke user-1 github --yes --json'],
  needs: 'providers',
  run: async (context, call) => {
    const [user = '', idp = ''] = call.arguments;
    const { get } = await context.open();
    checkKey({ keycloakUserId: user, idp });
    get(IdentityProviderRegistry).get(idp);
    await confirmed(`This deletes the tokens of user "${user}" at "${idp}".`, call, context);
    const isDeleted = await get(TokenManager).revokeIdpTokens(user, idp);
    const isRevoked = isDeleted && context.settings.identityProviders.get(idp)?.revoke !== undefined;
    const text = !isDeleted
      ? `No tokens of user "${user}" at "${idp}" were stored.`
      : `The tokens of user "${user}" at "${idp}" are deleted. ` +
        (isRevoked
          ? 'A running process of the application revokes them at the provider; "idp-tokens status" counts what waits.'
          : 'The provider cannot revoke tokens, so they stay valid there until they expire.');
    return {
      ok: true,
      result: { user, idp, isDeleted, isNotedForRevocation: isRevoked },
      text: (columns) => wrap(text, columns),
    };
  },
};
