-- link: store the tokens of a link
-- idp_tokens_link_7e51bfc4f683, repeated when its connection breaks
--   $1 subject: text
--   $2 version: bigint
--   $3 keycloakUserId: text
--   $4 idp: text
--   $5 account: text
--   $6 accessToken: character varying
--   $7 accessTokenExpiresAt: bigint
--   $8 scopes: text
--   $9 accountName: text
--   $10 refreshToken: text
--   $11 clientId: text
--   $12 refreshTokenExpiresAt: bigint
--   $13 replacesAccount: boolean
--   $14 isRevocable: boolean
WITH found AS MATERIALIZED (
         SELECT stored.id AS row_id, stored.access_token, stored.refresh_token, stored.client_id,
             coalesce(stored.subject <> $1::text, false) AS is_other,
             stored.token_version = $2::bigint OR coalesce(stored.parent_version = $2::bigint, false) AS is_done
           FROM "auth_tokens" AS stored WHERE stored.keycloak_user_id = $3 AND stored.identity_provider = $4 AND stored.account = $5 FOR NO KEY UPDATE),
       updated AS (
         UPDATE "auth_tokens" AS stored SET access_token = $6, access_token_expires_at = $7::bigint, scopes = $8::text, subject = $1::text, account_name = $9::text, refresh_token = CASE WHEN NOT found.is_other AND $10::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $11::text, true) THEN stored.refresh_token ELSE $10::text END, refresh_token_expires_at = CASE WHEN NOT found.is_other AND $10::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $11::text, true) THEN stored.refresh_token_expires_at ELSE $12::bigint END, token_version = CASE WHEN stored.open_leases > 0 AND NOT found.is_other AND $10::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $11::text, true) THEN stored.token_version ELSE $2::bigint END, parent_version = CASE WHEN NOT found.is_other AND $10::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $11::text, true) THEN stored.parent_version ELSE NULL END, client_id = CASE WHEN NOT found.is_other AND $10::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $11::text, true) THEN stored.client_id ELSE $11::text END, lease_id = CASE WHEN stored.open_leases > 0 AND NOT found.is_other AND $10::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $11::text, true) THEN stored.lease_id ELSE NULL END, lease_expires_at = CASE WHEN stored.open_leases > 0 AND NOT found.is_other AND $10::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $11::text, true) THEN stored.lease_expires_at ELSE NULL END, lease_outcome_unknown = CASE WHEN stored.open_leases > 0 AND NOT found.is_other AND $10::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $11::text, true) THEN stored.lease_outcome_unknown ELSE false END, open_leases = CASE WHEN stored.open_leases > 0 AND NOT found.is_other AND $10::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $11::text, true) THEN stored.open_leases ELSE 0 END, first_leased_at = CASE WHEN stored.open_leases > 0 AND NOT found.is_other AND $10::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $11::text, true) THEN stored.first_leased_at ELSE NULL END, retry_at = CASE WHEN stored.open_leases > 0 AND NOT found.is_other AND $10::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $11::text, true) THEN stored.retry_at ELSE NULL END, failure_count = CASE WHEN stored.open_leases > 0 AND NOT found.is_other AND $10::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $11::text, true) THEN stored.failure_count ELSE 0 END, failure_kind = CASE WHEN stored.open_leases > 0 AND NOT found.is_other AND $10::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $11::text, true) THEN stored.failure_kind ELSE NULL END, last_error_code = CASE WHEN stored.open_leases > 0 AND NOT found.is_other AND $10::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $11::text, true) THEN stored.last_error_code ELSE NULL END, quarantined_until = CASE WHEN stored.open_leases > 0 AND NOT found.is_other AND $10::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $11::text, true) THEN stored.quarantined_until ELSE NULL END, status = CASE WHEN stored.open_leases > 0 AND NOT found.is_other AND $10::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $11::text, true) THEN stored.status ELSE 'active' END, access_token_rejected = false, rejections = 0, issued_at = clock_timestamp(), updated_at = clock_timestamp()
           FROM found WHERE stored.id = found.row_id AND NOT found.is_done
             AND ($13::boolean OR NOT found.is_other) RETURNING stored.id),
       revoked AS (
         INSERT INTO "token_revocations" (keycloak_user_id, identity_provider, account, client_id, access_token, refresh_token)
           SELECT $3, $4, $5, found.client_id, found.access_token, found.refresh_token FROM found
             WHERE found.is_other AND NOT found.is_done AND $13::boolean AND $14::boolean),
       inserted AS (
         INSERT INTO "auth_tokens" AS stored (keycloak_user_id, identity_provider, account, access_token, refresh_token,
             access_token_expires_at, refresh_token_expires_at, scopes, subject, account_name, token_version, client_id,
             issued_at)
           SELECT $3, $4, $5, $6, $10, $7::bigint,
             $12::bigint, $8, $1, $9, $2::bigint, $11,
             clock_timestamp() WHERE NOT EXISTS (SELECT FROM found)
           ON CONFLICT (keycloak_user_id, identity_provider, account) DO NOTHING RETURNING stored.id)
       SELECT CASE WHEN EXISTS (SELECT FROM updated) OR EXISTS (SELECT FROM inserted)
             OR coalesce((SELECT found.is_done FROM found), false) THEN 'stored'
           WHEN EXISTS (SELECT FROM found) THEN 'other_account' ELSE 'raced' END AS result;

-- connections: list connections
-- idp_tokens_connections_fc567c9f1570, repeated when its connection breaks
--   $1 keycloakUserId: text
SELECT stored.identity_provider, stored.account, stored.subject, stored.account_name, stored.scopes,
           stored.status, stored.refresh_token <> '' AS has_refresh_token, stored.access_token_expires_at,
           stored.refresh_token_expires_at, date_part('epoch', stored.created_at) AS connected_at,
           date_part('epoch', stored.issued_at) AS refreshed_at
         FROM "auth_tokens" AS stored WHERE stored.keycloak_user_id = $1
         ORDER BY stored.identity_provider, stored.account;
