-- accessTokens.one: load tokens
-- idp_tokens_find_access_token_c833c06de649, repeated when its connection breaks
--   $1 keycloakUserId: text
--   $2 idp: text
--   $3 account: text
SELECT stored.access_token, concat_ws(' ', stored.token_version, stored.access_token_expires_at,
  date_part('epoch', stored.issued_at), date_part('epoch', clock_timestamp()), stored.scopes) AS version_and_times FROM "auth_tokens" AS stored WHERE stored.keycloak_user_id = $1 AND stored.identity_provider = $2 AND stored.account = $3 AND stored.status = 'active' AND stored.open_leases = 0;

-- accessTokens.ofOneIdp: load tokens
-- idp_tokens_find_access_token_of_one_6b32a170776d, repeated when its connection breaks
--   $1 users: text[]
--   $2 idp: text
--   $3 account: text
SELECT stored.keycloak_user_id, stored.access_token, concat_ws(' ', stored.token_version, stored.access_token_expires_at,
  date_part('epoch', stored.issued_at), date_part('epoch', clock_timestamp()), stored.scopes) AS version_and_times FROM "auth_tokens" AS stored
        WHERE stored.keycloak_user_id = ANY((SELECT $1::text[])::text[]) AND stored.identity_provider = $2
          AND stored.account = $3 AND stored.status = 'active' AND stored.open_leases = 0;

-- accessTokens.ofMany: load tokens
-- idp_tokens_find_access_token_of_many_19e3fd53dd4e, repeated when its connection breaks
--   $1 keycloakUserId: text[]
--   $2 idp: text[]
--   $3 account: text[]
SELECT asked.position, stored.access_token, concat_ws(' ', stored.token_version, stored.access_token_expires_at,
  date_part('epoch', stored.issued_at), date_part('epoch', clock_timestamp()), stored.scopes) AS version_and_times
        FROM unnest((SELECT $1::text[]), (SELECT $2::text[]), (SELECT $3::text[])) WITH ORDINALITY
          AS asked (keycloak_user_id, identity_provider, account, position)
        JOIN "auth_tokens" AS stored ON stored.keycloak_user_id = asked.keycloak_user_id
          AND stored.identity_provider = asked.identity_provider AND stored.account = asked.account
        WHERE stored.status = 'active' AND stored.open_leases = 0;

-- rows.one: load tokens
-- idp_tokens_load_3d935b0ccfef, repeated when its connection breaks
--   $1 keycloakUserId: text
--   $2 idp: text
--   $3 account: text
SELECT stored.id::text AS row_id, stored.token_version::text AS token_version, stored.parent_version::text AS parent_version, stored.client_id,
  CASE
    WHEN stored.status <> 'active' THEN 'ended'
    WHEN stored.lease_expires_at > clock_timestamp() THEN CASE WHEN stored.lease_outcome_unknown THEN 'outcome_unknown' ELSE 'leased' END
    WHEN stored.quarantined_until > clock_timestamp() THEN 'quarantined'
    WHEN stored.retry_at > clock_timestamp() THEN 'backing_off'
    WHEN stored.open_leases > 0 THEN 'abandoned'
    ELSE 'idle' END AS lease_state, date_part('epoch', clock_timestamp()) AS present,
  date_part('epoch', stored.issued_at) AS issued_at, date_part('epoch', stored.lease_expires_at) AS lease_expires_at, date_part('epoch', stored.first_leased_at) AS first_leased_at, date_part('epoch', stored.retry_at) AS retry_at, date_part('epoch', stored.quarantined_until) AS quarantined_until,
  stored.lease_outcome_unknown, stored.open_leases, stored.failure_count, stored.failure_kind, stored.last_error_code, stored.rejections,
  stored.access_token_rejected, stored.access_token, stored.refresh_token, stored.access_token_expires_at,
  stored.refresh_token_expires_at, stored.scopes, stored.subject FROM "auth_tokens" AS stored WHERE stored.keycloak_user_id = $1 AND stored.identity_provider = $2 AND stored.account = $3 AND true;

