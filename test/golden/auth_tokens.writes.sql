-- store: store tokens
-- idp_tokens_store_2da17454e4e3, never repeated
--   $1 accessToken: character varying
--   $2 accessTokenExpiresAt: bigint
--   $3 scopes: text
--   $4 keepsRefreshToken: boolean
--   $5 refreshToken: text
--   $6 clientId: text
--   $7 refreshTokenExpiresAt: bigint
--   $8 version: bigint
--   $9 keycloakUserId: text
--   $10 idp: text
--   $11 account: text
WITH updated AS (
         UPDATE "auth_tokens" AS stored SET access_token = $1, access_token_expires_at = $2::bigint, scopes = $3::text, subject = CASE WHEN $4::boolean AND $5::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $6::text, true) THEN stored.subject ELSE NULL END, account_name = CASE WHEN $4::boolean AND $5::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $6::text, true) THEN stored.account_name ELSE NULL END, refresh_token = CASE WHEN $4::boolean AND $5::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $6::text, true) THEN stored.refresh_token ELSE $5::text END, refresh_token_expires_at = CASE WHEN $4::boolean AND $5::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $6::text, true) THEN stored.refresh_token_expires_at ELSE $7::bigint END, token_version = CASE WHEN stored.open_leases > 0 AND $4::boolean AND $5::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $6::text, true) THEN stored.token_version ELSE $8::bigint END, parent_version = CASE WHEN $4::boolean AND $5::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $6::text, true) THEN stored.parent_version ELSE NULL END, client_id = CASE WHEN $4::boolean AND $5::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $6::text, true) THEN stored.client_id ELSE $6::text END, lease_id = CASE WHEN stored.open_leases > 0 AND $4::boolean AND $5::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $6::text, true) THEN stored.lease_id ELSE NULL END, lease_expires_at = CASE WHEN stored.open_leases > 0 AND $4::boolean AND $5::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $6::text, true) THEN stored.lease_expires_at ELSE NULL END, lease_outcome_unknown = CASE WHEN stored.open_leases > 0 AND $4::boolean AND $5::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $6::text, true) THEN stored.lease_outcome_unknown ELSE false END, open_leases = CASE WHEN stored.open_leases > 0 AND $4::boolean AND $5::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $6::text, true) THEN stored.open_leases ELSE 0 END, first_leased_at = CASE WHEN stored.open_leases > 0 AND $4::boolean AND $5::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $6::text, true) THEN stored.first_leased_at ELSE NULL END, retry_at = CASE WHEN stored.open_leases > 0 AND $4::boolean AND $5::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $6::text, true) THEN stored.retry_at ELSE NULL END, failure_count = CASE WHEN stored.open_leases > 0 AND $4::boolean AND $5::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $6::text, true) THEN stored.failure_count ELSE 0 END, failure_kind = CASE WHEN stored.open_leases > 0 AND $4::boolean AND $5::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $6::text, true) THEN stored.failure_kind ELSE NULL END, last_error_code = CASE WHEN stored.open_leases > 0 AND $4::boolean AND $5::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $6::text, true) THEN stored.last_error_code ELSE NULL END, quarantined_until = CASE WHEN stored.open_leases > 0 AND $4::boolean AND $5::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $6::text, true) THEN stored.quarantined_until ELSE NULL END, status = CASE WHEN stored.open_leases > 0 AND $4::boolean AND $5::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $6::text, true) THEN stored.status ELSE 'active' END, access_token_rejected = false, rejections = 0, issued_at = clock_timestamp(), updated_at = clock_timestamp() WHERE stored.keycloak_user_id = $9 AND stored.identity_provider = $10 AND stored.account = $11 RETURNING stored.token_version),
       inserted AS (
         INSERT INTO "auth_tokens" AS stored (keycloak_user_id, identity_provider, account, access_token,
             refresh_token, access_token_expires_at, refresh_token_expires_at, scopes, token_version, client_id, issued_at)
           SELECT $9, $10, $11, $1, $5, $2::bigint,
             $7::bigint, $3, $8::bigint, $6, clock_timestamp() WHERE NOT EXISTS (SELECT FROM updated)
         ON CONFLICT (keycloak_user_id, identity_provider, account) DO UPDATE SET access_token = $1, access_token_expires_at = $2::bigint, scopes = $3::text, subject = CASE WHEN $4::boolean AND $5::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $6::text, true) THEN stored.subject ELSE NULL END, account_name = CASE WHEN $4::boolean AND $5::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $6::text, true) THEN stored.account_name ELSE NULL END, refresh_token = CASE WHEN $4::boolean AND $5::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $6::text, true) THEN stored.refresh_token ELSE $5::text END, refresh_token_expires_at = CASE WHEN $4::boolean AND $5::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $6::text, true) THEN stored.refresh_token_expires_at ELSE $7::bigint END, token_version = CASE WHEN stored.open_leases > 0 AND $4::boolean AND $5::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $6::text, true) THEN stored.token_version ELSE $8::bigint END, parent_version = CASE WHEN $4::boolean AND $5::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $6::text, true) THEN stored.parent_version ELSE NULL END, client_id = CASE WHEN $4::boolean AND $5::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $6::text, true) THEN stored.client_id ELSE $6::text END, lease_id = CASE WHEN stored.open_leases > 0 AND $4::boolean AND $5::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $6::text, true) THEN stored.lease_id ELSE NULL END, lease_expires_at = CASE WHEN stored.open_leases > 0 AND $4::boolean AND $5::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $6::text, true) THEN stored.lease_expires_at ELSE NULL END, lease_outcome_unknown = CASE WHEN stored.open_leases > 0 AND $4::boolean AND $5::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $6::text, true) THEN stored.lease_outcome_unknown ELSE false END, open_leases = CASE WHEN stored.open_leases > 0 AND $4::boolean AND $5::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $6::text, true) THEN stored.open_leases ELSE 0 END, first_leased_at = CASE WHEN stored.open_leases > 0 AND $4::boolean AND $5::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $6::text, true) THEN stored.first_leased_at ELSE NULL END, retry_at = CASE WHEN stored.open_leases > 0 AND $4::boolean AND $5::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $6::text, true) THEN stored.retry_at ELSE NULL END, failure_count = CASE WHEN stored.open_leases > 0 AND $4::boolean AND $5::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $6::text, true) THEN stored.failure_count ELSE 0 END, failure_kind = CASE WHEN stored.open_leases > 0 AND $4::boolean AND $5::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $6::text, true) THEN stored.failure_kind ELSE NULL END, last_error_code = CASE WHEN stored.open_leases > 0 AND $4::boolean AND $5::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $6::text, true) THEN stored.last_error_code ELSE NULL END, quarantined_until = CASE WHEN stored.open_leases > 0 AND $4::boolean AND $5::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $6::text, true) THEN stored.quarantined_until ELSE NULL END, status = CASE WHEN stored.open_leases > 0 AND $4::boolean AND $5::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $6::text, true) THEN stored.status ELSE 'active' END, access_token_rejected = false, rejections = 0, issued_at = clock_timestamp(), updated_at = clock_timestamp() RETURNING stored.token_version)
       SELECT token_version::text AS token_version, pg_current_xact_id()::text AS transaction_id FROM (TABLE updated UNION ALL TABLE inserted) AS stored;

