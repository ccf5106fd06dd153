-- acquire: lease tokens for a refresh
-- idp_tokens_acquire_tokens_810f0a6b4156, repeated when its connection breaks
--   $1 keycloakUserId: text[]
--   $2 idp: text[]
--   $3 leaseId: bigint[]
--   $4 leaseMs: bigint[]
--   $5 seenVersion: bigint[]
--   $6 seenState: text[]
--   $7 isRejected: boolean[]
WITH unlocked AS MATERIALIZED (
       SELECT stored.id AS row_id, asked.* FROM unnest((SELECT $1::text[]), (SELECT $2::text[]), (SELECT $3::bigint[]), (SELECT $4::bigint[]), (SELECT $5::bigint[]), (SELECT $6::text[]), (SELECT $7::boolean[])) WITH ORDINALITY AS asked (keycloak_user_id, identity_provider, lease_id, lease_ms, seen_version, seen_state, is_rejected, position)
         JOIN "auth_tokens" AS stored ON stored.keycloak_user_id = asked.keycloak_user_id AND stored.identity_provider = asked.identity_provider FOR NO KEY UPDATE OF stored SKIP LOCKED),
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
  stored.refresh_token_expires_at)
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
  stored.refresh_token_expires_at
         FROM unnest((SELECT $1::text[]), (SELECT $2::text[]), (SELECT $3::bigint[]), (SELECT $4::bigint[]), (SELECT $5::bigint[]), (SELECT $6::text[]), (SELECT $7::boolean[])) WITH ORDINALITY AS asked (keycloak_user_id, identity_provider, lease_id, lease_ms, seen_version, seen_state, is_rejected, position)
         JOIN "auth_tokens" AS stored ON stored.keycloak_user_id = asked.keycloak_user_id AND stored.identity_provider = asked.identity_provider WHERE NOT EXISTS (SELECT FROM granted WHERE granted.position = asked.position);

-- renew: keep the lease of tokens
-- idp_tokens_renew_tokens_9452b0b1dc6a, repeated when its connection breaks
--   $1 leaseMs: bigint
--   $2 isUnspent: boolean
--   $3 keycloakUserId: text
--   $4 idp: text
--   $5 leaseId: bigint
--   $6 seenVersion: bigint
UPDATE "auth_tokens" AS stored SET lease_expires_at = now() + $1::bigint * interval '1 ms',
           open_leases = CASE WHEN $2::boolean THEN 1 ELSE stored.open_leases END,
           first_leased_at = CASE WHEN $2::boolean THEN now() ELSE stored.first_leased_at END, updated_at = now()
         WHERE stored.id = (SELECT own.id FROM "auth_tokens" AS own
         WHERE own.keycloak_user_id = $3 AND own.identity_provider = $4 FOR NO KEY UPDATE NOWAIT) AND stored.lease_id = $5 AND stored.token_version = $6
         RETURNING date_part('epoch', now()) AS granted_at;

-- commit: store refreshed tokens
-- idp_tokens_commit_tokens_c3a6c2a93c95, repeated when its connection breaks
--   $1 accessToken: character varying
--   $2 refreshToken: character varying
--   $3 accessTokenExpiresAt: bigint
--   $4 refreshTokenExpiresAt: bigint
--   $5 version: bigint
--   $6 redeemedVersion: bigint
--   $7 issuedAt: double precision
--   $8 clientId: character varying
--   $9 rejections: smallint
--   $10 keycloakUserId: text
--   $11 idp: text
UPDATE "auth_tokens" AS stored SET access_token = $1, refresh_token = $2, access_token_expires_at = $3, refresh_token_expires_at = $4,
           token_version = $5, parent_version = $6,
           issued_at = to_timestamp($7::float8),
           client_id = $8, rejections = $9, lease_id = NULL, lease_expires_at = NULL, lease_outcome_unknown = false, open_leases = 0, first_leased_at = NULL, retry_at = NULL, failure_count = 0, failure_kind = NULL, last_error_code = NULL, access_token_rejected = false, quarantined_until = NULL, status = 'active', updated_at = clock_timestamp()
         WHERE stored.id = (SELECT own.id FROM "auth_tokens" AS own
         WHERE own.keycloak_user_id = $10 AND own.identity_provider = $11 FOR NO KEY UPDATE NOWAIT) AND stored.token_version = $6 RETURNING stored.token_version;