-- rows.ofOneIdp: load tokens
-- idp_tokens_load_of_one_2ef97790c316, repeated when its connection breaks
--   $1 users: text[]
--   $2 idp: text
--   $3 account: text
SELECT stored.keycloak_user_id, stored.id::text AS row_id, stored.token_version::text AS token_version, stored.parent_version::text AS parent_version, stored.client_id,
  CASE
    WHEN stored.status <> 'active' THEN 'ended'
    WHEN stored.lease_expires_at > clock_timestamp() THEN CASE WHEN stored.lease_outcome_unknown THEN 'outcome_unknown' ELSE 'leased' END
    WHEN stored.quarantined_until > clock_timestamp() THEN 'quarantined'
    WHEN stored.retry_at > clock_timestamp() THEN 'backing_off'
    WHEN stored.open_leases > 0 THEN 'abandoned'
    ELSE 'idle' END AS lease_state, date_part('epoch', clock_timestamp()) AS present,
  date_part('epoch', stored.issued_at) AS issued_at, date_part('epoch', stored.lease_expires_at) AS lease_expires_at, date_part('epoch', stored.first_leased_at) AS first_leased_at, date_part('epoch', stored.retry_at) AS retry_at, date_part('epoch', stored.quarantined_until) AS quarantined_until,
  stored.lease_outcome_unknown, stored.open_leases, stored.failure_count, stored.failure_kind, stored.last_error_code, stored.rejections,
  stored.access_token_rejected, stored.access_token, stored.refresh_token, stored.access_token_expires_at,
  stored.refresh_token_expires_at, stored.scopes, stored.subject FROM "auth_tokens" AS stored
        WHERE stored.keycloak_user_id = ANY((SELECT $1::text[])::text[]) AND stored.identity_provider = $2
          AND stored.account = $3 AND true;

-- rows.ofMany: load tokens
-- idp_tokens_load_of_many_4aee3bd1f63f, repeated when its connection breaks
--   $1 keycloakUserId: text[]
--   $2 idp: text[]
--   $3 account: text[]
SELECT asked.position, stored.id::text AS row_id, stored.token_version::text AS token_version, stored.parent_version::text AS parent_version, stored.client_id,
  CASE
    WHEN stored.status <> 'active' THEN 'ended'
    WHEN stored.lease_expires_at > clock_timestamp() THEN CASE WHEN stored.lease_outcome_unknown THEN 'outcome_unknown' ELSE 'leased' END
    WHEN stored.quarantined_until > clock_timestamp() THEN 'quarantined'
    WHEN stored.retry_at > clock_timestamp() THEN 'backing_off'
    WHEN stored.open_leases > 0 THEN 'abandoned'
    ELSE 'idle' END AS lease_state, date_part('epoch', clock_timestamp()) AS present,
  date_part('epoch', stored.issued_at) AS issued_at, date_part('epoch', stored.lease_expires_at) AS lease_expires_at, date_part('epoch', stored.first_leased_at) AS first_leased_at, date_part('epoch', stored.retry_at) AS retry_at, date_part('epoch', stored.quarantined_until) AS quarantined_until,
  stored.lease_outcome_unknown, stored.open_leases, stored.failure_count, stored.failure_kind, stored.last_error_code, stored.rejections,
  stored.access_token_rejected, stored.access_token, stored.refresh_token, stored.access_token_expires_at,
  stored.refresh_token_expires_at, stored.scopes, stored.subject
        FROM unnest((SELECT $1::text[]), (SELECT $2::text[]), (SELECT $3::text[])) WITH ORDINALITY
          AS asked (keycloak_user_id, identity_provider, account, position)
        JOIN "auth_tokens" AS stored ON stored.keycloak_user_id = asked.keycloak_user_id
          AND stored.identity_provider = asked.identity_provider AND stored.account = asked.account
        WHERE true;

-- accounts: load tokens
-- idp_tokens_list_accounts_bdaee279c10b, repeated when its connection breaks
--   $1 keycloakUserId: text
--   $2 idp: text
SELECT stored.account FROM "auth_tokens" AS stored
        WHERE stored.keycloak_user_id = $1 AND stored.identity_provider = $2 ORDER BY stored.account;
