import type { DataSource } from 'typeorm';

import { once } from '../../postgres/once.js';
import type { StatementExecutor } from '../../postgres/statement-executor.js';
import { tablePathOf } from '../../postgres/table-path.js';
import type { Reactivation } from '../auth-tokens/auth-tokens-write.statements.js';
import { AuthTokens } from '../auth-tokens/auth-tokens.entity.js';
import { DisconnectedAccount } from '../disconnected-accounts/disconnected-account.entity.js';
import { StoredOfflineToken } from '../offline-tokens/stored-offline-token.entity.js';
import { TokenRevocation } from '../token-revocations/token-revocation.entity.js';
import {
  type DisconnectedSince,
  disconnectedStatement,
  type EndedCount,
  type OutboxCount,
  outboxStatement,
  overviewStatements,
  reactivatableStatement,
  type StateCount,
  type StoredConnection,
} from './overview.statements.js';
import { type FreshnessRule, type OverviewShape, ruleColumns } from './row-state.js';

/** Returns the shapes of the tables with refreshes, by their quoted paths. */
export function overviewShapes(authTokens: string, offlineTokens: string): Record<'pairs' | 'offline', OverviewShape> {
  return {
    pairs: {
      name: 'auth_tokens',
      table: authTokens,
      user: 'keycloak_user_id',
      idp: 'identity_provider',
      texts: ['access_token', 'refresh_token'],
    },
    offline: { name: 'offline_tokens', table: offlineTokens, user: 'user_id', idp: null, texts: ['offline_token'] },
  };
}

/**
 * What the operator may know of the tables: counts, states and times, and nothing that is sealed. It only reads, outside
 * of every transaction. Every method throws {@link TokenStoreUnavailableError}.
 */
export class OverviewTable {
  readonly #sql = once(() => {
    const authTokens = tablePathOf(this.dataSource, AuthTokens);
    const shapes = overviewShapes(authTokens, tablePathOf(this.dataSource, StoredOfflineToken));
    return {
      pairs: overviewStatements(shapes.pairs),
      offline: overviewStatements(shapes.offline),
      outbox: outboxStatement(tablePathOf(this.dataSource, TokenRevocation)),
      reactivatable: reactivatableStatement(authTokens),
      disconnected: disconnectedStatement(tablePathOf(this.dataSource, DisconnectedAccount), authTokens),
    };
  });

  /** @param leewaySeconds the leeway of a provider without a rule */
  constructor(
    private readonly dataSource: DataSource,
    private readonly executor: StatementExecutor,
    private readonly rules: readonly FreshnessRule[],
    private readonly leewaySeconds: number,
  ) {}

  /** Counts the pairs by provider, state and cause. */
  pairStates(): Promise<StateCount[]> {
    const params = ruleColumns(this.rules, this.leewaySeconds);
    return this.executor.executeOnWholeTable(this.#sql().pairs.states, params);
  }

  /** Counts the Keycloak offline tokens by state and cause. */
  offlineStates(): Promise<StateCount[]> {
    return this.executor.executeOnWholeTable(this.#sql().offline.states, {});
  }

  /** Counts the pairs that wait to be revoked: those of a user, or all. */
  outbox(user: string | null = null): Promise<OutboxCount[]> {
    return this.executor.executeOnWholeTable(this.#sql().outbox, { user });
  }

  /** Returns the pairs of a user. */
  connectionsOf(user: string): Promise<StoredConnection[]> {
    const params = { ...ruleColumns(this.rules, this.leewaySeconds), user };
    return this.executor.executeDetached(this.#sql().pairs.connections, params);
  }

  /** Returns the Keycloak offline token of a user; null if none is stored. */
  async offlineTokenOf(user: string): Promise<StoredConnection | null> {
    const [token] = await this.executor.executeDetached(this.#sql().offline.connections, { user });
    return token ?? null;
  }

  /** Counts the grants that a reactivation would make active, by the codes with which they ended. */
  reactivatable(which: Reactivation): Promise<EndedCount[]> {
    return this.executor.executeOnWholeTable(this.#sql().reactivatable, which);
  }

  /** Returns the accounts that a user disconnected. */
  disconnectedOf(user: string): Promise<DisconnectedSince[]> {
    return this.executor.executeDetached(this.#sql().disconnected, { user });
  }
}
