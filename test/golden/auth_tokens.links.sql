-- link: store the tokens of a link
-- idp_tokens_link_de16991e310a, repeated when its connection breaks
--   $1 keycloakUserId: text
--   $2 idp: text
--   $3 account: text
--   $4 replacesAccount: boolean
--   $5 isRevocable: boolean
--   $6 subject: text
--   $7 isUntold: boolean
--   $8 version: bigint
--   $9 accessToken: character varying
--   $10 accessTokenExpiresAt: bigint
--   $11 scopes: text
--   $12 accountName: text
--   $13 refreshToken: text
--   $14 clientId: text
--   $15 refreshTokenExpiresAt: bigint
WITH locked AS MATERIALIZED (
         SELECT stored.id, stored.account, stored.subject, stored.access_token, stored.refresh_token, stored.client_id, stored.token_version, stored.parent_version FROM "auth_tokens" AS stored
           WHERE stored.keycloak_user_id = $1 AND stored.identity_provider = $2
             AND (stored.account = $3 OR $4::boolean AND $5::boolean AND stored.subject =
               (SELECT own.subject FROM "auth_tokens" AS own WHERE own.keycloak_user_id = $1 AND own.identity_provider = $2 AND own.account = $3))
           ORDER BY stored.account FOR NO KEY UPDATE),
       found AS MATERIALIZED (
         SELECT stored.id AS row_id, stored.subject, stored.access_token, stored.refresh_token, stored.client_id,
             coalesce(stored.subject <> $6::text, false) AS is_other,
             coalesce(stored.subject <> $6::text, $7::boolean AND stored.subject IS NOT NULL) AS may_be_other,
             stored.token_version = $8::bigint OR coalesce(stored.parent_version = $8::bigint, false) AS is_done
           FROM locked AS stored WHERE stored.account = $3),
       updated AS (
         UPDATE "auth_tokens" AS stored SET access_token = $9, access_token_expires_at = $10::bigint, scopes = $11::text, subject = $6::text, account_name = $12::text, refresh_token = CASE WHEN NOT found.may_be_other AND $13::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $14::text, true) THEN stored.refresh_token ELSE $13::text END, refresh_token_expires_at = CASE WHEN NOT found.may_be_other AND $13::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $14::text, true) THEN stored.refresh_token_expires_at ELSE $15::bigint END, token_version = CASE WHEN stored.open_leases > 0 AND NOT found.may_be_other AND $13::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $14::text, true) THEN stored.token_version ELSE $8::bigint END, parent_version = CASE WHEN NOT found.may_be_other AND $13::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $14::text, true) THEN stored.parent_version ELSE NULL END, client_id = CASE WHEN NOT found.may_be_other AND $13::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $14::text, true) THEN stored.client_id ELSE $14::text END, lease_id = CASE WHEN stored.open_leases > 0 AND NOT found.may_be_other AND $13::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $14::text, true) THEN stored.lease_id ELSE NULL END, lease_expires_at = CASE WHEN stored.open_leases > 0 AND NOT found.may_be_other AND $13::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $14::text, true) THEN stored.lease_expires_at ELSE NULL END, lease_outcome_unknown = CASE WHEN stored.open_leases > 0 AND NOT found.may_be_other AND $13::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $14::text, true) THEN stored.lease_outcome_unknown ELSE false END, open_leases = CASE WHEN stored.open_leases > 0 AND NOT found.may_be_other AND $13::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $14::text, true) THEN stored.open_leases ELSE 0 END, first_leased_at = CASE WHEN stored.open_leases > 0 AND NOT found.may_be_other AND $13::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $14::text, true) THEN stored.first_leased_at ELSE NULL END, retry_at = CASE WHEN stored.open_leases > 0 AND NOT found.may_be_other AND $13::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $14::text, true) THEN stored.retry_at ELSE NULL END, failure_count = CASE WHEN stored.open_leases > 0 AND NOT found.may_be_other AND $13::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $14::text, true) THEN stored.failure_count ELSE 0 END, failure_kind = CASE WHEN stored.open_leases > 0 AND NOT found.may_be_other AND $13::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $14::text, true) THEN stored.failure_kind ELSE NULL END, last_error_code = CASE WHEN stored.open_leases > 0 AND NOT found.may_be_other AND $13::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $14::text, true) THEN stored.last_error_code ELSE NULL END, quarantined_until = CASE WHEN stored.open_leases > 0 AND NOT found.may_be_other AND $13::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $14::text, true) THEN stored.quarantined_until ELSE NULL END, status = CASE WHEN stored.open_leases > 0 AND NOT found.may_be_other AND $13::text = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = $14::text, true) THEN stored.status ELSE 'active' END, access_token_rejected = false, rejections = 0, issued_at = clock_timestamp(), updated_at = clock_timestamp()
           FROM found WHERE stored.id = found.row_id AND NOT found.is_done
             AND ($4::boolean OR NOT found.may_be_other) RETURNING stored.id),
       revoked AS (
         INSERT INTO "token_revocations" (keycloak_user_id, identity_provider, account, client_id, access_token, refresh_token)
           SELECT $1, $2, $3, found.client_id, found.access_token, found.refresh_token FROM found
             WHERE found.is_other AND NOT found.is_done AND $4::boolean AND $5::boolean
               AND NOT EXISTS (SELECT FROM locked AS other WHERE other.account <> $3 AND other.subject = found.subject)),
       inserted AS (
         INSERT INTO "auth_tokens" AS stored (keycloak_user_id, identity_provider, account, access_token, refresh_token,
             access_token_expires_at, refresh_token_expires_at, scopes, subject, account_name, token_version, client_id,
             issued_at)
           SELECT $1, $2, $3, $9, $13, $10::bigint,
             $15::bigint, $11, $6, $12, $8::bigint, $14,
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
