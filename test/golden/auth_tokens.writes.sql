-- store: store tokens
-- idp_tokens_store_f3c0aa09893f, never repeated
--   $1 accessToken: character varying
--   $2 accessTokenExpiresAt: bigint
--   $3 keepsRefreshToken: boolean
--   $4 refreshToken: text
--   $5 clientId: text
--   $6 refreshTokenExpiresAt: bigint
--   $7 version: bigint
--   $8 keycloakUserId: text
--   $9 idp: text
WITH updated AS (
         UPDATE "auth_tokens" AS stored SET access_token = $1, access_token_expires_at = $2::bigint, refresh_token = CASE WHEN $3::boolean
             AND $4::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $5::text, true) THEN stored.refresh_token ELSE $4::text END, refresh_token_expires_at = CASE WHEN $3::boolean
             AND $4::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $5::text, true) THEN stored.refresh_token_expires_at ELSE $6::bigint END, token_version = CASE WHEN stored.open_leases > 0 AND $3::boolean
             AND $4::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $5::text, true) THEN stored.token_version ELSE $7::bigint END, parent_version = CASE WHEN $3::boolean
             AND $4::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $5::text, true) THEN stored.parent_version ELSE NULL END, client_id = CASE WHEN $3::boolean
             AND $4::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $5::text, true) THEN stored.client_id ELSE $5::text END, lease_id = CASE WHEN stored.open_leases > 0 AND $3::boolean
             AND $4::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $5::text, true) THEN stored.lease_id ELSE NULL END, lease_expires_at = CASE WHEN stored.open_leases > 0 AND $3::boolean
             AND $4::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $5::text, true) THEN stored.lease_expires_at ELSE NULL END, lease_outcome_unknown = CASE WHEN stored.open_leases > 0 AND $3::boolean
             AND $4::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $5::text, true) THEN stored.lease_outcome_unknown ELSE false END, open_leases = CASE WHEN stored.open_leases > 0 AND $3::boolean
             AND $4::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $5::text, true) THEN stored.open_leases ELSE 0 END, first_leased_at = CASE WHEN stored.open_leases > 0 AND $3::boolean
             AND $4::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $5::text, true) THEN stored.first_leased_at ELSE NULL END, retry_at = CASE WHEN stored.open_leases > 0 AND $3::boolean
             AND $4::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $5::text, true) THEN stored.retry_at ELSE NULL END, failure_count = CASE WHEN stored.open_leases > 0 AND $3::boolean
             AND $4::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $5::text, true) THEN stored.failure_count ELSE 0 END, failure_kind = CASE WHEN stored.open_leases > 0 AND $3::boolean
             AND $4::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $5::text, true) THEN stored.failure_kind ELSE NULL END, last_error_code = CASE WHEN stored.open_leases > 0 AND $3::boolean
             AND $4::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $5::text, true) THEN stored.last_error_code ELSE NULL END, quarantined_until = CASE WHEN stored.open_leases > 0 AND $3::boolean
             AND $4::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $5::text, true) THEN stored.quarantined_until ELSE NULL END, status = CASE WHEN stored.open_leases > 0 AND $3::boolean
             AND $4::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $5::text, true) THEN stored.status ELSE 'active' END, access_token_rejected = false, rejections = 0, issued_at = clock_timestamp(), updated_at = clock_timestamp() WHERE stored.keycloak_user_id = $8 AND stored.identity_provider = $9 RETURNING stored.token_version),
       inserted AS (
         INSERT INTO "auth_tokens" AS stored (keycloak_user_id, identity_provider, access_token,
             refresh_token, access_token_expires_at, refresh_token_expires_at, token_version, client_id, issued_at)
           SELECT $8, $9, $1, $4, $2::bigint,
             $6::bigint, $7::bigint, $5, clock_timestamp() WHERE NOT EXISTS (SELECT FROM updated)
         ON CONFLICT (keycloak_user_id, identity_provider) DO UPDATE SET access_token = $1, access_token_expires_at = $2::bigint, refresh_token = CASE WHEN $3::boolean
             AND $4::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $5::text, true) THEN stored.refresh_token ELSE $4::text END, refresh_token_expires_at = CASE WHEN $3::boolean
             AND $4::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $5::text, true) THEN stored.refresh_token_expires_at ELSE $6::bigint END, token_version = CASE WHEN stored.open_leases > 0 AND $3::boolean
             AND $4::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $5::text, true) THEN stored.token_version ELSE $7::bigint END, parent_version = CASE WHEN $3::boolean
             AND $4::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $5::text, true) THEN stored.parent_version ELSE NULL END, client_id = CASE WHEN $3::boolean
             AND $4::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $5::text, true) THEN stored.client_id ELSE $5::text END, lease_id = CASE WHEN stored.open_leases > 0 AND $3::boolean
             AND $4::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $5::text, true) THEN stored.lease_id ELSE NULL END, lease_expires_at = CASE WHEN stored.open_leases > 0 AND $3::boolean
             AND $4::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $5::text, true) THEN stored.lease_expires_at ELSE NULL END, lease_outcome_unknown = CASE WHEN stored.open_leases > 0 AND $3::boolean
             AND $4::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $5::text, true) THEN stored.lease_outcome_unknown ELSE false END, open_leases = CASE WHEN stored.open_leases > 0 AND $3::boolean
             AND $4::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $5::text, true) THEN stored.open_leases ELSE 0 END, first_leased_at = CASE WHEN stored.open_leases > 0 AND $3::boolean
             AND $4::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $5::text, true) THEN stored.first_leased_at ELSE NULL END, retry_at = CASE WHEN stored.open_leases > 0 AND $3::boolean
             AND $4::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $5::text, true) THEN stored.retry_at ELSE NULL END, failure_count = CASE WHEN stored.open_leases > 0 AND $3::boolean
             AND $4::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $5::text, true) THEN stored.failure_count ELSE 0 END, failure_kind = CASE WHEN stored.open_leases > 0 AND $3::boolean
             AND $4::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $5::text, true) THEN stored.failure_kind ELSE NULL END, last_error_code = CASE WHEN stored.open_leases > 0 AND $3::boolean
             AND $4::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $5::text, true) THEN stored.last_error_code ELSE NULL END, quarantined_until = CASE WHEN stored.open_leases > 0 AND $3::boolean
             AND $4::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $5::text, true) THEN stored.quarantined_until ELSE NULL END, status = CASE WHEN stored.open_leases > 0 AND $3::boolean
             AND $4::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $5::text, true) THEN stored.status ELSE 'active' END, access_token_rejected = false, rejections = 0, issued_at = clock_timestamp(), updated_at = clock_timestamp() RETURNING stored.token_version)
       SELECT token_version::text AS token_version, pg_current_xact_id()::text AS transaction_id FROM (TABLE updated UNION ALL TABLE inserted) AS stored;