-- commitMany: store refreshed tokens
-- idp_tokens_commit_many_tokens_f98b643f470c, repeated when its connection breaks
--   $1 keycloakUserId: text[]
--   $2 idp: text[]
--   $3 accessToken: text[]
--   $4 refreshToken: text[]
--   $5 accessTokenExpiresAt: bigint[]
--   $6 refreshTokenExpiresAt: bigint[]
--   $7 version: bigint[]
--   $8 redeemedVersion: bigint[]
--   $9 issuedAt: double precision[]
--   $10 clientId: text[]
--   $11 rejections: bigint[]
WITH unlocked AS MATERIALIZED (
       SELECT stored.id AS row_id, asked.* FROM unnest((SELECT $1::text[]), (SELECT $2::text[]), (SELECT $3::text[]), (SELECT $4::text[]), (SELECT $5::bigint[]), (SELECT $6::bigint[]), (SELECT $7::bigint[]), (SELECT $8::bigint[]), (SELECT $9::float8[]), (SELECT $10::text[]), (SELECT $11::bigint[])) WITH ORDINALITY AS asked (keycloak_user_id, identity_provider, new_access_token, new_refresh_token, new_access_token_expires_at, new_refresh_token_expires_at, new_version, new_redeemed_version, new_issued_at, new_client_id, new_rejections, position)
         JOIN "auth_tokens" AS stored ON stored.keycloak_user_id = asked.keycloak_user_id AND stored.identity_provider = asked.identity_provider FOR NO KEY UPDATE OF stored SKIP LOCKED)
       UPDATE "auth_tokens" AS stored SET access_token = unlocked.new_access_token, refresh_token = unlocked.new_refresh_token, access_token_expires_at = unlocked.new_access_token_expires_at, refresh_token_expires_at = unlocked.new_refresh_token_expires_at,
           token_version = unlocked.new_version, parent_version = unlocked.new_redeemed_version,
           issued_at = to_timestamp(unlocked.new_issued_at::float8),
           client_id = unlocked.new_client_id, rejections = unlocked.new_rejections, lease_id = NULL, lease_expires_at = NULL, lease_outcome_unknown = false, open_leases = 0, first_leased_at = NULL, retry_at = NULL, failure_count = 0, failure_kind = NULL, last_error_code = NULL, access_token_rejected = false, quarantined_until = NULL, status = 'active', updated_at = clock_timestamp()
         FROM unlocked WHERE stored.id = unlocked.row_id AND stored.token_version = unlocked.new_redeemed_version
         RETURNING unlocked.position;

-- commitNewerSibling: store refreshed tokens
-- idp_tokens_commit_newer_sibling_tokens_0009128dbff6, repeated when its connection breaks
--   $1 accessToken: character varying
--   $2 refreshToken: character varying
--   $3 accessTokenExpiresAt: bigint
--   $4 refreshTokenExpiresAt: bigint
--   $5 version: bigint
--   $6 redeemedVersion: bigint
--   $7 issuedAt: double precision
--   $8 clientId: character varying
--   $9 rejections: smallint
--   $10 keycloakUserId: text
--   $11 idp: text
UPDATE "auth_tokens" AS stored SET access_token = $1, refresh_token = $2, access_token_expires_at = $3, refresh_token_expires_at = $4,
           token_version = $5, parent_version = $6,
           issued_at = to_timestamp($7::float8),
           client_id = $8, rejections = $9, lease_id = NULL, lease_expires_at = NULL, lease_outcome_unknown = false, open_leases = 0, first_leased_at = NULL, retry_at = NULL, failure_count = 0, failure_kind = NULL, last_error_code = NULL, access_token_rejected = false, quarantined_until = NULL, status = 'active', updated_at = clock_timestamp()
         WHERE stored.id = (SELECT own.id FROM "auth_tokens" AS own
         WHERE own.keycloak_user_id = $10 AND own.identity_provider = $11 FOR NO KEY UPDATE NOWAIT) AND stored.parent_version = $6
           AND stored.issued_at < to_timestamp($7::float8) RETURNING stored.token_version;

