-- acquire: lease an offline token for a refresh
-- idp_tokens_acquire_offline_2378210aa1aa, repeated when its connection breaks
--   $1 userId: text[]
--   $2 leaseId: bigint[]
--   $3 leaseMs: bigint[]
--   $4 seenVersion: bigint[]
--   $5 seenState: text[]
--   $6 isRejected: boolean[]
WITH unlocked AS MATERIALIZED (
       SELECT stored.user_id AS row_id, asked.* FROM unnest((SELECT $1::text[]), (SELECT $2::bigint[]), (SELECT $3::bigint[]), (SELECT $4::bigint[]), (SELECT $5::text[]), (SELECT $6::boolean[])) WITH ORDINALITY AS asked (user_id, lease_id, lease_ms, seen_version, seen_state, is_rejected, position)
         JOIN "offline_tokens" AS stored ON stored.user_id = asked.user_id FOR NO KEY UPDATE OF stored SKIP LOCKED),
       granted AS (
         UPDATE "offline_tokens" AS stored SET lease_id = unlocked.lease_id,
             lease_expires_at = now() + unlocked.lease_ms * interval '1 ms', lease_outcome_unknown = false,
             open_leases = least(stored.open_leases + CASE WHEN stored.lease_id = unlocked.lease_id THEN 0 ELSE 1 END, 32767),
             first_leased_at = coalesce(stored.first_leased_at, now()), retry_at = NULL, updated_at = now(),
             access_token_rejected = stored.access_token_rejected OR unlocked.is_rejected AND stored.open_leases = 0
           FROM unlocked
           WHERE stored.user_id = unlocked.row_id AND stored.token_version = unlocked.seen_version
             AND (stored.lease_id = unlocked.lease_id OR CASE
    WHEN stored.status <> 'active' THEN 'ended'
    WHEN stored.lease_expires_at > now() THEN CASE WHEN stored.lease_outcome_unknown THEN 'outcome_unknown' ELSE 'leased' END
    WHEN stored.quarantined_until > now() THEN 'quarantined'
    WHEN stored.retry_at > now() THEN 'backing_off'
    WHEN stored.open_leases > 0 THEN 'abandoned'
    ELSE 'idle' END = unlocked.seen_state)
           RETURNING unlocked.position, date_part('epoch', now()) AS granted_at, NULL AS refusal, stored.user_id::text AS row_id, stored.token_version::text AS token_version, stored.parent_version::text AS parent_version, stored.client_id,
  CASE
    WHEN stored.status <> 'active' THEN 'ended'
    WHEN stored.lease_expires_at > clock_timestamp() THEN CASE WHEN stored.lease_outcome_unknown THEN 'outcome_unknown' ELSE 'leased' END
    WHEN stored.quarantined_until > clock_timestamp() THEN 'quarantined'
    WHEN stored.retry_at > clock_timestamp() THEN 'backing_off'
    WHEN stored.open_leases > 0 THEN 'abandoned'
    ELSE 'idle' END AS lease_state, date_part('epoch', clock_timestamp()) AS present,
  date_part('epoch', stored.issued_at) AS issued_at, date_part('epoch', stored.lease_expires_at) AS lease_expires_at, date_part('epoch', stored.first_leased_at) AS first_leased_at, date_part('epoch', stored.retry_at) AS retry_at, date_part('epoch', stored.quarantined_until) AS quarantined_until,
  stored.lease_outcome_unknown, stored.open_leases, stored.failure_count, stored.failure_kind, stored.last_error_code, stored.rejections,
  stored.access_token_rejected, stored.offline_token)
       SELECT * FROM granted
       UNION ALL
       SELECT asked.position, NULL, CASE WHEN stored.token_version <> asked.seen_version THEN 'replaced'
             WHEN CASE
    WHEN stored.status <> 'active' THEN 'ended'
    WHEN stored.lease_expires_at > now() THEN CASE WHEN stored.lease_outcome_unknown THEN 'outcome_unknown' ELSE 'leased' END
    WHEN stored.quarantined_until > now() THEN 'quarantined'
    WHEN stored.retry_at > now() THEN 'backing_off'
    WHEN stored.open_leases > 0 THEN 'abandoned'
    ELSE 'idle' END <> asked.seen_state THEN 'changed' ELSE 'locked' END, stored.user_id::text AS row_id, stored.token_version::text AS token_version, stored.parent_version::text AS parent_version, stored.client_id,
  CASE
    WHEN stored.status <> 'active' THEN 'ended'
    WHEN stored.lease_expires_at > clock_timestamp() THEN CASE WHEN stored.lease_outcome_unknown THEN 'outcome_unknown' ELSE 'leased' END
    WHEN stored.quarantined_until > clock_timestamp() THEN 'quarantined'
    WHEN stored.retry_at > clock_timestamp() THEN 'backing_off'
    WHEN stored.open_leases > 0 THEN 'abandoned'
    ELSE 'idle' END AS lease_state, date_part('epoch', clock_timestamp()) AS present,
  date_part('epoch', stored.issued_at) AS issued_at, date_part('epoch', stored.lease_expires_at) AS lease_expires_at, date_part('epoch', stored.first_leased_at) AS first_leased_at, date_part('epoch', stored.retry_at) AS retry_at, date_part('epoch', stored.quarantined_until) AS quarantined_until,
  stored.lease_outcome_unknown, stored.open_leases, stored.failure_count, stored.failure_kind, stored.last_error_code, stored.rejections,
  stored.access_token_rejected, stored.offline_token
         FROM unnest((SELECT $1::text[]), (SELECT $2::bigint[]), (SELECT $3::bigint[]), (SELECT $4::bigint[]), (SELECT $5::text[]), (SELECT $6::boolean[])) WITH ORDINALITY AS asked (user_id, lease_id, lease_ms, seen_version, seen_state, is_rejected, position)
         JOIN "offline_tokens" AS stored ON stored.user_id = asked.user_id WHERE NOT EXISTS (SELECT FROM granted WHERE granted.position = asked.position);

