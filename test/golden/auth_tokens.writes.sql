-- store: store tokens
-- idp_tokens_store_d8902e5cf8d7, never repeated
--   $1 accessToken: character varying
--   $2 refreshToken: character varying
--   $3 accessTokenExpiresAt: bigint
--   $4 refreshTokenExpiresAt: bigint
--   $5 version: bigint
--   $6 clientId: character varying
--   $7 keycloakUserId: text
--   $8 idp: text
WITH updated AS (
         UPDATE "auth_tokens" AS stored SET access_token = $1, refresh_token = $2,
           access_token_expires_at = $3,
           refresh_token_expires_at = $4,
           token_version = $5, parent_version = NULL, client_id = $6,
           rejections = 0, issued_at = clock_timestamp(), lease_id = NULL, lease_expires_at = NULL, lease_outcome_unknown = false, open_leases = 0,
  first_leased_at = NULL, retry_at = NULL, failure_count = 0, failure_kind = NULL, last_error_code = NULL,
  access_token_rejected = false, quarantined_until = NULL, status = 'active', updated_at = clock_timestamp() WHERE stored.keycloak_user_id = $7 AND stored.identity_provider = $8 RETURNING stored.id),
       inserted AS (
         INSERT INTO "auth_tokens" AS stored (keycloak_user_id, identity_provider, access_token,
             refresh_token, access_token_expires_at, refresh_token_expires_at, token_version, client_id, issued_at)
           SELECT $7, $8, $1, $2, $3::bigint,
             $4::bigint, $5::bigint, $6, clock_timestamp() WHERE NOT EXISTS (SELECT FROM updated)
         ON CONFLICT (keycloak_user_id, identity_provider) DO UPDATE SET access_token = $1, refresh_token = $2,
           access_token_expires_at = $3,
           refresh_token_expires_at = $4,
           token_version = $5, parent_version = NULL, client_id = $6,
           rejections = 0, issued_at = clock_timestamp(), lease_id = NULL, lease_expires_at = NULL, lease_outcome_unknown = false, open_leases = 0,
  first_leased_at = NULL, retry_at = NULL, failure_count = 0, failure_kind = NULL, last_error_code = NULL,
  access_token_rejected = false, quarantined_until = NULL, status = 'active', updated_at = clock_timestamp())
       SELECT pg_current_xact_id()::text AS transaction_id;

-- storeMany: store tokens
-- idp_tokens_store_many_9df72b2a15f3, never repeated
--   $1 keycloakUserId: text[]
--   $2 idp: text[]
--   $3 accessToken: text[]
--   $4 refreshToken: text[]
--   $5 accessTokenExpiresAt: bigint[]
--   $6 refreshTokenExpiresAt: bigint[]
--   $7 version: bigint[]
--   $8 clientId: text[]
WITH unlocked AS MATERIALIZED (
         SELECT stored.id AS row_id, asked.* FROM unnest((SELECT $1::text[]), (SELECT $2::text[]),
             (SELECT $3::text[]), (SELECT $4::text[]), (SELECT $5::bigint[]),
             (SELECT $6::bigint[]), (SELECT $7::bigint[]), (SELECT $8::text[]))
             WITH ORDINALITY AS asked (keycloak_user_id, identity_provider, new_access_token, new_refresh_token,
               new_access_token_expires_at, new_refresh_token_expires_at, new_version, new_client_id, position)
           JOIN "auth_tokens" AS stored ON stored.keycloak_user_id = asked.keycloak_user_id
             AND stored.identity_provider = asked.identity_provider FOR NO KEY UPDATE OF stored SKIP LOCKED)
       UPDATE "auth_tokens" AS stored SET access_token = unlocked.new_access_token, refresh_token = unlocked.new_refresh_token,
           access_token_expires_at = unlocked.new_access_token_expires_at,
           refresh_token_expires_at = unlocked.new_refresh_token_expires_at,
           token_version = unlocked.new_version, parent_version = NULL, client_id = unlocked.new_client_id,
           rejections = 0, issued_at = clock_timestamp(), lease_id = NULL, lease_expires_at = NULL, lease_outcome_unknown = false, open_leases = 0,
  first_leased_at = NULL, retry_at = NULL, failure_count = 0, failure_kind = NULL, last_error_code = NULL,
  access_token_rejected = false, quarantined_until = NULL, status = 'active', updated_at = clock_timestamp()
         FROM unlocked WHERE stored.id = unlocked.row_id RETURNING unlocked.position;

