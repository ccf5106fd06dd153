-- reactivatable: count the grants that have ended
-- idp_tokens_reactivatable_553c42a0c70e, repeated when its connection breaks
--   $1 idp: text
--   $2 userIds: text[]
--   $3 accounts: text[]
--   $4 endedAfter: timestamp with time zone
--   $5 errorCode: text
SELECT stored.last_error_code AS cause, count(*) AS rows FROM "auth_tokens" AS stored
       WHERE stored.identity_provider = $1 AND stored.status <> 'active' AND stored.refresh_token <> ''
             AND ($2::text[] IS NULL OR stored.keycloak_user_id = ANY($2::text[]))
             AND ($3::text[] IS NULL OR stored.account = ANY($3::text[]))
             AND ($4::timestamptz IS NULL OR stored.updated_at >= $4::timestamptz)
             AND ($5::text IS NULL OR stored.last_error_code = $5::text) GROUP BY stored.last_error_code ORDER BY 1;

-- outbox: count the pairs that wait to be revoked
-- idp_tokens_outbox_a334b533e7e9, repeated when its connection breaks
--   $1 user: text
SELECT stored.identity_provider AS idp, CASE WHEN $1::text IS NOT NULL THEN stored.account END AS account,
         stored.last_error_code AS cause, count(*) AS rows,
         to_char(min(stored.created_at) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS oldest_at, max(stored.attempts) AS most_attempts
       FROM "token_revocations" AS stored WHERE $1::text IS NULL OR stored.keycloak_user_id = $1::text
       GROUP BY 1, 2, 3 ORDER BY 1, 2, 3;

-- disconnected: read the accounts that a user disconnected
-- idp_tokens_disconnected_of_user_3f8cecb4ad81, repeated when its connection breaks
--   $1 user: text
SELECT note.identity_provider AS idp, note.account, to_char(note.disconnected_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS at
       FROM "disconnected_accounts" AS note WHERE note.keycloak_user_id = $1 AND NOT EXISTS (SELECT FROM "auth_tokens" AS stored
         WHERE stored.keycloak_user_id = note.keycloak_user_id AND stored.identity_provider = note.identity_provider
           AND stored.account = note.account)
       ORDER BY 1, 2;

-- pairs.states: count the states of auth_tokens
-- idp_tokens_states_auth_tokens_836bbade34fc, repeated when its connection breaks
--   $1 leewaySeconds: double precision
--   $2 idps: text[]
--   $3 leeways: double precision[]
--   $4 assumedLifetimes: double precision[]
SELECT each.idp, each.state, each.cause, count(*) AS rows,
         min(ARRAY[to_char(each.updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'), each.user_id, each.account]) FILTER (WHERE each.failed) AS oldest_failure
       FROM (SELECT stored.identity_provider AS idp, stored.keycloak_user_id AS user_id, stored.account AS account,
           stored.updated_at::timestamptz AS updated_at, stored.last_error_code IS NOT NULL AS failed,
           CASE WHEN stored.status <> 'active' THEN 'reauthentication'
             WHEN CASE
    WHEN stored.status <> 'active' THEN 'ended'
    WHEN stored.lease_expires_at > now() THEN CASE WHEN stored.lease_outcome_unknown THEN 'outcome_unknown' ELSE 'leased' END
    WHEN stored.quarantined_until > now() THEN 'quarantined'
    WHEN stored.retry_at > now() THEN 'backing_off'
    WHEN stored.open_leases > 0 THEN 'abandoned'
    ELSE 'idle' END NOT IN ('idle', 'abandoned') THEN CASE
    WHEN stored.status <> 'active' THEN 'ended'
    WHEN stored.lease_expires_at > now() THEN CASE WHEN stored.lease_outcome_unknown THEN 'outcome_unknown' ELSE 'leased' END
    WHEN stored.quarantined_until > now() THEN 'quarantined'
    WHEN stored.retry_at > now() THEN 'backing_off'
    WHEN stored.open_leases > 0 THEN 'abandoned'
    ELSE 'idle' END
             WHEN access.expiry <= date_part('epoch', now()) AND (stored.refresh_token = '' OR stored.refresh_token_expires_at <> 0 AND stored.refresh_token_expires_at <= date_part('epoch', now())) THEN 'reauthentication'
             WHEN stored.open_leases > 0 THEN 'expired_lease'
             WHEN stored.refresh_token = '' OR coalesce(access.expiry - date_part('epoch', now()) > least(coalesce(rule.leeway, $1::float8), greatest(0, (access.expiry - access.issued) * 0.1)), true) THEN 'active'
             ELSE 'stale' END AS state, CASE WHEN stored.status = 'active' AND access.expiry <= date_part('epoch', now()) AND (stored.refresh_token = '' OR stored.refresh_token_expires_at <> 0 AND stored.refresh_token_expires_at <= date_part('epoch', now()))
             THEN CASE WHEN stored.refresh_token = '' THEN 'no_refresh_token' ELSE 'refresh_token_expired' END
             ELSE stored.last_error_code END AS cause
         FROM "auth_tokens" AS stored
         LEFT JOIN unnest($2::text[], $3::float8[], $4::float8[])
           AS rule (idp, leeway, assumed_lifetime) ON rule.idp = stored.identity_provider
         CROSS JOIN LATERAL (SELECT date_part('epoch', stored.issued_at) AS issued,
           CASE WHEN stored.access_token_expires_at <> 0 THEN stored.access_token_expires_at
             WHEN stored.refresh_token <> '' THEN floor(date_part('epoch', stored.issued_at)) + rule.assumed_lifetime END AS expiry)
           AS access) AS each
       GROUP BY each.idp, each.state, each.cause ORDER BY each.idp, each.state, each.cause;

-- pairs.connections: read what is stored of a user in auth_tokens
-- idp_tokens_connections_auth_tokens_c44c61b03ebc, repeated when its connection breaks
--   $1 leewaySeconds: double precision
--   $2 idps: text[]
--   $3 leeways: double precision[]
--   $4 assumedLifetimes: double precision[]
--   $5 user: text
SELECT stored.identity_provider AS idp, stored.account AS account, stored.subject, stored.account_name, stored.scopes,
         CASE WHEN stored.status <> 'active' THEN 'reauthentication'
             WHEN CASE
    WHEN stored.status <> 'active' THEN 'ended'
    WHEN stored.lease_expires_at > now() THEN CASE WHEN stored.lease_outcome_unknown THEN 'outcome_unknown' ELSE 'leased' END
    WHEN stored.quarantined_until > now() THEN 'quarantined'
    WHEN stored.retry_at > now() THEN 'backing_off'
    WHEN stored.open_leases > 0 THEN 'abandoned'
    ELSE 'idle' END NOT IN ('idle', 'abandoned') THEN CASE
    WHEN stored.status <> 'active' THEN 'ended'
    WHEN stored.lease_expires_at > now() THEN CASE WHEN stored.lease_outcome_unknown THEN 'outcome_unknown' ELSE 'leased' END
    WHEN stored.quarantined_until > now() THEN 'quarantined'
    WHEN stored.retry_at > now() THEN 'backing_off'
    WHEN stored.open_leases > 0 THEN 'abandoned'
    ELSE 'idle' END
             WHEN access.expiry <= date_part('epoch', now()) AND (stored.refresh_token = '' OR stored.refresh_token_expires_at <> 0 AND stored.refresh_token_expires_at <= date_part('epoch', now())) THEN 'reauthentication'
             WHEN stored.open_leases > 0 THEN 'expired_lease'
             WHEN stored.refresh_token = '' OR coalesce(access.expiry - date_part('epoch', now()) > least(coalesce(rule.leeway, $1::float8), greatest(0, (access.expiry - access.issued) * 0.1)), true) THEN 'active'
             ELSE 'stale' END AS state, CASE WHEN stored.status = 'active' AND access.expiry <= date_part('epoch', now()) AND (stored.refresh_token = '' OR stored.refresh_token_expires_at <> 0 AND stored.refresh_token_expires_at <= date_part('epoch', now()))
             THEN CASE WHEN stored.refresh_token = '' THEN 'no_refresh_token' ELSE 'refresh_token_expired' END
             ELSE stored.last_error_code END AS cause,
         stored.token_version::text AS version, stored.parent_version::text AS parent_version, stored.client_id,
         ARRAY[CASE WHEN stored.access_token <> '' THEN coalesce(substring(stored.access_token FROM '(?:^|")v1\.([A-Za-z0-9_-]{1,64})\.'), '') END, CASE WHEN stored.refresh_token <> '' THEN coalesce(substring(stored.refresh_token FROM '(?:^|")v1\.([A-Za-z0-9_-]{1,64})\.'), '') END] AS key_ids,
         stored.refresh_token <> '' AS has_refresh_token,
         CASE WHEN stored.access_token_expires_at BETWEEN 1 AND 99999999999 THEN to_char(to_timestamp(stored.access_token_expires_at) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') END AS access_token_expires_at, CASE WHEN stored.refresh_token_expires_at BETWEEN 1 AND 99999999999 THEN to_char(to_timestamp(stored.refresh_token_expires_at) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') END AS refresh_token_expires_at, stored.open_leases,
         to_char(stored.issued_at::timestamptz AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS issued_at, to_char(stored.created_at::timestamptz AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS created_at, to_char(stored.updated_at::timestamptz AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS updated_at, to_char(stored.lease_expires_at::timestamptz AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS lease_expires_at, to_char(stored.retry_at::timestamptz AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS retry_at, to_char(stored.quarantined_until::timestamptz AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS quarantined_until,
         stored.failure_kind, stored.failure_count, stored.last_error_code
       FROM "auth_tokens" AS stored
         LEFT JOIN unnest($2::text[], $3::float8[], $4::float8[])
           AS rule (idp, leeway, assumed_lifetime) ON rule.idp = stored.identity_provider
         CROSS JOIN LATERAL (SELECT date_part('epoch', stored.issued_at) AS issued,
           CASE WHEN stored.access_token_expires_at <> 0 THEN stored.access_token_expires_at
             WHEN stored.refresh_token <> '' THEN floor(date_part('epoch', stored.issued_at)) + rule.assumed_lifetime END AS expiry)
           AS access WHERE stored.keycloak_user_id = $5 ORDER BY 1, 2;

-- offline.states: count the states of offline_tokens
-- idp_tokens_states_offline_tokens_c4f65ce2deb2, repeated when its connection breaks
SELECT each.idp, each.state, each.cause, count(*) AS rows,
         min(ARRAY[to_char(each.updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'), each.user_id, each.account]) FILTER (WHERE each.failed) AS oldest_failure
       FROM (SELECT '' AS idp, stored.user_id AS user_id, '' AS account,
           stored.updated_at::timestamptz AS updated_at, stored.last_error_code IS NOT NULL AS failed,
           CASE CASE
    WHEN stored.status <> 'active' THEN 'ended'
    WHEN stored.lease_expires_at > now() THEN CASE WHEN stored.lease_outcome_unknown THEN 'outcome_unknown' ELSE 'leased' END
    WHEN stored.quarantined_until > now() THEN 'quarantined'
    WHEN stored.retry_at > now() THEN 'backing_off'
    WHEN stored.open_leases > 0 THEN 'abandoned'
    ELSE 'idle' END WHEN 'ended' THEN 'reauthentication' WHEN 'abandoned' THEN 'expired_lease' WHEN 'idle' THEN 'active'
             ELSE CASE
    WHEN stored.status <> 'active' THEN 'ended'
    WHEN stored.lease_expires_at > now() THEN CASE WHEN stored.lease_outcome_unknown THEN 'outcome_unknown' ELSE 'leased' END
    WHEN stored.quarantined_until > now() THEN 'quarantined'
    WHEN stored.retry_at > now() THEN 'backing_off'
    WHEN stored.open_leases > 0 THEN 'abandoned'
    ELSE 'idle' END END AS state, stored.last_error_code AS cause
         FROM "offline_tokens" AS stored) AS each
       GROUP BY each.idp, each.state, each.cause ORDER BY each.idp, each.state, each.cause;

-- offline.connections: read what is stored of a user in offline_tokens
-- idp_tokens_connections_offline_tokens_7543386b7781, repeated when its connection breaks
--   $1 user: text
SELECT '' AS idp, '' AS account, NULL AS subject, NULL AS account_name, NULL AS scopes,
         CASE CASE
    WHEN stored.status <> 'active' THEN 'ended'
    WHEN stored.lease_expires_at > now() THEN CASE WHEN stored.lease_outcome_unknown THEN 'outcome_unknown' ELSE 'leased' END
    WHEN stored.quarantined_until > now() THEN 'quarantined'
    WHEN stored.retry_at > now() THEN 'backing_off'
    WHEN stored.open_leases > 0 THEN 'abandoned'
    ELSE 'idle' END WHEN 'ended' THEN 'reauthentication' WHEN 'abandoned' THEN 'expired_lease' WHEN 'idle' THEN 'active'
             ELSE CASE
    WHEN stored.status <> 'active' THEN 'ended'
    WHEN stored.lease_expires_at > now() THEN CASE WHEN stored.lease_outcome_unknown THEN 'outcome_unknown' ELSE 'leased' END
    WHEN stored.quarantined_until > now() THEN 'quarantined'
    WHEN stored.retry_at > now() THEN 'backing_off'
    WHEN stored.open_leases > 0 THEN 'abandoned'
    ELSE 'idle' END END AS state, stored.last_error_code AS cause,
         stored.token_version::text AS version, stored.parent_version::text AS parent_version, stored.client_id,
         ARRAY[CASE WHEN stored.offline_token <> '' THEN coalesce(substring(stored.offline_token FROM '(?:^|")v1\.([A-Za-z0-9_-]{1,64})\.'), '') END] AS key_ids,
         stored.offline_token <> '' AS has_refresh_token,
         NULL AS access_token_expires_at, NULL AS refresh_token_expires_at, stored.open_leases,
         to_char(stored.issued_at::timestamptz AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS issued_at, to_char(stored.created_at::timestamptz AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS created_at, to_char(stored.updated_at::timestamptz AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS updated_at, to_char(stored.lease_expires_at::timestamptz AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS lease_expires_at, to_char(stored.retry_at::timestamptz AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS retry_at, to_char(stored.quarantined_until::timestamptz AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS quarantined_until,
         stored.failure_kind, stored.failure_count, stored.last_error_code
       FROM "offline_tokens" AS stored WHERE stored.user_id = $1 ORDER BY 1, 2;
