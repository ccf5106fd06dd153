-- list: read the registered encryption keys
-- idp_tokens_list_keys_aa7b194bde92, repeated when its connection breaks
SELECT stored.id, stored.check_text, date_part('epoch', stored.retired_at) AS retired_at
        FROM "token_keys" AS stored ORDER BY stored.created_at, stored.id;

-- register: register an encryption key
-- idp_tokens_register_key_736440438013, repeated when its connection breaks
--   $1 keyId: character varying
--   $2 checkText: character varying
INSERT INTO "token_keys" AS stored (id, check_text) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING;

-- retire: retire an encryption key
-- idp_tokens_retire_key_a97ef574f788, repeated when its connection breaks
--   $1 keyId: character varying
--   $2 checkText: character varying
INSERT INTO "token_keys" AS stored (id, check_text, retired_at) VALUES ($1, $2, now())
        ON CONFLICT (id) DO UPDATE SET retired_at = coalesce(stored.retired_at, now());