-- import: import tokens
-- idp_tokens_import_7473fbaf1cab, never repeated
--   $1 keycloakUserId: text
--   $2 idp: text
--   $3 isExplicit: boolean
--   $4 accessToken: character varying
--   $5 refreshToken: text
--   $6 accessTokenExpiresAt: bigint
--   $7 refreshTokenExpiresAt: bigint
--   $8 version: bigint
--   $9 clientId: character varying
--   $10 issuedAt: double precision
--   $11 mayDropRefreshToken: boolean
WITH reconnected AS (
         DELETE FROM "disconnected_accounts" AS note WHERE note.keycloak_user_id = $1 AND note.identity_provider = $2 AND $3::boolean),
       updated AS (
         UPDATE "auth_tokens" AS stored SET access_token = $4, refresh_token = $5,
           access_token_expires_at = $6,
           refresh_token_expires_at = $7,
           token_version = $8, parent_version = NULL, client_id = $9,
           rejections = 0, issued_at = CASE WHEN $10::float8 > 0 THEN to_timestamp($10::float8) ELSE clock_timestamp() END, lease_id = NULL, lease_expires_at = NULL, lease_outcome_unknown = false, open_leases = 0,
  first_leased_at = NULL, retry_at = NULL, failure_count = 0, failure_kind = NULL, last_error_code = NULL,
  access_token_rejected = false, quarantined_until = NULL, status = 'active', updated_at = clock_timestamp() WHERE stored.keycloak_user_id = $1 AND stored.identity_provider = $2 AND CASE WHEN $10::float8 > 0 THEN to_timestamp($10::float8) > stored.issued_at
        OR to_timestamp($10::float8) = stored.issued_at AND stored.parent_version IS NULL
      ELSE stored.parent_version IS NULL OR stored.status <> 'active' END
    AND ($11::boolean OR $5 <> '' OR stored.refresh_token = '' OR stored.status <> 'active') RETURNING pg_current_xact_id()::text AS transaction_id),
       inserted AS (
         INSERT INTO "auth_tokens" AS stored (keycloak_user_id, identity_provider, access_token,
             refresh_token, access_token_expires_at, refresh_token_expires_at, token_version, client_id, issued_at)
           SELECT $1, $2, $4, $5, $6::bigint,
             $7::bigint, $8::bigint, $9, CASE WHEN $10::float8 > 0 THEN to_timestamp($10::float8) ELSE clock_timestamp() END WHERE NOT EXISTS (SELECT FROM "auth_tokens" AS stored WHERE stored.keycloak_user_id = $1 AND stored.identity_provider = $2)
           AND ($3::boolean OR NOT EXISTS (SELECT FROM "disconnected_accounts" AS note WHERE note.keycloak_user_id = $1 AND note.identity_provider = $2))
         ON CONFLICT (keycloak_user_id, identity_provider) DO UPDATE SET access_token = $4, refresh_token = $5,
           access_token_expires_at = $6,
           refresh_token_expires_at = $7,
           token_version = $8, parent_version = NULL, client_id = $9,
           rejections = 0, issued_at = CASE WHEN $10::float8 > 0 THEN to_timestamp($10::float8) ELSE clock_timestamp() END, lease_id = NULL, lease_expires_at = NULL, lease_outcome_unknown = false, open_leases = 0,
  first_leased_at = NULL, retry_at = NULL, failure_count = 0, failure_kind = NULL, last_error_code = NULL,
  access_token_rejected = false, quarantined_until = NULL, status = 'active', updated_at = clock_timestamp() WHERE CASE WHEN $10::float8 > 0 THEN to_timestamp($10::float8) > stored.issued_at
        OR to_timestamp($10::float8) = stored.issued_at AND stored.parent_version IS NULL
      ELSE stored.parent_version IS NULL OR stored.status <> 'active' END
    AND ($11::boolean OR $5 <> '' OR stored.refresh_token = '' OR stored.status <> 'active')
         RETURNING pg_current_xact_id()::text AS transaction_id)
       SELECT transaction_id FROM updated UNION ALL SELECT transaction_id FROM inserted;

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
-- idp_tokens_delete_for_revocation_a552b148b512, never repeated
--   $1 keycloakUserId: text
--   $2 idp: text
--   $3 isRevocable: boolean
--   $4 isNoted: boolean
WITH deleted AS (
         DELETE FROM "auth_tokens" AS stored WHERE stored.keycloak_user_id = $1 AND stored.identity_provider = $2 RETURNING stored.access_token, stored.refresh_token, stored.client_id),
       noted AS (
         INSERT INTO "token_revocations" (keycloak_user_id, identity_provider, client_id, access_token, refresh_token)
           SELECT $1, $2, deleted.client_id, deleted.access_token, deleted.refresh_token FROM deleted
             WHERE $3::boolean),
       disconnected AS (
         INSERT INTO "disconnected_accounts" AS note (keycloak_user_id, identity_provider)
           SELECT $1, $2 WHERE $4::boolean
           ON CONFLICT (keycloak_user_id, identity_provider) DO UPDATE SET disconnected_at = now())
       SELECT FROM deleted;
