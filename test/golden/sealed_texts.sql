-- openWriters: list the open transactions that have written tokens
-- idp_tokens_open_writers_bc856eba5bfd, repeated when its connection breaks
SELECT DISTINCT held.virtualtransaction AS id, held.pid, date_part('epoch', activity.xact_start) AS open_since
      FROM pg_locks AS held LEFT JOIN pg_stat_activity AS activity ON activity.pid = held.pid
      WHERE held.locktype = 'relation' AND held.mode = 'RowExclusiveLock'
        AND held.database = (SELECT own.oid FROM pg_database AS own WHERE own.datname = current_database())
        AND held.relation IN ('"auth_tokens"'::regclass, '"offline_tokens"'::regclass, '"token_revocations"'::regclass, '"link_attempts"'::regclass);

-- auth_tokens.count: count the sealed texts of auth_tokens
-- idp_tokens_count_texts_auth_tokens_54358e86f7f3, repeated when its connection breaks
SELECT CASE WHEN named.key_id ~ '^[A-Za-z0-9_-]{1,64}$' THEN named.key_id END AS key_id, sum(named.texts) AS texts
        FROM (SELECT CASE WHEN starts_with(each.sealed, 'v1.') THEN split_part(left(each.sealed, 120), '.', 2)
              ELSE substring(each.sealed FROM '(?:^|")v1\.([A-Za-z0-9_-]{1,64})\.') END AS key_id, count(*) AS texts FROM "auth_tokens" AS stored
            CROSS JOIN LATERAL (VALUES (stored.access_token), (stored.refresh_token)) AS each (sealed)
            WHERE each.sealed <> '' GROUP BY 1) AS named GROUP BY 1;

-- auth_tokens.estimate: estimate the rows of auth_tokens
-- idp_tokens_estimate_auth_tokens_bd9393bd6e4a, repeated when its connection breaks
SELECT relation.reltuples AS estimated FROM pg_class AS relation WHERE relation.oid = '"auth_tokens"'::regclass;

-- auth_tokens.page: read the sealed texts of auth_tokens
-- idp_tokens_page_texts_auth_tokens_0b3cfa7b31da, repeated when its connection breaks
--   $1 sealedPrefix: text
--   $2 from: bigint
--   $3 limit: bigint
SELECT stored.id::text AS row_id, stored.keycloak_user_id AS keycloak_user_id,
         stored.identity_provider AS identity_provider, stored.account AS account, CASE WHEN stored.access_token <> '' AND NOT starts_with(stored.access_token, '' || $1::text)
           THEN stored.access_token END AS first_text, CASE WHEN stored.refresh_token <> '' AND NOT starts_with(stored.refresh_token, '' || $1::text)
           THEN stored.refresh_token END AS second_text FROM "auth_tokens" AS stored WHERE stored.id >= $2::bigint
         ORDER BY stored.id LIMIT $3;

-- auth_tokens.look: read the sealed texts of auth_tokens
-- idp_tokens_look_texts_auth_tokens_cce3bed89372, repeated when its connection breaks
--   $1 sealedPrefix: text
--   $2 ids: bigint[]
SELECT stored.id::text AS row_id, stored.keycloak_user_id AS keycloak_user_id,
         stored.identity_provider AS identity_provider, stored.account AS account, CASE WHEN stored.access_token <> '' AND NOT starts_with(stored.access_token, '' || $1::text)
           THEN stored.access_token END AS first_text, CASE WHEN stored.refresh_token <> '' AND NOT starts_with(stored.refresh_token, '' || $1::text)
           THEN stored.refresh_token END AS second_text FROM "auth_tokens" AS stored WHERE stored.id = ANY ($2::bigint[]);

-- auth_tokens.sample: read a sample of the sealed texts of auth_tokens
-- idp_tokens_sample_texts_auth_tokens_9a9c3e55a645, repeated when its connection breaks
--   $1 rows: bigint
--   $2 percent: real
(SELECT stored.id::text AS row_id, stored.keycloak_user_id AS keycloak_user_id,
         stored.identity_provider AS identity_provider, stored.account AS account, nullif(stored.access_token, '') AS first_text, nullif(stored.refresh_token, '') AS second_text FROM "auth_tokens" AS stored
         ORDER BY stored.updated_at DESC LIMIT $1)
       UNION ALL
       (SELECT stored.id::text AS row_id, stored.keycloak_user_id AS keycloak_user_id,
         stored.identity_provider AS identity_provider, stored.account AS account, nullif(stored.access_token, '') AS first_text, nullif(stored.refresh_token, '') AS second_text FROM "auth_tokens" AS stored TABLESAMPLE SYSTEM ($2)
         ORDER BY random() LIMIT $1);