-- release: release the lease of tokens
-- idp_tokens_release_tokens_d43119127342, repeated when its connection breaks
--   $1 failureKind: text
--   $2 errorCode: text
--   $3 backoffMs: double precision
--   $4 keycloakUserId: text
--   $5 idp: text
--   $6 leaseId: bigint
UPDATE "auth_tokens" AS stored SET lease_id = NULL, lease_expires_at = NULL,
           open_leases = greatest(stored.open_leases - 1, 0),
           first_leased_at = CASE WHEN stored.open_leases > 1 THEN stored.first_leased_at END,
           failure_count = least(stored.failure_count + CASE WHEN $1::text IS NULL THEN 0 ELSE 1 END, 32767),
           failure_kind = coalesce($1::text, stored.failure_kind),
           last_error_code = coalesce($2::text, stored.last_error_code),
           retry_at = now() + $3::float8 * interval '1 ms', updated_at = now()
         WHERE stored.id = (SELECT own.id FROM "auth_tokens" AS own
         WHERE own.keycloak_user_id = $4 AND own.identity_provider = $5 FOR NO KEY UPDATE NOWAIT) AND stored.lease_id = $6 RETURNING stored.lease_id;

-- giveUp: note a lost answer
-- idp_tokens_give_up_tokens_5e8d39ef155d, repeated when its connection breaks
--   $1 errorCode: character varying
--   $2 keycloakUserId: text
--   $3 idp: text
--   $4 leaseId: bigint
UPDATE "auth_tokens" AS stored SET lease_outcome_unknown = true, failure_kind = 'transient', last_error_code = $1,
           failure_count = least(stored.failure_count + 1, 32767), updated_at = now()
         WHERE stored.id = (SELECT own.id FROM "auth_tokens" AS own
         WHERE own.keycloak_user_id = $2 AND own.identity_provider = $3 FOR NO KEY UPDATE NOWAIT) AND stored.lease_id = $4 RETURNING stored.lease_id;

-- reject: record a rejected refresh token
-- idp_tokens_reject_tokens_c9dac2857fe3, repeated when its connection breaks
--   $1 errorCode: character varying
--   $2 isCertain: boolean
--   $3 quarantineMs: double precision
--   $4 keycloakUserId: text
--   $5 idp: text
--   $6 leaseId: bigint
--   $7 seenVersion: bigint
UPDATE "auth_tokens" AS stored SET lease_id = NULL, lease_expires_at = NULL, last_error_code = $1,
           failure_kind = 'transient', updated_at = now(),
           open_leases = CASE WHEN ($2::boolean OR stored.open_leases <= 1 OR stored.quarantined_until IS NOT NULL) AND stored.issued_at > stored.first_leased_at THEN 0 ELSE greatest(stored.open_leases - 1, 0) END, first_leased_at = CASE WHEN ($2::boolean OR stored.open_leases <= 1 OR stored.quarantined_until IS NOT NULL) AND stored.issued_at > stored.first_leased_at THEN NULL ELSE CASE WHEN stored.open_leases > 1 THEN stored.first_leased_at END END, token_version = CASE WHEN ($2::boolean OR stored.open_leases <= 1 OR stored.quarantined_until IS NOT NULL) AND stored.issued_at > stored.first_leased_at THEN (uuid_hash_extended(gen_random_uuid(), (0)) & '9223372036854775807') ELSE stored.token_version END, status = CASE WHEN ($2::boolean OR stored.open_leases <= 1 OR stored.quarantined_until IS NOT NULL) AND stored.issued_at > stored.first_leased_at THEN stored.status ELSE CASE WHEN ($2::boolean OR stored.open_leases <= 1 OR stored.quarantined_until IS NOT NULL) THEN 'reauthentication_required' ELSE stored.status END END, refresh_token = CASE WHEN ($2::boolean OR stored.open_leases <= 1 OR stored.quarantined_until IS NOT NULL) AND stored.issued_at > stored.first_leased_at THEN '' ELSE stored.refresh_token END, refresh_token_expires_at = CASE WHEN ($2::boolean OR stored.open_leases <= 1 OR stored.quarantined_until IS NOT NULL) AND stored.issued_at > stored.first_leased_at THEN 0 ELSE stored.refresh_token_expires_at END,
           quarantined_until = CASE WHEN ($2::boolean OR stored.open_leases <= 1 OR stored.quarantined_until IS NOT NULL) THEN NULL ELSE now() + $3::float8 * interval '1 ms' END
         WHERE stored.id = (SELECT own.id FROM "auth_tokens" AS own
         WHERE own.keycloak_user_id = $4 AND own.identity_provider = $5 FOR NO KEY UPDATE NOWAIT) AND stored.lease_id = $6 AND stored.token_version = $7
         RETURNING stored.status;
