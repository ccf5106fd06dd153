-- add: begin to link an account
-- idp_tokens_add_link_attempt_b7a6388e2d6e, repeated when its connection breaks
--   $1 keycloakUserId: text
--   $2 othersOfUser: integer
--   $3 stateHash: character varying
--   $4 idp: character varying
--   $5 account: character varying
--   $6 scopes: character varying
--   $7 codeVerifier: character varying
--   $8 returnTo: character varying
--   $9 replacesAccount: boolean
--   $10 lifetimeSeconds: integer
WITH expired AS (
         DELETE FROM "link_attempts" AS stored WHERE stored.state_hash IN (
           SELECT old.state_hash FROM "link_attempts" AS old WHERE old.expires_at <= now()
             ORDER BY old.expires_at LIMIT 100 FOR UPDATE SKIP LOCKED)),
       surplus AS (
         DELETE FROM "link_attempts" AS stored WHERE stored.state_hash IN (
           SELECT old.state_hash FROM "link_attempts" AS old WHERE old.state_hash IN (
               SELECT own.state_hash FROM "link_attempts" AS own
                 WHERE own.keycloak_user_id = $1 AND own.expires_at > now()
                 ORDER BY own.created_at DESC, own.state_hash OFFSET $2::integer)
             FOR UPDATE SKIP LOCKED))
       INSERT INTO "link_attempts" AS stored (state_hash, keycloak_user_id, identity_provider, account, scopes, code_verifier,
           return_to, replaces_account, created_at, expires_at)
         VALUES ($3, $1, $4, $5, $6, $7, $8, $9,
           clock_timestamp(), now() + $10::integer * interval '1 second')
         ON CONFLICT (state_hash) DO UPDATE SET expires_at = excluded.expires_at
         RETURNING date_part('epoch', stored.expires_at) AS expires_at;

-- take: finish linking an account
-- idp_tokens_take_link_attempt_1472667a63eb, never repeated
--   $1 stateHash: text
--   $2 keycloakUserId: text
--   $3 idp: text
WITH taken AS (
         DELETE FROM "link_attempts" AS stored WHERE stored.state_hash = $1
             AND stored.keycloak_user_id = $2 AND coalesce(stored.identity_provider = $3, true)
           RETURNING stored.*, stored.expires_at <= now() AS is_expired)
       SELECT true AS is_taken, taken.state_hash, taken.keycloak_user_id, taken.identity_provider, taken.account,
           taken.scopes, taken.code_verifier, taken.return_to, taken.replaces_account, taken.is_expired,
           date_part('epoch', clock_timestamp()) AS taken_at FROM taken
       UNION ALL
       SELECT false, NULL, CASE WHEN other.keycloak_user_id = $2 THEN other.keycloak_user_id END,
           other.identity_provider, NULL, NULL, NULL, NULL, NULL, NULL, NULL FROM "link_attempts" AS other
         WHERE other.state_hash = $1 AND NOT (other.keycloak_user_id = $2
           AND coalesce(other.identity_provider = $3, true));

-- deleteOfUser: delete the attempts of a user to link accounts
-- idp_tokens_delete_link_attempts_of_user_b2bb5724435f, repeated when its connection breaks
--   $1 keycloakUserId: text
DELETE FROM "link_attempts" AS stored WHERE stored.keycloak_user_id = $1;