-- auth_tokens.replace: seal the texts of auth_tokens anew
-- idp_tokens_replace_texts_auth_tokens_7a865a195624, repeated when its connection breaks
--   $1 id: bigint[]
--   $2 oldFirst: text[]
--   $3 newFirst: text[]
--   $4 oldSecond: text[]
--   $5 newSecond: text[]
WITH unlocked AS MATERIALIZED (
         SELECT stored.id AS row_id, asked.* FROM unnest((SELECT $1::bigint[]), (SELECT $2::text[]),
             (SELECT $3::text[]), (SELECT $4::text[]), (SELECT $5::text[]))
             AS asked (asked_id, old_first, new_first, old_second, new_second)
           JOIN "auth_tokens" AS stored ON stored.id = asked.asked_id FOR NO KEY UPDATE OF stored SKIP LOCKED)
       UPDATE "auth_tokens" AS stored SET access_token = CASE WHEN stored.access_token = unlocked.old_first THEN unlocked.new_first ELSE stored.access_token END,
           refresh_token = CASE WHEN stored.refresh_token = unlocked.old_second THEN unlocked.new_second ELSE stored.refresh_token END
         FROM unlocked WHERE stored.id = unlocked.row_id
           AND (stored.access_token = unlocked.old_first OR stored.refresh_token = unlocked.old_second)
         RETURNING CASE WHEN stored.access_token = coalesce(unlocked.new_first, stored.access_token) AND stored.refresh_token = coalesce(unlocked.new_second, stored.refresh_token) THEN stored.id::text END AS row_id;

-- offline_tokens.count: count the sealed texts of offline_tokens
-- idp_tokens_count_texts_offline_tokens_059ffb29290e, repeated when its connection breaks
SELECT CASE WHEN named.key_id ~ '^[A-Za-z0-9_-]{1,64}$' THEN named.key_id END AS key_id, sum(named.texts) AS texts
        FROM (SELECT CASE WHEN starts_with(each.sealed, '{"tokens":"v1.') THEN split_part(left(each.sealed, 120), '.', 2)
              ELSE substring(each.sealed FROM '(?:^|")v1\.([A-Za-z0-9_-]{1,64})\.') END AS key_id, count(*) AS texts FROM "offline_tokens" AS stored
            CROSS JOIN LATERAL (VALUES (stored.offline_token)) AS each (sealed)
            WHERE each.sealed <> '' GROUP BY 1) AS named GROUP BY 1;

-- offline_tokens.estimate: estimate the rows of offline_tokens
-- idp_tokens_estimate_offline_tokens_5d7e0575ce96, repeated when its connection breaks
SELECT relation.reltuples AS estimated FROM pg_class AS relation WHERE relation.oid = '"offline_tokens"'::regclass;

-- offline_tokens.page: read the sealed texts of offline_tokens
-- idp_tokens_page_texts_offline_tokens_8e3b0148ac67, repeated when its connection breaks
--   $1 sealedPrefix: text
--   $2 from: text
--   $3 limit: bigint
SELECT stored.user_id::text AS row_id, stored.user_id AS keycloak_user_id,
         '' AS identity_provider, '' AS account, CASE WHEN stored.offline_token <> '' AND NOT starts_with(stored.offline_token, '{"tokens":"' || $1::text)
           THEN stored.offline_token END AS first_text, NULL AS second_text FROM "offline_tokens" AS stored WHERE stored.user_id >= $2::text
         ORDER BY stored.user_id LIMIT $3;

-- offline_tokens.look: read the sealed texts of offline_tokens
-- idp_tokens_look_texts_offline_tokens_862e25566258, repeated when its connection breaks
--   $1 sealedPrefix: text
--   $2 ids: text[]
SELECT stored.user_id::text AS row_id, stored.user_id AS keycloak_user_id,
         '' AS identity_provider, '' AS account, CASE WHEN stored.offline_token <> '' AND NOT starts_with(stored.offline_token, '{"tokens":"' || $1::text)
           THEN stored.offline_token END AS first_text, NULL AS second_text FROM "offline_tokens" AS stored WHERE stored.user_id = ANY ($2::text[]);

