-- acquire: lease tokens for a refresh
-- idp_tokens_acquire_tokens_7b65106dbd1a, repeated when its connection breaks
--   $1 keycloakUserId: text[]
--   $2 idp: text[]
--   $3 account: text[]
--   $4 leaseId: bigint[]
--   $5 leaseMs: bigint[]
--   $6 seenVersion: bigint[]
--   $7 seenState: text[]
--   $8 isRejected: boolean[]
WITH unlocked AS MATERIALIZED (
       SELECT stored.id AS row_id, asked.* FROM unnest((SELECT $1::text[]), (SELECT $2::text[]), (SELECT $3::text[]), (SELECT $4::bigint[]), (SELECT $5::bigint[]), (SELECT $6::bigint[]), (SELECT $7::text[]), (SELECT $8::boolean[])) WITH ORDINALITY AS asked (keycloak_user_id, identity_provider, account, lease_id, lease_ms, seen_version, seen_state, is_rejected, position)
         JOIN "auth_tokens" AS stored ON stored.keycloak_user_id = asked.keycloak_user_id AND stored.identity_provider = asked.identity_provider AND stored.account = asked.account FOR NO KEY UPDATE OF stored SKIP LOCKED),
       granted AS (
         UPDATE "auth_tokens" AS stored SET lease_id = unlocked.lease_id,
             lease_expires_at = now() + unlocked.lease_ms * interval '1 ms', lease_outcome_unknown = false,
             open_leases = least(stored.open_leases + CASE WHEN stored.lease_id = unlocked.lease_id THEN 0 ELSE 1 END, 32767),
             first_leased_at = coalesce(stored.first_leased_at, now()), retry_at = NULL, updated_at = now(),
             access_token_rejected = stored.access_token_rejected OR unlocked.is_rejected AND stored.open_leases = 0
           FROM unlocked
           WHERE stored.id = unlocked.row_id AND stored.token_version = unlocked.seen_version
             AND (stored.lease_id = unlocked.lease_id OR CASE
    WHEN stored.status <> 'active' THEN 'ended'
    WHEN stored.lease_expires_at > now() THEN CASE WHEN stored.lease_outcome_unknown THEN 'outcome_unknown' ELSE 'leased' END
    WHEN stored.quarantined_until > now() THEN 'quarantined'
    WHEN stored.retry_at > now() THEN 'backing_off'
    WHEN stored.open_leases > 0 THEN 'abandoned'
    ELSE 'idle' END = unlocked.seen_state)
           RETURNING unlocked.position, date_part('epoch', now()) AS granted_at, NULL AS refusal, stored.id::text AS row_id, stored.token_version::text AS token_version, stored.parent_version::text AS parent_version, stored.client_id,
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
  stored.refresh_token_expires_at, stored.scopes, stored.subject)
       SELECT * FROM granted
       UNION ALL
       SELECT asked.position, NULL, CASE WHEN stored.token_version <> asked.seen_version THEN 'replaced'
             WHEN CASE
    WHEN stored.status <> 'active' THEN 'ended'
    WHEN stored.lease_expires_at > now() THEN CASE WHEN stored.lease_outcome_unknown THEN 'outcome_unknown' ELSE 'leased' END
    WHEN stored.quarantined_until > now() THEN 'quarantined'
    WHEN stored.retry_at > now() THEN 'backing_off'
    WHEN stored.open_leases > 0 THEN 'abandoned'
    ELSE 'idle' END <> asked.seen_state THEN 'changed' ELSE 'locked' END, stored.id::text AS row_id, stored.token_version::text AS token_version, stored.parent_version::text AS parent_version, stored.client_id,
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
         FROM unnest((SELECT $1::text[]), (SELECT $2::text[]), (SELECT $3::text[]), (SELECT $4::bigint[]), (SELECT $5::bigint[]), (SELECT $6::bigint[]), (SELECT $7::text[]), (SELECT $8::boolean[])) WITH ORDINALITY AS asked (keycloak_user_id, identity_provider, account, lease_id, lease_ms, seen_version, seen_state, is_rejected, position)
         JOIN "auth_tokens" AS stored ON stored.keycloak_user_id = asked.keycloak_user_id AND stored.identity_provider = asked.identity_provider AND stored.account = asked.account WHERE NOT EXISTS (SELECT FROM granted WHERE granted.position = asked.position);