-- renew: keep the lease of an offline token
-- idp_tokens_renew_offline_067173747b87, repeated when its connection breaks
--   $1 leaseMs: bigint
--   $2 isUnspent: boolean
--   $3 userId: text
--   $4 leaseId: bigint
--   $5 seenVersion: bigint
UPDATE "offline_tokens" AS stored SET lease_expires_at = now() + $1::bigint * interval '1 ms',
           open_leases = CASE WHEN $2::boolean THEN 1 ELSE stored.open_leases END,
           first_leased_at = CASE WHEN $2::boolean THEN now() ELSE stored.first_leased_at END, updated_at = now()
         WHERE stored.user_id = (SELECT own.user_id FROM "offline_tokens" AS own
         WHERE own.user_id = $3 FOR NO KEY UPDATE NOWAIT) AND stored.lease_id = $4 AND stored.token_version = $5
         RETURNING date_part('epoch', now()) AS granted_at;

-- commit: store refreshed an offline token
-- idp_tokens_commit_offline_89e70c22b62b, repeated when its connection breaks
--   $1 offlineToken: character varying
--   $2 version: bigint
--   $3 redeemedVersion: bigint
--   $4 issuedAt: double precision
--   $5 clientId: character varying
--   $6 rejections: smallint
--   $7 userId: text
UPDATE "offline_tokens" AS stored SET offline_token = $1,
           token_version = $2, parent_version = $3,
           issued_at = to_timestamp($4::float8),
           client_id = $5, rejections = $6, lease_id = NULL, lease_expires_at = NULL, lease_outcome_unknown = false, open_leases = 0, first_leased_at = NULL, retry_at = NULL, failure_count = 0, failure_kind = NULL, last_error_code = NULL, access_token_rejected = false, quarantined_until = NULL, status = 'active', updated_at = clock_timestamp()
         WHERE stored.user_id = (SELECT own.user_id FROM "offline_tokens" AS own
         WHERE own.user_id = $7 FOR NO KEY UPDATE NOWAIT) AND stored.token_version = $3 RETURNING stored.token_version;

-- commitMany: store refreshed an offline token
-- idp_tokens_commit_many_offline_74e8609edf9f, repeated when its connection breaks
--   $1 userId: text[]
--   $2 offlineToken: text[]
--   $3 version: bigint[]
--   $4 redeemedVersion: bigint[]
--   $5 issuedAt: double precision[]
--   $6 clientId: text[]
--   $7 rejections: bigint[]
WITH unlocked AS MATERIALIZED (
       SELECT stored.user_id AS row_id, asked.* FROM unnest((SELECT $1::text[]), (SELECT $2::text[]), (SELECT $3::bigint[]), (SELECT $4::bigint[]), (SELECT $5::float8[]), (SELECT $6::text[]), (SELECT $7::bigint[])) WITH ORDINALITY AS asked (user_id, new_offline_token, new_version, new_redeemed_version, new_issued_at, new_client_id, new_rejections, position)
         JOIN "offline_tokens" AS stored ON stored.user_id = asked.user_id FOR NO KEY UPDATE OF stored SKIP LOCKED)
       UPDATE "offline_tokens" AS stored SET offline_token = unlocked.new_offline_token,
           token_version = unlocked.new_version, parent_version = unlocked.new_redeemed_version,
           issued_at = to_timestamp(unlocked.new_issued_at::float8),
           client_id = unlocked.new_client_id, rejections = unlocked.new_rejections, lease_id = NULL, lease_expires_at = NULL, lease_outcome_unknown = false, open_leases = 0, first_leased_at = NULL, retry_at = NULL, failure_count = 0, failure_kind = NULL, last_error_code = NULL, access_token_rejected = false, quarantined_until = NULL, status = 'active', updated_at = clock_timestamp()
         FROM unlocked WHERE stored.user_id = unlocked.row_id AND stored.token_version = unlocked.new_redeemed_version
         RETURNING unlocked.position;