-- offline_tokens.sample: read a sample of the sealed texts of offline_tokens
-- idp_tokens_sample_texts_offline_tokens_ae99a44f0df3, repeated when its connection breaks
--   $1 rows: bigint
--   $2 percent: real
(SELECT stored.user_id::text AS row_id, stored.user_id AS keycloak_user_id,
         '' AS identity_provider, '' AS account, nullif(stored.offline_token, '') AS first_text, NULL AS second_text FROM "offline_tokens" AS stored
         ORDER BY stored.updated_at DESC LIMIT $1)
       UNION ALL
       (SELECT stored.user_id::text AS row_id, stored.user_id AS keycloak_user_id,
         '' AS identity_provider, '' AS account, nullif(stored.offline_token, '') AS first_text, NULL AS second_text FROM "offline_tokens" AS stored TABLESAMPLE SYSTEM ($2)
         ORDER BY random() LIMIT $1);

-- offline_tokens.replace: seal the texts of offline_tokens anew
-- idp_tokens_replace_texts_offline_tokens_a97714947a1b, repeated when its connection breaks
--   $1 id: text[]
--   $2 oldFirst: text[]
--   $3 newFirst: text[]
--   $4 oldSecond: text[]
--   $5 newSecond: text[]
WITH unlocked AS MATERIALIZED (
         SELECT stored.user_id AS row_id, asked.* FROM unnest((SELECT $1::text[]), (SELECT $2::text[]),
             (SELECT $3::text[]), (SELECT $4::text[]), (SELECT $5::text[]))
             AS asked (asked_id, old_first, new_first, old_second, new_second)
           JOIN "offline_tokens" AS stored ON stored.user_id = asked.asked_id FOR NO KEY UPDATE OF stored SKIP LOCKED)
       UPDATE "offline_tokens" AS stored SET offline_token = CASE WHEN stored.offline_token = unlocked.old_first THEN unlocked.new_first ELSE stored.offline_token END
         FROM unlocked WHERE stored.user_id = unlocked.row_id
           AND (stored.offline_token = unlocked.old_first)
         RETURNING CASE WHEN stored.offline_token = coalesce(unlocked.new_first, stored.offline_token) THEN stored.user_id::text END AS row_id;

-- token_revocations.count: count the sealed texts of token_revocations
-- idp_tokens_count_texts_token_revocations_26ad6df7c506, repeated when its connection breaks
SELECT CASE WHEN named.key_id ~ '^[A-Za-z0-9_-]{1,64}$' THEN named.key_id END AS key_id, sum(named.texts) AS texts
        FROM (SELECT CASE WHEN starts_with(each.sealed, 'v1.') THEN split_part(left(each.sealed, 120), '.', 2)
              ELSE substring(each.sealed FROM '(?:^|")v1\.([A-Za-z0-9_-]{1,64})\.') END AS key_id, count(*) AS texts FROM "token_revocations" AS stored
            CROSS JOIN LATERAL (VALUES (stored.access_token), (stored.refresh_token)) AS each (sealed)
            WHERE each.sealed <> '' GROUP BY 1) AS named GROUP BY 1;

-- token_revocations.estimate: estimate the rows of token_revocations
-- idp_tokens_estimate_token_revocations_313f78065361, repeated when its connection breaks
SELECT relation.reltuples AS estimated FROM pg_class AS relation WHERE relation.oid = '"token_revocations"'::regclass;

-- token_revocations.page: read the sealed texts of token_revocations
-- idp_tokens_page_texts_token_revocations_f8c053ff987e, repeated when its connection breaks
--   $1 sealedPrefix: text
--   $2 from: bigint
--   $3 limit: bigint
SELECT stored.id::text AS row_id, stored.keycloak_user_id AS keycloak_user_id,
         stored.identity_provider AS identity_provider, stored.account AS account, CASE WHEN stored.access_token <> '' AND NOT starts_with(stored.access_token, '' || $1::text)
           THEN stored.access_token END AS first_text, CASE WHEN stored.refresh_token <> '' AND NOT starts_with(stored.refresh_token, '' || $1::text)
           THEN stored.refresh_token END AS second_text FROM "token_revocations" AS stored WHERE stored.id >= $2::bigint
         ORDER BY stored.id LIMIT $3;

