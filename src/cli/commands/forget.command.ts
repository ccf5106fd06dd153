import { QueryRunnerScope } from '../../postgres/query-runner-scope.js';
import { AuthTokensTable } from '../../storage/auth-tokens/auth-tokens.table.js';
import { DisconnectedAccountsTable } from '../../storage/disconnected-accounts/disconnected-accounts.table.js';
import { LinkAttemptsTable } from '../../storage/link-attempts/link-attempts.table.js';
import { checkUserId } from '../../token-input.js';
import { OfflineTokenStore } from '../../token-manager/offline-token.store.js';
import { TokenManager } from '../../token-manager/token-manager.js';
import type { CliCommand } from '../cli-command.js';
import { confirmed, yesOption } from '../confirmation.js';
import { KEYCLOAK_OFFLINE, nameOfConnection, overviewOf } from '../stored-states.js';
import { wrap } from '../text-layout.js';

/**
 * Deletes everything of one user in one transaction: all accounts, and the attempts to link one. What a provider can
 * revoke is noted for revocation. It deletes what is stored when the transaction begins, also what was stored since the
 * question.
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
    const connections = async () => (await overview.connectionsOf(user)).map(({ idp, account }) => ({ idp, account }));
    const offline = (await overview.offlineTokenOf(user)) ? [KEYCLOAK_OFFLINE] : [];
    const places = [...(await connections()).map(nameOfConnection), ...offline];
    await confirmed(
      `This deletes everything of user "${user}": ${places.join(', ') || 'no tokens are stored'}.`,
      call,
      context,
    );
    const deleted: Connection[] = [];
    const notedForRevocation: Connection[] = [];
    const forget = async () => {
      for (const connection of await connections()) {
        const { idp, account } = connection;
        const provider = identityProviders.get(idp);
        const isDeleted = provider
          ? await get(TokenManager).revokeIdpTokens(user, idp, { account })
          : (await get(AuthTokensTable).delete({ keycloakUserId: user, idp, account })) !== null;
        if (isDeleted) deleted.push(connection);
        if (isDeleted && provider?.revoke) notedForRevocation.push(connection);
      }
      await get(DisconnectedAccountsTable).deleteOfUser(user);
      await get(LinkAttemptsTable).deleteOfUser(user);
      return get(OfflineTokenStore).deleteToken(user);
    };
    // Lazy, because the list needs a connection of its own, and the pool may have one connection.
    const hasOfflineToken = await get(QueryRunnerScope).run(forget, { lazy: true });
    const result = { user, deleted, notedForRevocation, hasDeletedOfflineToken: hasOfflineToken };
    return { ok: true, result, text: (columns) => wrap(describe(result), columns) };
  },
};

/** An account of the user. The name of the default account is empty. */
interface Connection {
  readonly idp: string;
  readonly account: string;
}

interface Forgotten {
  readonly user: string;
  readonly deleted: readonly Connection[];
  readonly notedForRevocation: readonly Connection[];
  readonly hasDeletedOfflineToken: boolean;
}

function describe({ user, deleted, notedForRevocation, hasDeletedOfflineToken }: Forgotten): string {
  const places = [...deleted.map(nameOfConnection), ...(hasDeletedOfflineToken ? [KEYCLOAK_OFFLINE] : [])];
  if (places.length === 0) return `No tokens of user "${user}" were stored.`;
  const lines = [`Everything of user "${user}" is deleted: ${places.join(', ')}.`];
  if (notedForRevocation.length > 0) {
    const noted = notedForRevocation.map(nameOfConnection).join(', ');
    lines.push(
      `A running process of the application revokes the tokens of ${noted}. Until then they are sealed in ` +
        'token_revocations.',
    );
  }
  const others = deleted.filter((each) => !notedForRevocation.includes(each)).map(nameOfConnection);
  if (others.length > 0) lines.push(`Nothing revokes the tokens of ${others.join(', ')}: they end when they expire.`);
  if (hasDeletedOfflineToken) lines.push('The offline session stays in Keycloak: end it in the console of its realm.');
  return lines.join('\n');
}