-- commitNewerSibling: store refreshed an offline token
-- idp_tokens_commit_newer_sibling_offline_51e2d14ff3b1, repeated when its connection breaks
--   $1 offlineToken: character varying
--   $2 version: bigint
--   $3 redeemedVersion: bigint
--   $4 issuedAt: double precision
--   $5 clientId: character varying
--   $6 rejections: smallint
--   $7 userId: text
UPDATE "offline_tokens" AS stored SET offline_token = $1,
           token_version = $2, parent_version = $3,
           issued_at = to_timestamp($4::float8),
           client_id = $5, rejections = $6, lease_id = NULL, lease_expires_at = NULL, lease_outcome_unknown = false, open_leases = 0, first_leased_at = NULL, retry_at = NULL, failure_count = 0, failure_kind = NULL, last_error_code = NULL, access_token_rejected = false, quarantined_until = NULL, status = 'active', updated_at = clock_timestamp()
         WHERE stored.user_id = (SELECT own.user_id FROM "offline_tokens" AS own
         WHERE own.user_id = $7 FOR NO KEY UPDATE NOWAIT) AND stored.parent_version = $3
           AND stored.issued_at < to_timestamp($4::float8) RETURNING stored.token_version;

-- release: release the lease of an offline token
-- idp_tokens_release_offline_3bd14221cf74, repeated when its connection breaks
--   $1 failureKind: text
--   $2 errorCode: text
--   $3 backoffMs: double precision
--   $4 userId: text
--   $5 leaseId: bigint
UPDATE "offline_tokens" AS stored SET lease_id = NULL, lease_expires_at = NULL,
           open_leases = greatest(stored.open_leases - 1, 0),
           first_leased_at = CASE WHEN stored.open_leases > 1 THEN stored.first_leased_at END,
           failure_count = least(stored.failure_count + CASE WHEN $1::text IS NULL THEN 0 ELSE 1 END, 32767),
           failure_kind = coalesce($1::text, stored.failure_kind),
           last_error_code = coalesce($2::text, stored.last_error_code),
           retry_at = now() + $3::float8 * interval '1 ms', updated_at = now()
         WHERE stored.user_id = (SELECT own.user_id FROM "offline_tokens" AS own
         WHERE own.user_id = $4 FOR NO KEY UPDATE NOWAIT) AND stored.lease_id = $5 RETURNING stored.lease_id;

-- giveUp: note a lost answer
-- idp_tokens_give_up_offline_c1d52db97d13, repeated when its connection breaks
--   $1 errorCode: character varying
--   $2 userId: text
--   $3 leaseId: bigint
UPDATE "offline_tokens" AS stored SET lease_outcome_unknown = true, failure_kind = 'transient', last_error_code = $1,
           failure_count = least(stored.failure_count + 1, 32767), updated_at = now()
         WHERE stored.user_id = (SELECT own.user_id FROM "offline_tokens" AS own
         WHERE own.user_id = $2 FOR NO KEY UPDATE NOWAIT) AND stored.lease_id = $3 RETURNING stored.lease_id;

-- reject: record a rejected refresh token
-- idp_tokens_reject_offline_7c6d4e1226e9, repeated when its connection breaks
--   $1 isCertain: boolean
--   $2 userId: text
--   $3 errorCode: character varying
--   $4 quarantineMs: double precision
--   $5 leaseId: bigint
--   $6 seenVersion: bigint
WITH verdict AS MATERIALIZED (
         SELECT own.user_id AS row_id, $1::boolean OR own.open_leases <= 1 OR own.quarantined_until IS NOT NULL AS is_final,
             false AS is_about_refresh_token
           FROM "offline_tokens" AS own WHERE own.user_id = $2 FOR NO KEY UPDATE NOWAIT)
       UPDATE "offline_tokens" AS stored SET lease_id = NULL, lease_expires_at = NULL, last_error_code = $3,
           failure_kind = 'transient', updated_at = now(),
           status = CASE WHEN verdict.is_final AND NOT verdict.is_about_refresh_token THEN 'reauthentication_required'
             ELSE stored.status END,
           quarantined_until = CASE WHEN NOT verdict.is_final THEN now() + $4::float8 * interval '1 ms' END,
           open_leases = CASE WHEN verdict.is_final AND verdict.is_about_refresh_token THEN 0 ELSE greatest(stored.open_leases - 1, 0) END,
           first_leased_at = CASE WHEN stored.open_leases > 1 AND NOT (verdict.is_final AND verdict.is_about_refresh_token) THEN stored.first_leased_at END,
           token_version = CASE WHEN verdict.is_final AND verdict.is_about_refresh_token THEN (uuid_hash_extended(gen_random_uuid(), (0)) & '9223372036854775807') ELSE stored.token_version END
         FROM verdict WHERE stored.user_id = verdict.row_id AND stored.lease_id = $5 AND stored.token_version = $6
         RETURNING stored.status;

