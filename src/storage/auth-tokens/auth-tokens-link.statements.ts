import { defineStatement, type Statement } from '../../postgres/statement.js';
import type { AccountKey } from '../../token-key.js';
import type { Stamp } from '../leases/leased-table-shape.js';
import type { GrantStatus } from '../leases/leased.entity.js';
import type { ScopedTokens } from '../stored-tokens.js';
import { isHeldElsewhere, lockedRows } from './auth-tokens-row.js';
import { lacksRefreshToken, ownValue, storedPair } from './stored-pair.js';

/** A pair that a link brought, and the account at the provider. */
export type PairOfLink = ScopedTokens &
  Stamp & {
    /** The id of the account at the provider; null if it is not known. */
    readonly subject: string | null;
    readonly accountName: string | null;
    /** Whether the provider should have told the account and did not. */
    readonly isUntold: boolean;
    /** Whether the pair may replace one of another account. */
    readonly replacesAccount: boolean;
    /** Whether the provider can revoke the pair that is replaced. */
    readonly isRevocable: boolean;
  };

/**
 * What became of a pair. `other_account`: the row has a pair of another account. `untold`: the row has a pair of a known
 * account, which can be another one. In both cases the row is as it was.
 */
export type LinkOutcome = 'stored' | 'other_account' | 'untold';

/** `raced`: another statement inserted the row at the same time. */
export type LinkResult = LinkOutcome | 'raced';

/** An account of a user that is connected, without a token. */
export interface AccountConnection {
  readonly idp: string;
  /** The name of the host for the account; empty for the default account. */
  readonly account: string;
  /** The id of the account at the provider; null if it is not known. */
  readonly subject: string | null;
  /** The name of the account at the provider, such as a login; null if it is not known. */
  readonly name: string | null;
  /** Sorted; null if they are not known. */
  readonly scopes: readonly string[] | null;
  /** `reauthentication_required`: the user must connect the account again. */
  readonly state: GrantStatus;
  readonly hasRefreshToken: boolean;
  /** When the account was connected for the first time since it was last disconnected. */
  readonly connectedAt: Date;
  /** When the provider issued the present tokens. */
  readonly refreshedAt: Date;
  /** Null = the access token does not expire. */
  readonly accessTokenExpiresAt: Date | null;
  /** Null = the refresh token does not expire, its expiry is not known, or there is none. */
  readonly refreshTokenExpiresAt: Date | null;
}

/** The statements on `auth_tokens` that only links need. */
export interface AuthTokensLinks {
  readonly link: Statement<AccountKey & PairOfLink, LinkResult>;
  readonly connections: Statement<{ readonly keycloakUserId: string }, AccountConnection>;
}

/**
 * @param table quoted path of the table
 * @param revocations quoted path of `token_revocations`
 */