-- renew: keep the lease of tokens
-- idp_tokens_renew_tokens_a5de94a3cbed, repeated when its connection breaks
--   $1 leaseMs: bigint
--   $2 isUnspent: boolean
--   $3 keycloakUserId: text
--   $4 idp: text
--   $5 account: text
--   $6 leaseId: bigint
--   $7 seenVersion: bigint
UPDATE "auth_tokens" AS stored SET lease_expires_at = now() + $1::bigint * interval '1 ms',
           open_leases = CASE WHEN $2::boolean THEN 1 ELSE stored.open_leases END,
           first_leased_at = CASE WHEN $2::boolean THEN now() ELSE stored.first_leased_at END, updated_at = now()
         WHERE stored.id = (SELECT own.id FROM "auth_tokens" AS own
         WHERE own.keycloak_user_id = $3 AND own.identity_provider = $4 AND own.account = $5 FOR NO KEY UPDATE NOWAIT) AND stored.lease_id = $6 AND stored.token_version = $7
         RETURNING date_part('epoch', now()) AS granted_at;

-- commit: store refreshed tokens
-- idp_tokens_commit_tokens_527f442e25da, repeated when its connection breaks
--   $1 accessToken: character varying
--   $2 refreshToken: character varying
--   $3 accessTokenExpiresAt: bigint
--   $4 refreshTokenExpiresAt: bigint
--   $5 scopes: character varying
--   $6 version: bigint
--   $7 redeemedVersion: bigint
--   $8 issuedAt: double precision
--   $9 clientId: character varying
--   $10 rejections: smallint
--   $11 keycloakUserId: text
--   $12 idp: text
--   $13 account: text
UPDATE "auth_tokens" AS stored SET access_token = $1, refresh_token = $2, access_token_expires_at = $3, refresh_token_expires_at = $4, scopes = $5,
           token_version = $6, parent_version = $7,
           issued_at = to_timestamp($8::float8),
           client_id = $9, rejections = $10, lease_id = NULL, lease_expires_at = NULL, lease_outcome_unknown = false, open_leases = 0, first_leased_at = NULL, retry_at = NULL, failure_count = 0, failure_kind = NULL, last_error_code = NULL, access_token_rejected = false, quarantined_until = NULL, status = 'active', updated_at = clock_timestamp()
         WHERE stored.id = (SELECT own.id FROM "auth_tokens" AS own
         WHERE own.keycloak_user_id = $11 AND own.identity_provider = $12 AND own.account = $13 FOR NO KEY UPDATE NOWAIT) AND stored.token_version = $7 RETURNING stored.token_version;