-- load: load an offline token
-- idp_tokens_load_offline_ddd04d0d854c, repeated when its connection breaks
--   $1 userId: text
SELECT stored.user_id AS row_id, stored.token_version::text AS token_version, stored.parent_version::text AS parent_version, stored.client_id,
  CASE
    WHEN stored.status <> 'active' THEN 'ended'
    WHEN stored.lease_expires_at > clock_timestamp() THEN CASE WHEN stored.lease_outcome_unknown THEN 'outcome_unknown' ELSE 'leased' END
    WHEN stored.quarantined_until > clock_timestamp() THEN 'quarantined'
    WHEN stored.retry_at > clock_timestamp() THEN 'backing_off'
    WHEN stored.open_leases > 0 THEN 'abandoned'
    ELSE 'idle' END AS lease_state, date_part('epoch', clock_timestamp()) AS present,
  date_part('epoch', stored.issued_at) AS issued_at, date_part('epoch', stored.lease_expires_at) AS lease_expires_at, date_part('epoch', stored.first_leased_at) AS first_leased_at, date_part('epoch', stored.retry_at) AS retry_at, date_part('epoch', stored.quarantined_until) AS quarantined_until,
  stored.lease_outcome_unknown, stored.open_leases, stored.failure_count, stored.failure_kind, stored.last_error_code, stored.rejections,
  stored.access_token_rejected, stored.offline_token
        FROM "offline_tokens" AS stored WHERE stored.user_id = $1;

-- store: store an offline token
-- idp_tokens_store_offline_2ff9c793f4b3, never repeated
--   $1 userId: character varying
--   $2 offlineToken: character varying
--   $3 version: bigint
--   $4 clientId: character varying
INSERT INTO "offline_tokens" AS stored (user_id, offline_token, token_version, client_id)
           VALUES ($1, $2, $3, $4) ON CONFLICT (user_id) DO UPDATE SET offline_token = $2, token_version = $3, parent_version = NULL, client_id = $4,
           issued_at = clock_timestamp(), lease_id = NULL, lease_expires_at = NULL, lease_outcome_unknown = false, open_leases = 0, first_leased_at = NULL, retry_at = NULL, failure_count = 0, failure_kind = NULL, last_error_code = NULL, access_token_rejected = false, quarantined_until = NULL, status = 'active', updated_at = clock_timestamp() RETURNING pg_current_xact_id()::text AS transaction_id;

-- storeFirst: store an offline token
-- idp_tokens_store_first_offline_1c2bf393ca14, repeated when its connection breaks
--   $1 userId: character varying
--   $2 offlineToken: character varying
--   $3 version: bigint
--   $4 clientId: character varying
INSERT INTO "offline_tokens" AS stored (user_id, offline_token, token_version, client_id)
           VALUES ($1, $2, $3, $4) ON CONFLICT (user_id) DO NOTHING;

-- replace: replace an offline token
-- idp_tokens_replace_offline_62d9e1badbb3, repeated when its connection breaks
--   $1 offlineToken: character varying
--   $2 version: bigint
--   $3 clientId: character varying
--   $4 userId: text
--   $5 loaded: text
--   $6 loadedVersion: bigint
UPDATE "offline_tokens" AS stored SET offline_token = $1, token_version = $2, parent_version = NULL, client_id = $3,
           issued_at = clock_timestamp(), lease_id = NULL, lease_expires_at = NULL, lease_outcome_unknown = false, open_leases = 0, first_leased_at = NULL, retry_at = NULL, failure_count = 0, failure_kind = NULL, last_error_code = NULL, access_token_rejected = false, quarantined_until = NULL, status = 'active', updated_at = clock_timestamp()
        WHERE stored.user_id = (SELECT own.user_id FROM "offline_tokens" AS own WHERE own.user_id = $4
            FOR NO KEY UPDATE NOWAIT)
          AND (stored.offline_token = $5 OR stored.token_version = $6::bigint) RETURNING stored.user_id;

-- delete: delete an offline token
-- idp_tokens_delete_offline_8280770343c5, never repeated
--   $1 userId: text
DELETE FROM "offline_tokens" AS stored WHERE stored.user_id = $1 RETURNING stored.user_id;