-- storeMany: store tokens
-- idp_tokens_store_many_9ebd5e7ba8eb, never repeated
--   $1 keycloakUserId: text[]
--   $2 idp: text[]
--   $3 accessToken: text[]
--   $4 refreshToken: text[]
--   $5 accessTokenExpiresAt: bigint[]
--   $6 refreshTokenExpiresAt: bigint[]
--   $7 version: bigint[]
--   $8 clientId: text[]
--   $9 keepsRefreshToken: boolean[]
WITH unlocked AS MATERIALIZED (
         SELECT stored.id AS row_id, asked.* FROM unnest((SELECT $1::text[]), (SELECT $2::text[]),
             (SELECT $3::text[]), (SELECT $4::text[]), (SELECT $5::bigint[]),
             (SELECT $6::bigint[]), (SELECT $7::bigint[]), (SELECT $8::text[]),
             (SELECT $9::boolean[]))
             WITH ORDINALITY AS asked (keycloak_user_id, identity_provider, new_access_token, new_refresh_token,
               new_access_token_expires_at, new_refresh_token_expires_at, new_version, new_client_id,
               new_keeps_refresh_token, position)
           JOIN "auth_tokens" AS stored ON stored.keycloak_user_id = asked.keycloak_user_id
             AND stored.identity_provider = asked.identity_provider FOR NO KEY UPDATE OF stored SKIP LOCKED)
       UPDATE "auth_tokens" AS stored SET access_token = unlocked.new_access_token, access_token_expires_at = unlocked.new_access_token_expires_at, refresh_token = CASE WHEN unlocked.new_keeps_refresh_token
             AND unlocked.new_refresh_token = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = unlocked.new_client_id, true) THEN stored.refresh_token ELSE unlocked.new_refresh_token END, refresh_token_expires_at = CASE WHEN unlocked.new_keeps_refresh_token
             AND unlocked.new_refresh_token = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = unlocked.new_client_id, true) THEN stored.refresh_token_expires_at ELSE unlocked.new_refresh_token_expires_at END, token_version = CASE WHEN stored.open_leases > 0 AND unlocked.new_keeps_refresh_token
             AND unlocked.new_refresh_token = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = unlocked.new_client_id, true) THEN stored.token_version ELSE unlocked.new_version END, parent_version = CASE WHEN unlocked.new_keeps_refresh_token
             AND unlocked.new_refresh_token = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = unlocked.new_client_id, true) THEN stored.parent_version ELSE NULL END, client_id = CASE WHEN unlocked.new_keeps_refresh_token
             AND unlocked.new_refresh_token = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = unlocked.new_client_id, true) THEN stored.client_id ELSE unlocked.new_client_id END, lease_id = CASE WHEN stored.open_leases > 0 AND unlocked.new_keeps_refresh_token
             AND unlocked.new_refresh_token = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = unlocked.new_client_id, true) THEN stored.lease_id ELSE NULL END, lease_expires_at = CASE WHEN stored.open_leases > 0 AND unlocked.new_keeps_refresh_token
             AND unlocked.new_refresh_token = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = unlocked.new_client_id, true) THEN stored.lease_expires_at ELSE NULL END, lease_outcome_unknown = CASE WHEN stored.open_leases > 0 AND unlocked.new_keeps_refresh_token
             AND unlocked.new_refresh_token = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = unlocked.new_client_id, true) THEN stored.lease_outcome_unknown ELSE false END, open_leases = CASE WHEN stored.open_leases > 0 AND unlocked.new_keeps_refresh_token
             AND unlocked.new_refresh_token = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = unlocked.new_client_id, true) THEN stored.open_leases ELSE 0 END, first_leased_at = CASE WHEN stored.open_leases > 0 AND unlocked.new_keeps_refresh_token
             AND unlocked.new_refresh_token = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = unlocked.new_client_id, true) THEN stored.first_leased_at ELSE NULL END, retry_at = CASE WHEN stored.open_leases > 0 AND unlocked.new_keeps_refresh_token
             AND unlocked.new_refresh_token = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = unlocked.new_client_id, true) THEN stored.retry_at ELSE NULL END, failure_count = CASE WHEN stored.open_leases > 0 AND unlocked.new_keeps_refresh_token
             AND unlocked.new_refresh_token = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = unlocked.new_client_id, true) THEN stored.failure_count ELSE 0 END, failure_kind = CASE WHEN stored.open_leases > 0 AND unlocked.new_keeps_refresh_token
             AND unlocked.new_refresh_token = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = unlocked.new_client_id, true) THEN stored.failure_kind ELSE NULL END, last_error_code = CASE WHEN stored.open_leases > 0 AND unlocked.new_keeps_refresh_token
             AND unlocked.new_refresh_token = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = unlocked.new_client_id, true) THEN stored.last_error_code ELSE NULL END, quarantined_until = CASE WHEN stored.open_leases > 0 AND unlocked.new_keeps_refresh_token
             AND unlocked.new_refresh_token = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = unlocked.new_client_id, true) THEN stored.quarantined_until ELSE NULL END, status = CASE WHEN stored.open_leases > 0 AND unlocked.new_keeps_refresh_token
             AND unlocked.new_refresh_token = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = unlocked.new_client_id, true) THEN stored.status ELSE 'active' END, access_token_rejected = false, rejections = 0, issued_at = clock_timestamp(), updated_at = clock_timestamp()
         FROM unlocked WHERE stored.id = unlocked.row_id RETURNING unlocked.position;