-- commitMany: store refreshed tokens
-- idp_tokens_commit_many_tokens_b5ffe98e8d8b, repeated when its connection breaks
--   $1 keycloakUserId: text[]
--   $2 idp: text[]
--   $3 account: text[]
--   $4 accessToken: text[]
--   $5 refreshToken: text[]
--   $6 accessTokenExpiresAt: bigint[]
--   $7 refreshTokenExpiresAt: bigint[]
--   $8 scopes: text[]
--   $9 version: bigint[]
--   $10 redeemedVersion: bigint[]
--   $11 issuedAt: double precision[]
--   $12 clientId: text[]
--   $13 rejections: bigint[]
WITH unlocked AS MATERIALIZED (
       SELECT stored.id AS row_id, asked.* FROM unnest((SELECT $1::text[]), (SELECT $2::text[]), (SELECT $3::text[]), (SELECT $4::text[]), (SELECT $5::text[]), (SELECT $6::bigint[]), (SELECT $7::bigint[]), (SELECT $8::text[]), (SELECT $9::bigint[]), (SELECT $10::bigint[]), (SELECT $11::float8[]), (SELECT $12::text[]), (SELECT $13::bigint[])) WITH ORDINALITY AS asked (keycloak_user_id, identity_provider, account, new_access_token, new_refresh_token, new_access_token_expires_at, new_refresh_token_expires_at, new_scopes, new_version, new_redeemed_version, new_issued_at, new_client_id, new_rejections, position)
         JOIN "auth_tokens" AS stored ON stored.keycloak_user_id = asked.keycloak_user_id AND stored.identity_provider = asked.identity_provider AND stored.account = asked.account FOR NO KEY UPDATE OF stored SKIP LOCKED)
       UPDATE "auth_tokens" AS stored SET access_token = unlocked.new_access_token, refresh_token = unlocked.new_refresh_token, access_token_expires_at = unlocked.new_access_token_expires_at, refresh_token_expires_at = unlocked.new_refresh_token_expires_at, scopes = unlocked.new_scopes,
           token_version = unlocked.new_version, parent_version = unlocked.new_redeemed_version,
           issued_at = to_timestamp(unlocked.new_issued_at::float8),
           client_id = unlocked.new_client_id, rejections = unlocked.new_rejections, lease_id = NULL, lease_expires_at = NULL, lease_outcome_unknown = false, open_leases = 0, first_leased_at = NULL, retry_at = NULL, failure_count = 0, failure_kind = NULL, last_error_code = NULL, access_token_rejected = false, quarantined_until = NULL, status = 'active', updated_at = clock_timestamp()
         FROM unlocked WHERE stored.id = unlocked.row_id AND stored.token_version = unlocked.new_redeemed_version
         RETURNING unlocked.position;

-- commitNewerSibling: store refreshed tokens
-- idp_tokens_commit_newer_sibling_tokens_f8240f676b53, repeated when its connection breaks
--   $1 accessToken: character varying
--   $2 refreshToken: character varying
--   $3 accessTokenExpiresAt: bigint
--   $4 refreshTokenExpiresAt: bigint
--   $5 scopes: character varying
--   $6 version: bigint
--   $7 redeemedVersion: bigint
--   $8 issuedAt: double precision
--   $9 clientId: character varying
--   $10 rejections: smallint
--   $11 keycloakUserId: text
--   $12 idp: text
--   $13 account: text
UPDATE "auth_tokens" AS stored SET access_token = $1, refresh_token = $2, access_token_expires_at = $3, refresh_token_expires_at = $4, scopes = $5,
           token_version = $6, parent_version = $7,
           issued_at = to_timestamp($8::float8),
           client_id = $9, rejections = $10, lease_id = NULL, lease_expires_at = NULL, lease_outcome_unknown = false, open_leases = 0, first_leased_at = NULL, retry_at = NULL, failure_count = 0, failure_kind = NULL, last_error_code = NULL, access_token_rejected = false, quarantined_until = NULL, status = 'active', updated_at = clock_timestamp()
         WHERE stored.id = (SELECT own.id FROM "auth_tokens" AS own
         WHERE own.keycloak_user_id = $11 AND own.identity_provider = $12 AND own.account = $13 FOR NO KEY UPDATE NOWAIT) AND stored.parent_version = $7
           AND stored.issued_at < to_timestamp($8::float8) RETURNING stored.token_version;