-- storeMany: store tokens
-- idp_tokens_store_many_5d619d446ec6, never repeated
--   $1 keycloakUserId: text[]
--   $2 idp: text[]
--   $3 account: text[]
--   $4 accessToken: text[]
--   $5 refreshToken: text[]
--   $6 accessTokenExpiresAt: bigint[]
--   $7 refreshTokenExpiresAt: bigint[]
--   $8 scopes: text[]
--   $9 version: bigint[]
--   $10 clientId: text[]
--   $11 keepsRefreshToken: boolean[]
WITH unlocked AS MATERIALIZED (
         SELECT stored.id AS row_id, asked.*, asked.new_keeps_refresh_token AND asked.new_refresh_token = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = asked.new_client_id, true) AS is_kept
           FROM unnest((SELECT $1::text[]), (SELECT $2::text[]), (SELECT $3::text[]),
             (SELECT $4::text[]), (SELECT $5::text[]), (SELECT $6::bigint[]),
             (SELECT $7::bigint[]), (SELECT $8::text[]), (SELECT $9::bigint[]),
             (SELECT $10::text[]), (SELECT $11::boolean[]))
             WITH ORDINALITY AS asked (keycloak_user_id, identity_provider, account, new_access_token, new_refresh_token,
               new_access_token_expires_at, new_refresh_token_expires_at, new_scopes, new_version, new_client_id,
               new_keeps_refresh_token, position)
           JOIN "auth_tokens" AS stored ON stored.keycloak_user_id = asked.keycloak_user_id
             AND stored.identity_provider = asked.identity_provider AND stored.account = asked.account FOR NO KEY UPDATE OF stored SKIP LOCKED)
       UPDATE "auth_tokens" AS stored SET access_token = unlocked.new_access_token, access_token_expires_at = unlocked.new_access_token_expires_at, scopes = unlocked.new_scopes, subject = CASE WHEN unlocked.is_kept THEN stored.subject ELSE NULL END, account_name = CASE WHEN unlocked.is_kept THEN stored.account_name ELSE NULL END, refresh_token = CASE WHEN unlocked.is_kept THEN stored.refresh_token ELSE unlocked.new_refresh_token END, refresh_token_expires_at = CASE WHEN unlocked.is_kept THEN stored.refresh_token_expires_at ELSE unlocked.new_refresh_token_expires_at END, token_version = CASE WHEN stored.open_leases > 0 AND unlocked.is_kept THEN stored.token_version ELSE unlocked.new_version END, parent_version = CASE WHEN unlocked.is_kept THEN stored.parent_version ELSE NULL END, client_id = CASE WHEN unlocked.is_kept THEN stored.client_id ELSE unlocked.new_client_id END, lease_id = CASE WHEN stored.open_leases > 0 AND unlocked.is_kept THEN stored.lease_id ELSE NULL END, lease_expires_at = CASE WHEN stored.open_leases > 0 AND unlocked.is_kept THEN stored.lease_expires_at ELSE NULL END, lease_outcome_unknown = CASE WHEN stored.open_leases > 0 AND unlocked.is_kept THEN stored.lease_outcome_unknown ELSE false END, open_leases = CASE WHEN stored.open_leases > 0 AND unlocked.is_kept THEN stored.open_leases ELSE 0 END, first_leased_at = CASE WHEN stored.open_leases > 0 AND unlocked.is_kept THEN stored.first_leased_at ELSE NULL END, retry_at = CASE WHEN stored.open_leases > 0 AND unlocked.is_kept THEN stored.retry_at ELSE NULL END, failure_count = CASE WHEN stored.open_leases > 0 AND unlocked.is_kept THEN stored.failure_count ELSE 0 END, failure_kind = CASE WHEN stored.open_leases > 0 AND unlocked.is_kept THEN stored.failure_kind ELSE NULL END, last_error_code = CASE WHEN stored.open_leases > 0 AND unlocked.is_kept THEN stored.last_error_code ELSE NULL END, quarantined_until = CASE WHEN stored.open_leases > 0 AND unlocked.is_kept THEN stored.quarantined_until ELSE NULL END, status = CASE WHEN stored.open_leases > 0 AND unlocked.is_kept THEN stored.status ELSE 'active' END, access_token_rejected = false, rejections = 0, issued_at = clock_timestamp(), updated_at = clock_timestamp()
         FROM unlocked WHERE stored.id = unlocked.row_id RETURNING unlocked.position;

