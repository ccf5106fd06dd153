import { StatementExecutor } from '../postgres/statement-executor.js';
import { OverviewTable } from '../storage/overview/overview.table.js';
import type { RowState } from '../storage/overview/row-state.js';
import type { TokensSettings } from '../tokens.options.js';
import type { OpenTokens } from './cli-context.js';

/** What the command line prints in place of a provider for Keycloak offline tokens. */
export const KEYCLOAK_OFFLINE = '(Keycloak offline)';

const NAMES: Readonly<Record<RowState, string>> = {
  active: 'active',
  stale: 'stale',
  leased: 'leased',
  outcome_unknown: 'outcome unknown',
  expired_lease: 'expired lease',
  backing_off: 'backing off',
  quarantined: 'quarantine',
  reauthentication: 're-authentication',
};

/** Returns the state in words. */
export function nameOfState(state: RowState): string {
  return NAMES[state];
}

/** Returns the provider in words, and the account if it is not the default one. */
export function nameOfConnection({ idp, account }: { readonly idp: string; readonly account?: string }): string {
  return account ? `${idp} (${account})` : idp;
}

/** Returns the overview of the tables, with the leeways of the configured providers. */
export function overviewOf(
  { dataSource, get }: OpenTokens,
  { identityProviders, refresh }: TokensSettings,
): OverviewTable {
  const rules = [...identityProviders].map(([idp, { policy, assumedLifetimeSeconds }]) => ({
    idp,
    leewaySeconds: policy.leewaySeconds ?? refresh.leewaySeconds,
    assumedLifetimeSeconds: assumedLifetimeSeconds ?? null,
  }));
  return new OverviewTable(dataSource, get(StatementExecutor), rules, refresh.leewaySeconds);
}