-- import: import tokens
-- idp_tokens_import_62293f43667f, never repeated
--   $1 keycloakUserId: text
--   $2 idp: text
--   $3 isExplicit: boolean
--   $4 accessToken: character varying
--   $5 refreshToken: text
--   $6 accessTokenExpiresAt: bigint
--   $7 refreshTokenExpiresAt: bigint
--   $8 version: bigint
--   $9 clientId: text
--   $10 issuedAt: double precision
--   $11 mayDropRefreshToken: boolean
WITH reconnected AS (
         DELETE FROM "disconnected_accounts" AS note WHERE note.keycloak_user_id = $1 AND note.identity_provider = $2 AND $3::boolean),
       updated AS (
         UPDATE "auth_tokens" AS stored SET access_token = $4, refresh_token = $5,
           access_token_expires_at = $6, refresh_token_expires_at = $7,
           token_version = $8, parent_version = NULL, client_id = $9, rejections = 0,
           issued_at = CASE WHEN $10::float8 > 0 THEN to_timestamp($10::float8) ELSE clock_timestamp() END, lease_id = NULL, lease_expires_at = NULL, lease_outcome_unknown = false, open_leases = 0, first_leased_at = NULL, retry_at = NULL, failure_count = 0, failure_kind = NULL, last_error_code = NULL, access_token_rejected = false, quarantined_until = NULL, status = 'active', updated_at = clock_timestamp() WHERE stored.keycloak_user_id = $1 AND stored.identity_provider = $2 AND CASE WHEN $10::float8 > 0 THEN to_timestamp($10::float8) > stored.issued_at
        OR to_timestamp($10::float8) = stored.issued_at AND stored.parent_version IS NULL
      ELSE stored.parent_version IS NULL OR stored.status <> 'active' END
    AND ($11::boolean OR NOT ($5 = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $9::text, true))) RETURNING pg_current_xact_id()::text AS transaction_id),
       inserted AS (
         INSERT INTO "auth_tokens" AS stored (keycloak_user_id, identity_provider, access_token,
             refresh_token, access_token_expires_at, refresh_token_expires_at, token_version, client_id, issued_at)
           SELECT $1, $2, $4, $5, $6::bigint,
             $7::bigint, $8::bigint, $9, CASE WHEN $10::float8 > 0 THEN to_timestamp($10::float8) ELSE clock_timestamp() END WHERE NOT EXISTS (SELECT FROM "auth_tokens" AS stored WHERE stored.keycloak_user_id = $1 AND stored.identity_provider = $2)
           AND ($3::boolean OR pg_try_advisory_xact_lock_shared(hashtextextended($1::text || ' ' || $2::text, 0))
             AND NOT EXISTS (SELECT FROM "disconnected_accounts" AS note WHERE note.keycloak_user_id = $1 AND note.identity_provider = $2))
         ON CONFLICT (keycloak_user_id, identity_provider) DO UPDATE SET access_token = $4, refresh_token = $5,
           access_token_expires_at = $6, refresh_token_expires_at = $7,
           token_version = $8, parent_version = NULL, client_id = $9, rejections = 0,
           issued_at = CASE WHEN $10::float8 > 0 THEN to_timestamp($10::float8) ELSE clock_timestamp() END, lease_id = NULL, lease_expires_at = NULL, lease_outcome_unknown = false, open_leases = 0, first_leased_at = NULL, retry_at = NULL, failure_count = 0, failure_kind = NULL, last_error_code = NULL, access_token_rejected = false, quarantined_until = NULL, status = 'active', updated_at = clock_timestamp() WHERE CASE WHEN $10::float8 > 0 THEN to_timestamp($10::float8) > stored.issued_at
        OR to_timestamp($10::float8) = stored.issued_at AND stored.parent_version IS NULL
      ELSE stored.parent_version IS NULL OR stored.status <> 'active' END
    AND ($11::boolean OR NOT ($5 = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $9::text, true)))
         RETURNING pg_current_xact_id()::text AS transaction_id)
       SELECT transaction_id, false AS is_new FROM updated UNION ALL SELECT transaction_id, true FROM inserted;