-- token_revocations.look: read the sealed texts of token_revocations
-- idp_tokens_look_texts_token_revocations_251174c807c9, repeated when its connection breaks
--   $1 sealedPrefix: text
--   $2 ids: bigint[]
SELECT stored.id::text AS row_id, stored.keycloak_user_id AS keycloak_user_id,
         stored.identity_provider AS identity_provider, stored.account AS account, CASE WHEN stored.access_token <> '' AND NOT starts_with(stored.access_token, '' || $1::text)
           THEN stored.access_token END AS first_text, CASE WHEN stored.refresh_token <> '' AND NOT starts_with(stored.refresh_token, '' || $1::text)
           THEN stored.refresh_token END AS second_text FROM "token_revocations" AS stored WHERE stored.id = ANY ($2::bigint[]);

-- token_revocations.sample: read a sample of the sealed texts of token_revocations
-- idp_tokens_sample_texts_token_revocations_91ee2686ec7e, repeated when its connection breaks
--   $1 rows: bigint
--   $2 percent: real
(SELECT stored.id::text AS row_id, stored.keycloak_user_id AS keycloak_user_id,
         stored.identity_provider AS identity_provider, stored.account AS account, nullif(stored.access_token, '') AS first_text, nullif(stored.refresh_token, '') AS second_text FROM "token_revocations" AS stored
         ORDER BY stored.created_at DESC LIMIT $1)
       UNION ALL
       (SELECT stored.id::text AS row_id, stored.keycloak_user_id AS keycloak_user_id,
         stored.identity_provider AS identity_provider, stored.account AS account, nullif(stored.access_token, '') AS first_text, nullif(stored.refresh_token, '') AS second_text FROM "token_revocations" AS stored TABLESAMPLE SYSTEM ($2)
         ORDER BY random() LIMIT $1);

-- token_revocations.replace: seal the texts of token_revocations anew
-- idp_tokens_replace_texts_token_revocations_27f9acaea33f, repeated when its connection breaks
--   $1 id: bigint[]
--   $2 oldFirst: text[]
--   $3 newFirst: text[]
--   $4 oldSecond: text[]
--   $5 newSecond: text[]
WITH unlocked AS MATERIALIZED (
         SELECT stored.id AS row_id, asked.* FROM unnest((SELECT $1::bigint[]), (SELECT $2::text[]),
             (SELECT $3::text[]), (SELECT $4::text[]), (SELECT $5::text[]))
             AS asked (asked_id, old_first, new_first, old_second, new_second)
           JOIN "token_revocations" AS stored ON stored.id = asked.asked_id FOR NO KEY UPDATE OF stored SKIP LOCKED)
       UPDATE "token_revocations" AS stored SET access_token = CASE WHEN stored.access_token = unlocked.old_first THEN unlocked.new_first ELSE stored.access_token END,
           refresh_token = CASE WHEN stored.refresh_token = unlocked.old_second THEN unlocked.new_second ELSE stored.refresh_token END
         FROM unlocked WHERE stored.id = unlocked.row_id
           AND (stored.access_token = unlocked.old_first OR stored.refresh_token = unlocked.old_second)
         RETURNING CASE WHEN stored.access_token = coalesce(unlocked.new_first, stored.access_token) AND stored.refresh_token = coalesce(unlocked.new_second, stored.refresh_token) THEN stored.id::text END AS row_id;

-- link_attempts.count: count the sealed texts of link_attempts
-- idp_tokens_count_texts_link_attempts_58bd6962f010, repeated when its connection breaks
SELECT CASE WHEN named.key_id ~ '^[A-Za-z0-9_-]{1,64}$' THEN named.key_id END AS key_id, sum(named.texts) AS texts
        FROM (SELECT CASE WHEN starts_with(each.sealed, 'v1.') THEN split_part(left(each.sealed, 120), '.', 2)
              ELSE substring(each.sealed FROM '(?:^|")v1\.([A-Za-z0-9_-]{1,64})\.') END AS key_id, count(*) AS texts FROM "link_attempts" AS stored
            CROSS JOIN LATERAL (VALUES (stored.code_verifier)) AS each (sealed)
            WHERE each.sealed <> '' AND stored.expires_at > now() GROUP BY 1) AS named GROUP BY 1;