-- import: import tokens
-- idp_tokens_import_96fc1fb87bad, never repeated
--   $1 keycloakUserId: text
--   $2 idp: text
--   $3 account: text
--   $4 isExplicit: boolean
--   $5 accessToken: character varying
--   $6 refreshToken: text
--   $7 accessTokenExpiresAt: bigint
--   $8 refreshTokenExpiresAt: bigint
--   $9 scopes: character varying
--   $10 version: bigint
--   $11 clientId: text
--   $12 issuedAt: double precision
--   $13 mayDropRefreshToken: boolean
WITH reconnected AS (
         DELETE FROM "disconnected_accounts" AS note WHERE note.keycloak_user_id = $1 AND note.identity_provider = $2 AND note.account = $3 AND $4::boolean),
       updated AS (
         UPDATE "auth_tokens" AS stored SET access_token = $5, refresh_token = $6,
           access_token_expires_at = $7, refresh_token_expires_at = $8,
           scopes = $9, subject = NULL, account_name = NULL, token_version = $10, parent_version = NULL, client_id = $11, rejections = 0,
           issued_at = CASE WHEN $12::float8 > 0 THEN to_timestamp($12::float8) ELSE clock_timestamp() END, lease_id = NULL, lease_expires_at = NULL, lease_outcome_unknown = false, open_leases = 0, first_leased_at = NULL, retry_at = NULL, failure_count = 0, failure_kind = NULL, last_error_code = NULL, access_token_rejected = false, quarantined_until = NULL, status = 'active', updated_at = clock_timestamp() WHERE stored.keycloak_user_id = $1 AND stored.identity_provider = $2 AND stored.account = $3 AND CASE WHEN $12::float8 > 0 THEN to_timestamp($12::float8) > stored.issued_at
        OR to_timestamp($12::float8) = stored.issued_at AND stored.parent_version IS NULL
      ELSE stored.parent_version IS NULL OR stored.status <> 'active' END
    AND ($13::boolean OR NOT ($6 = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $11::text, true))) RETURNING pg_current_xact_id()::text AS transaction_id),
       inserted AS (
         INSERT INTO "auth_tokens" AS stored (keycloak_user_id, identity_provider, account, access_token,
             refresh_token, access_token_expires_at, refresh_token_expires_at, scopes, token_version, client_id, issued_at)
           SELECT $1, $2, $3, $5, $6, $7::bigint,
             $8::bigint, $9, $10::bigint, $11, CASE WHEN $12::float8 > 0 THEN to_timestamp($12::float8) ELSE clock_timestamp() END WHERE NOT EXISTS (SELECT FROM "auth_tokens" AS stored WHERE stored.keycloak_user_id = $1 AND stored.identity_provider = $2 AND stored.account = $3)
           AND ($4::boolean OR pg_try_advisory_xact_lock_shared(hashtextextended($1::text || ' ' || $2::text || ' ' || $3::text, 0))
             AND NOT EXISTS (SELECT FROM "disconnected_accounts" AS note WHERE note.keycloak_user_id = $1 AND note.identity_provider = $2 AND note.account = $3))
         ON CONFLICT (keycloak_user_id, identity_provider, account) DO UPDATE SET access_token = $5, refresh_token = $6,
           access_token_expires_at = $7, refresh_token_expires_at = $8,
           scopes = $9, subject = NULL, account_name = NULL, token_version = $10, parent_version = NULL, client_id = $11, rejections = 0,
           issued_at = CASE WHEN $12::float8 > 0 THEN to_timestamp($12::float8) ELSE clock_timestamp() END, lease_id = NULL, lease_expires_at = NULL, lease_outcome_unknown = false, open_leases = 0, first_leased_at = NULL, retry_at = NULL, failure_count = 0, failure_kind = NULL, last_error_code = NULL, access_token_rejected = false, quarantined_until = NULL, status = 'active', updated_at = clock_timestamp() WHERE CASE WHEN $12::float8 > 0 THEN to_timestamp($12::float8) > stored.issued_at
        OR to_timestamp($12::float8) = stored.issued_at AND stored.parent_version IS NULL
      ELSE stored.parent_version IS NULL OR stored.status <> 'active' END
    AND ($13::boolean OR NOT ($6 = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $11::text, true)))
         RETURNING pg_current_xact_id()::text AS transaction_id)
       SELECT transaction_id, false AS is_new FROM updated UNION ALL SELECT transaction_id, true FROM inserted;

