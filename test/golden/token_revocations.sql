-- add: note tokens for revocation
-- idp_tokens_add_revocation_55b3e48316a5, never repeated
--   $1 keycloakUserId: character varying
--   $2 idp: character varying
--   $3 account: character varying
--   $4 clientId: character varying
--   $5 accessToken: character varying
--   $6 refreshToken: character varying
INSERT INTO "token_revocations" (keycloak_user_id, identity_provider, account, client_id, access_token, refresh_token)
        VALUES ($1, $2, $3, $4, $5, $6);

-- claim: take up revocations
-- idp_tokens_claim_revocations_4a26152de1d0, repeated when its connection breaks
--   $1 revocable: text[]
--   $2 busy: text[]
--   $3 limit: bigint
UPDATE "token_revocations" AS stored SET attempts = stored.attempts + 1,
           next_attempt_at = now() + least(30 * 2 ^ stored.attempts, 3600) * interval '1 second'
         WHERE stored.id IN (SELECT due.id FROM "token_revocations" AS due WHERE due.next_attempt_at <= now()
             AND (due.identity_provider = ANY($1::text[]) OR due.created_at < now() - interval '30 days')
             AND due.identity_provider <> ALL($2::text[])
           ORDER BY due.next_attempt_at LIMIT $3 FOR UPDATE SKIP LOCKED)
         RETURNING stored.id::text AS id, stored.keycloak_user_id, stored.identity_provider, stored.account,
           stored.client_id, stored.access_token, stored.refresh_token, stored.attempts;

-- postpone: postpone a revocation
-- idp_tokens_postpone_revocation_6f108fca5fd1, repeated when its connection breaks
--   $1 errorCode: character varying
--   $2 delayMs: double precision
--   $3 id: bigint
UPDATE "token_revocations" AS stored SET last_error_code = $1,
           next_attempt_at = greatest(stored.next_attempt_at, now() + $2::float8 * interval '1 ms')
         WHERE stored.id = $3;

-- remove: remove a revocation
-- idp_tokens_remove_revocation_3af6335c132d, repeated when its connection breaks
--   $1 id: bigint
DELETE FROM "token_revocations" AS stored WHERE stored.id = $1;

-- findPending: look for tokens that are to be revoked
-- idp_tokens_find_pending_revocations_73e18eb12e49, repeated when its connection breaks
--   $1 keycloakUserId: text
--   $2 idp: text
--   $3 account: text
SELECT stored.access_token, stored.refresh_token FROM "token_revocations" AS stored
         WHERE stored.keycloak_user_id = $1 AND stored.identity_provider = $2
           AND stored.account = $3;