-- delete: delete tokens
-- idp_tokens_delete_3206dac4abc7, never repeated
--   $1 keycloakUserId: text
--   $2 idp: text
WITH stored AS (
         DELETE FROM "auth_tokens" AS stored WHERE stored.keycloak_user_id = $1 AND stored.identity_provider = $2
           RETURNING stored.access_token, stored.refresh_token, stored.access_token_expires_at,
  stored.refresh_token_expires_at, stored.token_version::text AS token_version),
       forgotten AS (
         DELETE FROM "disconnected_accounts" AS note WHERE note.keycloak_user_id = $1 AND note.identity_provider = $2 AND EXISTS (SELECT FROM stored))
       SELECT stored.access_token, stored.refresh_token, stored.access_token_expires_at,
  stored.refresh_token_expires_at, stored.token_version FROM stored;

-- deleteForRevocation: delete tokens
-- idp_tokens_delete_for_revocation_150d12eb745f, never repeated
--   $1 keycloakUserId: text
--   $2 idp: text
--   $3 isRevocable: boolean
WITH lock AS MATERIALIZED (SELECT pg_try_advisory_xact_lock(hashtextextended($1::text || ' ' || $2::text, 0)) AS is_free),
       deleted AS (
         DELETE FROM "auth_tokens" AS stored WHERE stored.keycloak_user_id = $1 AND stored.identity_provider = $2 AND (SELECT lock.is_free FROM lock)
           RETURNING stored.access_token, stored.refresh_token, stored.client_id),
       noted AS (
         INSERT INTO "token_revocations" (keycloak_user_id, identity_provider, client_id, access_token, refresh_token)
           SELECT $1, $2, deleted.client_id, deleted.access_token, deleted.refresh_token FROM deleted
             WHERE $3::boolean),
       disconnected AS (
         INSERT INTO "disconnected_accounts" AS note (keycloak_user_id, identity_provider)
           SELECT $1, $2 FROM lock WHERE lock.is_free
           ON CONFLICT (keycloak_user_id, identity_provider) DO UPDATE SET disconnected_at = now())
       SELECT lock.is_free, EXISTS (SELECT FROM deleted) AS is_deleted FROM lock;

