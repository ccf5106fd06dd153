-- find: look for a disconnected account
-- idp_tokens_find_disconnected_04979a9cbfb7, repeated when its connection breaks
--   $1 keycloakUserId: text
--   $2 idp: text
--   $3 account: text
SELECT FROM "disconnected_accounts" AS note
         WHERE note.keycloak_user_id = $1 AND note.identity_provider = $2
           AND note.account = $3;

-- deleteOfUser: delete the notes of a user
-- idp_tokens_delete_disconnected_of_user_996ef7423e2c, repeated when its connection breaks
--   $1 keycloakUserId: text
DELETE FROM "disconnected_accounts" AS note WHERE note.keycloak_user_id = $1;
