import { leaseState } from '../leases/leased-row.js';

/**
 * The state of a row for the operator. `active`: the access token is fresh. `stale`: the next call refreshes it.
 * `leased`: an exchange is under way. `outcome_unknown`: its answer is lost, and the lease is still valid.
 * `expired_lease`: the lease of an exchange that has not ended in an answer has expired. `backing_off`: a refresh failed,
 * and no process tries again before a time. `quarantined`: the module does not act on an `invalid_grant` yet.
 * `reauthentication`: only the user can make the tokens usable again.
 */
export type RowState =
  | 'active'
  | 'stale'
  | 'leased'
  | 'outcome_unknown'
  | 'expired_lease'
  | 'backing_off'
  | 'quarantined'
  | 'reauthentication';

/** When the access tokens of a provider count as stale. */
export interface FreshnessRule {
  readonly idp: string;
  readonly leewaySeconds: number;
  /** The lifetime of an access token without an expiry; null if such a token never expires. */
  readonly assumedLifetimeSeconds: number | null;
}

/** Describes where one table has the state of its refreshes. */
export interface OverviewShape {
  /** Part of the names of the statements, and of error messages. */
  readonly name: string;
  /** Quoted path. */
  readonly table: string;
  readonly user: string;
  /** Null for a table without a column of the identity provider. It then has no access token and no expiry either. */
  readonly idp: string | null;
  /** The columns with sealed texts. */
  readonly texts: readonly string[];
}

/** The parameters of {@link rulesJoin}. */
export interface RuleColumns {
  readonly idps: readonly string[];
  readonly leeways: readonly number[];
  readonly assumedLifetimes: readonly (number | null)[];
  /** The leeway of a provider without a rule. */
  readonly leewaySeconds: number;
}

/** Returns the rules as columns of parameters. */
export function ruleColumns(rules: readonly FreshnessRule[], leewaySeconds: number): RuleColumns {
  return {
    idps: rules.map(({ idp }) => idp),
    leeways: rules.map((rule) => rule.leewaySeconds),
    assumedLifetimes: rules.map(({ assumedLifetimeSeconds }) => assumedLifetimeSeconds),
    leewaySeconds,
  };
}

/** Returns SQL that selects from a table, with the alias `stored`, and the times on which the state depends. */
export function fromStored({ table, idp }: OverviewShape): string {
  if (idp === null) return `${table} AS stored`;
  return `${table} AS stored
         LEFT JOIN unnest($idps::text[], $leeways::float8[], $assumedLifetimes::float8[])
           AS rule (idp, leeway, assumed_lifetime) ON rule.idp = stored.${idp}
         CROSS JOIN LATERAL (SELECT date_part('epoch', stored.issued_at) AS issued,
           CASE WHEN stored.access_token_expires_at <> 0 THEN stored.access_token_expires_at
             WHEN stored.refresh_token <> '' THEN floor(date_part('epoch', stored.issued_at)) + rule.assumed_lifetime END AS expiry)
           AS access`;
}

/**
 * Returns SQL of the {@link RowState}. The leeway is the mean one. The module spreads it by a quarter up and down.
 *
 * @param present SQL of the present time
 */
export function rowState({ idp }: OverviewShape, present: string): string {
  const lease = leaseState('stored', present);
  if (idp === null) {
    return `CASE ${lease} WHEN 'ended' THEN 'reauthentication' WHEN 'abandoned' THEN 'expired_lease' WHEN 'idle' THEN 'active'
             ELSE ${lease} END`;
  }
  const epoch = `date_part('epoch', ${present})`;
  const leeway = `least(coalesce(rule.leeway, $leewaySeconds::float8), greatest(0, (access.expiry - access.issued) * 0.1))`;
  return `CASE WHEN stored.status <> 'active' THEN 'reauthentication'
             WHEN ${lease} NOT IN ('idle', 'abandoned') THEN ${lease}
             WHEN access.expiry <= ${epoch} AND ${isUnrefreshable(epoch)} THEN 'reauthentication'
             WHEN stored.open_leases > 0 THEN 'expired_lease'
             WHEN stored.refresh_token = '' OR coalesce(access.expiry - ${epoch} > ${leeway}, true) THEN 'active'
             ELSE 'stale' END`;
}

/** Returns SQL of the cause of the state: the code of the last failure, or why there is nothing to refresh with. */
export function stateCause({ idp }: OverviewShape, present: string): string {
  if (idp === null) return 'stored.last_error_code';
  const epoch = `date_part('epoch', ${present})`;
  return `CASE WHEN stored.status = 'active' AND access.expiry <= ${epoch} AND ${isUnrefreshable(epoch)}
             THEN CASE WHEN stored.refresh_token = '' THEN 'no_refresh_token' ELSE 'refresh_token_expired' END
             ELSE stored.last_error_code END`;
}

function isUnrefreshable(epoch: string): string {
  return `(stored.refresh_token = '' OR stored.refresh_token_expires_at <> 0 AND stored.refresh_token_expires_at <= ${epoch})`;
}