-- deleteDisconnected: delete tokens
-- idp_tokens_delete_disconnected_800b41cf7b49, repeated when its connection breaks
--   $1 keycloakUserId: text
--   $2 idp: text
--   $3 version: bigint
DELETE FROM "auth_tokens" AS stored WHERE stored.keycloak_user_id = $1 AND stored.identity_provider = $2 AND stored.token_version = $3
           AND EXISTS (SELECT FROM "disconnected_accounts" AS note WHERE note.keycloak_user_id = $1 AND note.identity_provider = $2) RETURNING stored.id;

-- reactivate: make grants active again
-- idp_tokens_reactivate_0ce802eb53dd, never repeated
--   $1 idp: text
--   $2 userIds: text[]
--   $3 endedAfter: timestamp with time zone
--   $4 errorCode: text
WITH reactivated AS (
         UPDATE "auth_tokens" AS stored SET status = 'active', quarantined_until = NULL, retry_at = NULL, failure_count = 0,
             failure_kind = NULL, last_error_code = NULL, rejections = 0, updated_at = clock_timestamp(),
             open_leases = CASE WHEN stored.last_error_code = 'ACCESS_TOKEN_DEAD'
               THEN greatest(stored.open_leases, 1) ELSE stored.open_leases END,
             first_leased_at = CASE WHEN stored.last_error_code = 'ACCESS_TOKEN_DEAD'
               THEN coalesce(stored.first_leased_at, now()) ELSE stored.first_leased_at END,
             access_token_rejected = stored.access_token_rejected
               OR coalesce(stored.last_error_code = 'ACCESS_TOKEN_DEAD', false)
           WHERE stored.identity_provider = $1 AND stored.status <> 'active' AND stored.refresh_token <> ''
             AND ($2::text[] IS NULL OR stored.keycloak_user_id = ANY($2::text[]))
             AND ($3::timestamptz IS NULL OR stored.updated_at >= $3::timestamptz)
             AND ($4::text IS NULL OR stored.last_error_code = $4::text)
           RETURNING stored.id)
       SELECT count(*)::integer AS reactivated FROM reactivated;