-- delete: delete tokens
-- idp_tokens_delete_b6c0db243bb5, never repeated
--   $1 keycloakUserId: text
--   $2 idp: text
--   $3 account: text
WITH stored AS (
         DELETE FROM "auth_tokens" AS stored WHERE stored.keycloak_user_id = $1 AND stored.identity_provider = $2 AND stored.account = $3
           RETURNING stored.access_token, stored.refresh_token, stored.access_token_expires_at,
  stored.refresh_token_expires_at, stored.scopes, stored.token_version::text AS token_version),
       forgotten AS (
         DELETE FROM "disconnected_accounts" AS note WHERE note.keycloak_user_id = $1 AND note.identity_provider = $2 AND note.account = $3 AND EXISTS (SELECT FROM stored))
       SELECT stored.access_token, stored.refresh_token, stored.access_token_expires_at,
  stored.refresh_token_expires_at, stored.scopes, stored.token_version FROM stored;

-- deleteForRevocation: delete tokens
-- idp_tokens_delete_for_revocation_b960d0c7e5f5, never repeated
--   $1 keycloakUserId: text
--   $2 idp: text
--   $3 account: text
--   $4 isRevocable: boolean
WITH lock AS MATERIALIZED (SELECT pg_try_advisory_xact_lock(hashtextextended($1::text || ' ' || $2::text || ' ' || $3::text, 0)) AS is_free),
       locked AS MATERIALIZED (
         SELECT stored.id, stored.account, stored.subject FROM "auth_tokens" AS stored
           WHERE stored.keycloak_user_id = $1 AND stored.identity_provider = $2 AND (SELECT lock.is_free FROM lock)
             AND (stored.account = $3 OR $4::boolean AND stored.subject =
               (SELECT own.subject FROM "auth_tokens" AS own WHERE own.keycloak_user_id = $1 AND own.identity_provider = $2 AND own.account = $3))
           ORDER BY stored.account FOR NO KEY UPDATE),
       deleted AS (
         DELETE FROM "auth_tokens" AS stored USING locked WHERE stored.id = locked.id AND locked.account = $3
           RETURNING stored.access_token, stored.refresh_token, stored.client_id, stored.subject),
       noted AS (
         INSERT INTO "token_revocations" (keycloak_user_id, identity_provider, account, client_id, access_token, refresh_token)
           SELECT $1, $2, $3, deleted.client_id, deleted.access_token, deleted.refresh_token FROM deleted
             WHERE $4::boolean AND NOT EXISTS (SELECT FROM locked AS other WHERE other.account <> $3 AND other.subject = deleted.subject)),
       disconnected AS (
         INSERT INTO "disconnected_accounts" AS note (keycloak_user_id, identity_provider, account)
           SELECT $1, $2, $3 FROM lock WHERE lock.is_free
           ON CONFLICT (keycloak_user_id, identity_provider, account) DO UPDATE SET disconnected_at = now())
       SELECT lock.is_free, EXISTS (SELECT FROM deleted) AS is_deleted FROM lock;

-- deleteDisconnected: delete tokens
-- idp_tokens_delete_disconnected_ce2bdb0abc20, repeated when its connection breaks
--   $1 keycloakUserId: text
--   $2 idp: text
--   $3 account: text
--   $4 version: bigint
DELETE FROM "auth_tokens" AS stored WHERE stored.keycloak_user_id = $1 AND stored.identity_provider = $2 AND stored.account = $3 AND stored.token_version = $4
           AND EXISTS (SELECT FROM "disconnected_accounts" AS note WHERE note.keycloak_user_id = $1 AND note.identity_provider = $2 AND note.account = $3) RETURNING stored.id;

-- reactivate: make grants active again
-- idp_tokens_reactivate_ffd2d2f6a326, never repeated
--   $1 idp: text
--   $2 userIds: text[]
--   $3 accounts: text[]
--   $4 endedAfter: timestamp with time zone
--   $5 errorCode: text
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
             AND ($3::text[] IS NULL OR stored.account = ANY($3::text[]))
             AND ($4::timestamptz IS NULL OR stored.updated_at >= $4::timestamptz)
             AND ($5::text IS NULL OR stored.last_error_code = $5::text)
           RETURNING stored.id)
       SELECT count(*)::integer AS reactivated FROM reactivated;