-- link_attempts.estimate: estimate the rows of link_attempts
-- idp_tokens_estimate_link_attempts_ca95d77e8ca0, repeated when its connection breaks
SELECT relation.reltuples AS estimated FROM pg_class AS relation WHERE relation.oid = '"link_attempts"'::regclass;

-- link_attempts.page: read the sealed texts of link_attempts
-- idp_tokens_page_texts_link_attempts_25a08d25b35e, repeated when its connection breaks
--   $1 sealedPrefix: text
--   $2 from: text
--   $3 limit: bigint
SELECT stored.state_hash::text AS row_id, stored.keycloak_user_id AS keycloak_user_id,
         stored.identity_provider AS identity_provider, stored.account AS account, CASE WHEN stored.code_verifier <> '' AND NOT starts_with(stored.code_verifier, '' || $1::text)
           THEN stored.code_verifier END AS first_text, NULL AS second_text FROM "link_attempts" AS stored WHERE stored.state_hash >= $2::text AND stored.expires_at > now()
         ORDER BY stored.state_hash LIMIT $3;

-- link_attempts.look: read the sealed texts of link_attempts
-- idp_tokens_look_texts_link_attempts_93dd83665fa3, repeated when its connection breaks
--   $1 sealedPrefix: text
--   $2 ids: text[]
SELECT stored.state_hash::text AS row_id, stored.keycloak_user_id AS keycloak_user_id,
         stored.identity_provider AS identity_provider, stored.account AS account, CASE WHEN stored.code_verifier <> '' AND NOT starts_with(stored.code_verifier, '' || $1::text)
           THEN stored.code_verifier END AS first_text, NULL AS second_text FROM "link_attempts" AS stored WHERE stored.state_hash = ANY ($2::text[]) AND stored.expires_at > now();

-- link_attempts.sample: read a sample of the sealed texts of link_attempts
-- idp_tokens_sample_texts_link_attempts_b9cadba421ac, repeated when its connection breaks
--   $1 rows: bigint
--   $2 percent: real
(SELECT stored.state_hash::text AS row_id, stored.keycloak_user_id AS keycloak_user_id,
         stored.identity_provider AS identity_provider, stored.account AS account, nullif(stored.code_verifier, '') AS first_text, NULL AS second_text FROM "link_attempts" AS stored WHERE stored.expires_at > now()
         ORDER BY stored.created_at DESC LIMIT $1)
       UNION ALL
       (SELECT stored.state_hash::text AS row_id, stored.keycloak_user_id AS keycloak_user_id,
         stored.identity_provider AS identity_provider, stored.account AS account, nullif(stored.code_verifier, '') AS first_text, NULL AS second_text FROM "link_attempts" AS stored TABLESAMPLE SYSTEM ($2) WHERE stored.expires_at > now()
         ORDER BY random() LIMIT $1);

-- link_attempts.replace: seal the texts of link_attempts anew
-- idp_tokens_replace_texts_link_attempts_6f2c7da795c4, repeated when its connection breaks
--   $1 id: text[]
--   $2 oldFirst: text[]
--   $3 newFirst: text[]
--   $4 oldSecond: text[]
--   $5 newSecond: text[]
WITH unlocked AS MATERIALIZED (
         SELECT stored.state_hash AS row_id, asked.* FROM unnest((SELECT $1::text[]), (SELECT $2::text[]),
             (SELECT $3::text[]), (SELECT $4::text[]), (SELECT $5::text[]))
             AS asked (asked_id, old_first, new_first, old_second, new_second)
           JOIN "link_attempts" AS stored ON stored.state_hash = asked.asked_id FOR NO KEY UPDATE OF stored SKIP LOCKED)
       UPDATE "link_attempts" AS stored SET code_verifier = CASE WHEN stored.code_verifier = unlocked.old_first THEN unlocked.new_first ELSE stored.code_verifier END
         FROM unlocked WHERE stored.state_hash = unlocked.row_id
           AND (stored.code_verifier = unlocked.old_first)
         RETURNING CASE WHEN stored.code_verifier = coalesce(unlocked.new_first, stored.code_verifier) THEN stored.state_hash::text END AS row_id;