-- release: release the lease of tokens
-- idp_tokens_release_tokens_8927c56649d3, repeated when its connection breaks
--   $1 failureKind: text
--   $2 errorCode: text
--   $3 backoffMs: double precision
--   $4 keycloakUserId: text
--   $5 idp: text
--   $6 account: text
--   $7 leaseId: bigint
UPDATE "auth_tokens" AS stored SET lease_id = NULL, lease_expires_at = NULL,
           open_leases = greatest(stored.open_leases - 1, 0),
           first_leased_at = CASE WHEN stored.open_leases > 1 THEN stored.first_leased_at END,
           failure_count = least(stored.failure_count + CASE WHEN $1::text IS NULL THEN 0 ELSE 1 END, 32767),
           failure_kind = coalesce($1::text, stored.failure_kind),
           last_error_code = coalesce($2::text, stored.last_error_code),
           retry_at = now() + $3::float8 * interval '1 ms', updated_at = now()
         WHERE stored.id = (SELECT own.id FROM "auth_tokens" AS own
         WHERE own.keycloak_user_id = $4 AND own.identity_provider = $5 AND own.account = $6 FOR NO KEY UPDATE NOWAIT) AND stored.lease_id = $7 RETURNING stored.lease_id;

-- giveUp: note a lost answer
-- idp_tokens_give_up_tokens_c76df98a6e18, repeated when its connection breaks
--   $1 errorCode: character varying
--   $2 keycloakUserId: text
--   $3 idp: text
--   $4 account: text
--   $5 leaseId: bigint
UPDATE "auth_tokens" AS stored SET lease_outcome_unknown = true, failure_kind = 'transient', last_error_code = $1,
           failure_count = least(stored.failure_count + 1, 32767), updated_at = now()
         WHERE stored.id = (SELECT own.id FROM "auth_tokens" AS own
         WHERE own.keycloak_user_id = $2 AND own.identity_provider = $3 AND own.account = $4 FOR NO KEY UPDATE NOWAIT) AND stored.lease_id = $5 RETURNING stored.lease_id;

-- reject: record a rejected refresh token
-- idp_tokens_reject_tokens_e01c1f964efa, repeated when its connection breaks
--   $1 isCertain: boolean
--   $2 keycloakUserId: text
--   $3 idp: text
--   $4 account: text
--   $5 errorCode: character varying
--   $6 quarantineMs: double precision
--   $7 leaseId: bigint
--   $8 seenVersion: bigint
WITH verdict AS MATERIALIZED (
         SELECT own.id AS row_id, $1::boolean OR own.open_leases <= 1 OR own.quarantined_until IS NOT NULL AS is_final,
             coalesce(own.issued_at > own.first_leased_at, false) AS is_about_refresh_token
           FROM "auth_tokens" AS own WHERE own.keycloak_user_id = $2 AND own.identity_provider = $3 AND own.account = $4 FOR NO KEY UPDATE NOWAIT)
       UPDATE "auth_tokens" AS stored SET lease_id = NULL, lease_expires_at = NULL, last_error_code = $5,
           failure_kind = 'transient', updated_at = now(),
           status = CASE WHEN verdict.is_final AND NOT verdict.is_about_refresh_token THEN 'reauthentication_required'
             ELSE stored.status END,
           quarantined_until = CASE WHEN NOT verdict.is_final THEN now() + $6::float8 * interval '1 ms' END,
           open_leases = CASE WHEN verdict.is_final AND verdict.is_about_refresh_token THEN 0 ELSE greatest(stored.open_leases - 1, 0) END,
           first_leased_at = CASE WHEN stored.open_leases > 1 AND NOT (verdict.is_final AND verdict.is_about_refresh_token) THEN stored.first_leased_at END,
           refresh_token = CASE WHEN verdict.is_final AND verdict.is_about_refresh_token THEN '' ELSE stored.refresh_token END, refresh_token_expires_at = CASE WHEN verdict.is_final AND verdict.is_about_refresh_token THEN 0 ELSE stored.refresh_token_expires_at END, token_version = CASE WHEN verdict.is_final AND verdict.is_about_refresh_token THEN (uuid_hash_extended(gen_random_uuid(), (0)) & '9223372036854775807') ELSE stored.token_version END
         FROM verdict WHERE stored.id = verdict.row_id AND stored.lease_id = $7 AND stored.token_version = $8
         RETURNING stored.status;