export function authTokensLinks(table: string, revocations: string): AuthTokensLinks {
  const kept = `NOT found.may_be_other AND ${lacksRefreshToken(ownValue('', 'refreshToken'), ownValue('', 'clientId'))}`;
  const replaced = storedPair(ownValue, kept, { subject: '$subject::text', accountName: '$accountName::text' });
  const columns =
    ', stored.access_token, stored.refresh_token, stored.client_id, stored.token_version, stored.parent_version';
  return {
    // The statement itself decides whether the pair is of the connected account, because two links of one user may end
    // at once. If the provider does not tell the account, the pair does not replace one of a known account, because an
    // attacker who makes the question fail could otherwise put another account there. The version tells the statement
    // that it has stored the pair already, when its first answer was lost.
    link: defineStatement({
      label: 'link',
      action: 'store the tokens of a link',
      isRepeatable: true,
      text: `WITH locked AS MATERIALIZED (
         ${lockedRows(table, { columns, othersIf: '$replacesAccount::boolean AND $isRevocable::boolean' })}),
       found AS MATERIALIZED (
         SELECT stored.id AS row_id, stored.subject, stored.access_token, stored.refresh_token, stored.client_id,
             coalesce(stored.subject <> $subject::text, false) AS is_other,
             coalesce(stored.subject <> $subject::text, $isUntold::boolean AND stored.subject IS NOT NULL) AS may_be_other,
             stored.token_version = $version::bigint OR coalesce(stored.parent_version = $version::bigint, false) AS is_done
           FROM locked AS stored WHERE stored.account = $account),
       updated AS (
         UPDATE ${table} AS stored SET ${replaced}
           FROM found WHERE stored.id = found.row_id AND NOT found.is_done
             AND ($replacesAccount::boolean OR NOT found.may_be_other) RETURNING stored.id),
       revoked AS (
         INSERT INTO ${revocations} (keycloak_user_id, identity_provider, account, client_id, access_token, refresh_token)
           SELECT $keycloakUserId, $idp, $account, found.client_id, found.access_token, found.refresh_token FROM found
             WHERE found.is_other AND NOT found.is_done AND $replacesAccount::boolean AND $isRevocable::boolean
               AND NOT ${isHeldElsewhere('found')}),
       inserted AS (
         INSERT INTO ${table} AS stored (keycloak_user_id, identity_provider, account, access_token, refresh_token,
             access_token_expires_at, refresh_token_expires_at, scopes, subject, account_name, token_version, client_id,
             issued_at)
           SELECT $keycloakUserId, $idp, $account, $accessToken, $refreshToken, $accessTokenExpiresAt::bigint,
             $refreshTokenExpiresAt::bigint, $scopes, $subject, $accountName, $version::bigint, $clientId,
             clock_timestamp() WHERE NOT EXISTS (SELECT FROM found)
           ON CONFLICT (keycloak_user_id, identity_provider, account) DO NOTHING RETURNING stored.id)
       SELECT CASE WHEN EXISTS (SELECT FROM updated) OR EXISTS (SELECT FROM inserted)
             OR coalesce((SELECT found.is_done FROM found), false) THEN 'stored'
           WHEN EXISTS (SELECT FROM found) THEN CASE WHEN (SELECT found.is_other FROM found) THEN 'other_account' ELSE 'untold' END
           ELSE 'raced' END AS result`,
      read: (row) => row.result as LinkResult,
    }),

    connections: defineStatement({
      label: 'connections',
      action: 'list connections',
      isRepeatable: true,
      text: `SELECT stored.identity_provider, stored.account, stored.subject, stored.account_name, stored.scopes,
           stored.status, stored.refresh_token <> '' AS has_refresh_token, stored.access_token_expires_at,
           stored.refresh_token_expires_at, date_part('epoch', stored.created_at) AS connected_at,
           date_part('epoch', stored.issued_at) AS refreshed_at
         FROM ${table} AS stored WHERE stored.keycloak_user_id = $keycloakUserId
         ORDER BY stored.identity_provider, stored.account`,
      read: (row) => ({
        idp: String(row.identity_provider),
        account: String(row.account),
        subject: row.subject as string | null,
        name: row.account_name as string | null,
        scopes: row.scopes === null ? null : scopesOf(String(row.scopes)),
        state: row.status as GrantStatus,
        hasRefreshToken: row.has_refresh_token as boolean,
        connectedAt: dateOf(row.connected_at),
        refreshedAt: dateOf(row.refreshed_at),
        accessTokenExpiresAt: expiryOf(row.access_token_expires_at),
        refreshTokenExpiresAt: expiryOf(row.refresh_token_expires_at),
      }),
    }),
  };
}

function scopesOf(text: string): string[] {
  return text === '' ? [] : text.split(' ');
}

function dateOf(epochSeconds: unknown): Date {
  return new Date(Number(epochSeconds) * 1000);
}

/** Returns an expiry in epoch seconds as a date; null for 0. */
export function expiryOf(epochSeconds: unknown): Date | null {
  return Number(epochSeconds) === 0 ? null : dateOf(epochSeconds);
}
