-- link: store the tokens of a link
-- idp_tokens_link_778bb7529cd2, repeated when its connection breaks
--   $1 subject: text
--   $2 isUntold: boolean
--   $3 version: bigint
--   $4 keycloakUserId: text
--   $5 idp: text
--   $6 account: text
--   $7 accessToken: character varying
--   $8 accessTokenExpiresAt: bigint
--   $9 scopes: text
--   $10 accountName: text
--   $11 refreshToken: text
--   $12 clientId: text
--   $13 refreshTokenExpiresAt: bigint
--   $14 replacesAccount: boolean
--   $15 isRevocable: boolean
WITH found AS MATERIALIZED (
         SELECT stored.id AS row_id, stored.access_token, stored.refresh_token, stored.client_id,
             coalesce(stored.subject <> $1::text, false) AS is_other,
             coalesce(stored.subject <> $1::text, $2::boolean AND stored.subject IS NOT NULL) AS may_be_other,
             stored.token_version = $3::bigint OR coalesce(stored.parent_version = $3::bigint, false) AS is_done
           FROM "auth_tokens" AS stored WHERE stored.keycloak_user_id = $4 AND stored.identity_provider = $5 AND stored.account = $6 FOR NO KEY UPDATE),
       updated AS (
         UPDATE "auth_tokens" AS stored SET access_token = $7, access_token_expires_at = $8::bigint, scopes = $9::text, subject = $1::text, account_name = $10::text, refresh_token = CASE WHEN NOT found.may_be_other AND $11::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $12::text, true) THEN stored.refresh_token ELSE $11::text END, refresh_token_expires_at = CASE WHEN NOT found.may_be_other AND $11::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $12::text, true) THEN stored.refresh_token_expires_at ELSE $13::bigint END, token_version = CASE WHEN stored.open_leases > 0 AND NOT found.may_be_other AND $11::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $12::text, true) THEN stored.token_version ELSE $3::bigint END, parent_version = CASE WHEN NOT found.may_be_other AND $11::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $12::text, true) THEN stored.parent_version ELSE NULL END, client_id = CASE WHEN NOT found.may_be_other AND $11::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $12::text, true) THEN stored.client_id ELSE $12::text END, lease_id = CASE WHEN stored.open_leases > 0 AND NOT found.may_be_other AND $11::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $12::text, true) THEN stored.lease_id ELSE NULL END, lease_expires_at = CASE WHEN stored.open_leases > 0 AND NOT found.may_be_other AND $11::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $12::text, true) THEN stored.lease_expires_at ELSE NULL END, lease_outcome_unknown = CASE WHEN stored.open_leases > 0 AND NOT found.may_be_other AND $11::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $12::text, true) THEN stored.lease_outcome_unknown ELSE false END, open_leases = CASE WHEN stored.open_leases > 0 AND NOT found.may_be_other AND $11::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $12::text, true) THEN stored.open_leases ELSE 0 END, first_leased_at = CASE WHEN stored.open_leases > 0 AND NOT found.may_be_other AND $11::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $12::text, true) THEN stored.first_leased_at ELSE NULL END, retry_at = CASE WHEN stored.open_leases > 0 AND NOT found.may_be_other AND $11::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $12::text, true) THEN stored.retry_at ELSE NULL END, failure_count = CASE WHEN stored.open_leases > 0 AND NOT found.may_be_other AND $11::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $12::text, true) THEN stored.failure_count ELSE 0 END, failure_kind = CASE WHEN stored.open_leases > 0 AND NOT found.may_be_other AND $11::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $12::text, true) THEN stored.failure_kind ELSE NULL END, last_error_code = CASE WHEN stored.open_leases > 0 AND NOT found.may_be_other AND $11::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $12::text, true) THEN stored.last_error_code ELSE NULL END, quarantined_until = CASE WHEN stored.open_leases > 0 AND NOT found.may_be_other AND $11::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $12::text, true) THEN stored.quarantined_until ELSE NULL END, status = CASE WHEN stored.open_leases > 0 AND NOT found.may_be_other AND $11::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $12::text, true) THEN stored.status ELSE 'active' END, access_token_rejected = false, rejections = 0, issued_at = clock_timestamp(), updated_at = clock_timestamp()
           FROM found WHERE stored.id = found.row_id AND NOT found.is_done
             AND ($14::boolean OR NOT found.may_be_other) RETURNING stored.id),
       revoked AS (
         INSERT INTO "token_revocations" (keycloak_user_id, identity_provider, account, client_id, access_token, refresh_token)
           SELECT $4, $5, $6, found.client_id, found.access_token, found.refresh_token FROM found
             WHERE found.is_other AND NOT found.is_done AND $14::boolean AND $15::boolean),
       inserted AS (
         INSERT INTO "auth_tokens" AS stored (keycloak_user_id, identity_provider, account, access_token, refresh_token,
             access_token_expires_at, refresh_token_expires_at, scopes, subject, account_name, token_version, client_id,
             issued_at)
           SELECT $4, $5, $6, $7, $11, $8::bigint,
             $13::bigint, $9, $1, $10, $3::bigint, $12,
             clock_timestamp() WHERE NOT EXISTS (SELECT FROM found)
           ON CONFLICT (keycloak_user_id, identity_provider, account) DO NOTHING RETURNING stored.id)
       SELECT CASE WHEN EXISTS (SELECT FROM updated) OR EXISTS (SELECT FROM inserted)
             OR coalesce((SELECT found.is_done FROM found), false) THEN 'stored'
           WHEN EXISTS (SELECT FROM found) THEN CASE WHEN (SELECT found.is_other FROM found) THEN 'other_account' ELSE 'untold' END
           ELSE 'raced' END AS result;

-- connections: list connections
-- idp_tokens_connections_fc567c9f1570, repeated when its connection breaks
--   $1 keycloakUserId: text
SELECT stored.identity_provider, stored.account, stored.subject, stored.account_name, stored.scopes,
           stored.status, stored.refresh_token <> '' AS has_refresh_token, stored.access_token_expires_at,
           stored.refresh_token_expires_at, date_part('epoch', stored.created_at) AS connected_at,
           date_part('epoch', stored.issued_at) AS refreshed_at
         FROM "auth_tokens" AS stored WHERE stored.keycloak_user_id = $1
         ORDER BY stored.identity_provider, stored.account;
