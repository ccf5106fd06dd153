import { QueryRunnerScope } from '../../postgres/query-runner-scope.js';
import { AuthTokensTable } from '../../storage/auth-tokens/auth-tokens.table.js';
import { DisconnectedAccountsTable } from '../../storage/disconnected-accounts/disconnected-accounts.table.js';
import { checkUserId } from '../../token-input.js';
import { OfflineTokenStore } from '../../token-manager/offline-token.store.js';
import { TokenManager } from '../../token-manager/token-manager.js';
import type { CliCommand } from '../cli-command.js';
import { confirmed, yesOption } from '../confirmation.js';
import { KEYCLOAK_OFFLINE, overviewOf } from '../stored-states.js';
import { wrap } from '../text-layout.js';

/**
 * Deletes everything of one user, in one transaction. What a provider can revoke is noted for revocation. It deletes what
 * is stored when the transaction begins, also what was stored since the question.
 */
export const forgetCommand: CliCommand = {
  name: 'forget',
  summary: 'Delete everything of one user, and have the tokens revoked.',
  arguments: { '<user>': 'the user id' },
  options: [yesOption()],
  examples: ['idp-tokens forget user-1', 'idp-tokens forget user-1 --yes --json'],
  needs: 'providers',
  run: async (context, call) => {
    const user = checkUserId(call.arguments[0]);
    const open = await context.open();
    const { get } = open;
    const { identityProviders } = context.settings;
    const overview = overviewOf(open, context.settings);
    const connections = async () => (await overview.connectionsOf(user)).map(({ idp }) => idp);
    const places = [...(await connections()), ...((await overview.offlineTokenOf(user)) ? [KEYCLOAK_OFFLINE] : [])];
    await confirmed(
      `This deletes everything of user "${user}": ${places.join(', ') || 'no tokens are stored'}.`,
      call,
      context,
    );
    const deleted: string[] = [];
    const notedForRevocation: string[] = [];
    const forget = async () => {
      for (const idp of await connections()) {
        const provider = identityProviders.get(idp);
        const isDeleted = provider
          ? await get(TokenManager).revokeIdpTokens(user, idp)
          : (await get(AuthTokensTable).delete({ keycloakUserId: user, idp })) !== null;
        if (isDeleted) deleted.push(idp);
        if (isDeleted && provider?.revoke) notedForRevocation.push(idp);
      }
      await get(DisconnectedAccountsTable).deleteOfUser(user);
      return get(OfflineTokenStore).deleteToken(user);
    };
    // Lazy, because the list needs a connection of its own, and the pool may have one connection.
    const hasOfflineToken = await get(QueryRunnerScope).run(forget, { lazy: true });
    const result = { user, deleted, notedForRevocation, hasDeletedOfflineToken: hasOfflineToken };
    return { ok: true, result, text: (columns) => wrap(describe(result), columns) };
  },
};

interface Forgotten {
  readonly user: string;
  readonly deleted: readonly string[];
  readonly notedForRevocation: readonly string[];
  readonly hasDeletedOfflineToken: boolean;
}

function describe({ user, deleted, notedForRevocation, hasDeletedOfflineToken }: Forgotten): string {
  const places = [...deleted, ...(hasDeletedOfflineToken ? [KEYCLOAK_OFFLINE] : [])];
  if (places.length === 0) return `No tokens of user "${user}" were stored.`;
  const lines = [`Everything of user "${user}" is deleted: ${places.join(', ')}.`];
  if (notedForRevocation.length > 0) {
    lines.push(
      `A running process of the application revokes the tokens of ${notedForRevocation.join(', ')}. Until then they ` +
        'are sealed in token_revocations.',
    );
  }
  const others = deleted.filter((idp) => !notedForRevocation.includes(idp));
  if (others.length > 0) lines.push(`Nothing revokes the tokens of ${others.join(', ')}: they end when they expire.`);
  if (hasDeletedOfflineToken) lines.push('The offline session stays in Keycloak: end it in the console of its realm.');
  return lines.join('\n');
}
