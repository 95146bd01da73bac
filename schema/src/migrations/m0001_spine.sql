CREATE TABLE operation (
    id BLOB_ID PRIMARY KEY,
    kind text NOT NULL,
    zone text NOT NULL,
    tenant text NOT NULL,
    user_name text,
    name text,
    subject text,
    store text,
    state text NOT NULL CHECK (state IN ('allocated', 'copying', 'ready', 'destroying', 'destroyed', 'failed')),
    end_state text,
    waiting_for text,
    waiting_place text,
    waiting_bytes bigint NOT NULL DEFAULT 0,
    waiting_since bigint,
    params JSON NOT NULL,
    plan JSON NOT NULL,
    output JSON,
    fault JSON,
    priority smallint NOT NULL,
    deadline bigint NOT NULL,
    stop_requested boolean NOT NULL,
    destroy_requested boolean NOT NULL,
    needs_attention boolean NOT NULL,
    holders integer NOT NULL CHECK (holders >= 0),
    version bigint NOT NULL,
    digest BYTES NOT NULL,
    created_at bigint NOT NULL,
    updated_at bigint NOT NULL,
    last_used_at bigint NOT NULL
);
CREATE INDEX operation_deadline ON operation (deadline) WHERE state IN ('allocated', 'copying');
CREATE INDEX operation_live ON operation (id) WHERE state IN ('allocated', 'copying', 'destroying');
CREATE INDEX operation_waiting ON operation (waiting_place, waiting_since) WHERE waiting_place IS NOT NULL;
CREATE INDEX operation_destroy ON operation (id) WHERE state = 'ready' AND destroy_requested;
CREATE INDEX operation_subject ON operation (subject, kind, store, id) WHERE state = 'ready';
CREATE INDEX operation_state ON operation (state, id);
CREATE INDEX operation_kind ON operation (kind, id);
CREATE TABLE step (
    operation_id BLOB_ID NOT NULL,
    seq smallint NOT NULL,
    name text NOT NULL,
    state text NOT NULL,
    way text NOT NULL,
    attempt integer NOT NULL,
    failures integer NOT NULL,
    queue text NOT NULL,
    priority smallint NOT NULL,
    worker text,
    start_before bigint,
    due_at bigint,
    done_bytes bigint NOT NULL,
    total_bytes bigint,
    output JSON,
    fault JSON,
    PRIMARY KEY (operation_id, seq)
);
CREATE INDEX step_due ON step (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX step_unsent ON step (queue, priority DESC, operation_id) WHERE state = 'sent' AND start_before IS NULL;
CREATE TABLE history (
    operation_id BLOB_ID NOT NULL,
    seq bigint NOT NULL,
    at bigint NOT NULL,
    event text NOT NULL,
    from_state text,
    to_state text NOT NULL,
    actor text NOT NULL,
    detail text,
    digest BYTES NOT NULL,
    PRIMARY KEY (operation_id, seq)
);
CREATE INDEX history_at ON history (at);
CREATE TABLE place (
    id SERIAL PRIMARY KEY,
    role text NOT NULL,
    name text NOT NULL UNIQUE,
    zone text,
    region text,
    url text NOT NULL,
    definition JSON NOT NULL,
    total bigint NOT NULL,
    physical_used bigint NOT NULL DEFAULT 0,
    promised bigint NOT NULL DEFAULT 0 CHECK (promised >= 0),
    reserved bigint NOT NULL DEFAULT 0 CHECK (reserved >= 0),
    used bigint NOT NULL DEFAULT 0 CHECK (used >= 0),
    overcommit double precision NOT NULL,
    threshold double precision NOT NULL,
    extent_size integer NOT NULL DEFAULT 0,
    incarnation BLOB_ID,
    version bigint NOT NULL DEFAULT 0,
    measured_at bigint
);
CREATE TABLE reservation (
    operation_id BLOB_ID NOT NULL,
    place_id integer NOT NULL,
    bytes_reserved bigint NOT NULL CHECK (bytes_reserved >= 0),
    bytes_used bigint NOT NULL CHECK (bytes_used >= 0),
    physical bigint NOT NULL,
    state text NOT NULL,
    PRIMARY KEY (operation_id, place_id)
);
CREATE INDEX reservation_place ON reservation (place_id);
CREATE TABLE claim (
    resource text PRIMARY KEY,
    operation_id BLOB_ID NOT NULL
);
CREATE INDEX claim_operation ON claim (operation_id);
CREATE TABLE hold (
    object_id BLOB_ID NOT NULL,
    holder_id BLOB_ID NOT NULL,
    kind text NOT NULL,
    PRIMARY KEY (object_id, holder_id)
);
CREATE INDEX hold_holder ON hold (holder_id);
CREATE TABLE anchor (
    tag text PRIMARY KEY,
    volume text NOT NULL,
    operation_id BLOB_ID NOT NULL,
    state text NOT NULL
);
CREATE TABLE pack (
    id text PRIMARY KEY,
    place_id integer NOT NULL,
    operation_id BLOB_ID NOT NULL,
    bytes bigint NOT NULL,
    live_bytes bigint NOT NULL,
    uses integer NOT NULL CHECK (uses >= 0),
    state text NOT NULL CHECK (state IN ('live', 'condemned', 'deleting')),
    not_before bigint,
    version bigint NOT NULL
);
CREATE INDEX pack_operation ON pack (operation_id);
CREATE INDEX pack_dying ON pack (place_id, not_before) WHERE state <> 'live';
CREATE TABLE pack_use (
    object_id BLOB_ID NOT NULL,
    pack_id text NOT NULL,
    PRIMARY KEY (object_id, pack_id)
);
CREATE INDEX pack_use_pack ON pack_use (pack_id);
CREATE TABLE message_seen (
    tenant text NOT NULL,
    user_name text NOT NULL,
    message_id text NOT NULL,
    digest BYTES NOT NULL,
    reply JSON NOT NULL,
    at bigint NOT NULL,
    PRIMARY KEY (tenant, user_name, message_id)
);
CREATE TABLE outbox (
    id BLOB_ID PRIMARY KEY,
    exchange text NOT NULL,
    routing_key text NOT NULL,
    mandatory boolean NOT NULL,
    properties JSON NOT NULL,
    body text NOT NULL,
    expires_at bigint,
    claimed_until bigint NOT NULL
);
CREATE INDEX outbox_claim ON outbox (claimed_until);
CREATE TABLE queue (
    name text PRIMARY KEY,
    unstarted integer NOT NULL CHECK (unstarted >= 0)
);
CREATE TABLE worker (
    id text PRIMARY KEY,
    incarnation BLOB_ID NOT NULL,
    kind text NOT NULL,
    host text NOT NULL,
    zone text NOT NULL,
    announced JSON NOT NULL,
    leaving boolean NOT NULL,
    seen_at bigint NOT NULL
);
CREATE INDEX worker_zone ON worker (zone, kind);
CREATE TABLE remains (
    id BLOB_ID PRIMARY KEY,
    operation_id BLOB_ID NOT NULL,
    place_id integer NOT NULL,
    bytes bigint NOT NULL,
    what JSON NOT NULL,
    at bigint NOT NULL
);
CREATE TABLE zone (
    name text PRIMARY KEY,
    region text NOT NULL,
    path text NOT NULL
);
CREATE TABLE tenant_user (
    user_name text NOT NULL,
    tenant text NOT NULL,
    is_default boolean NOT NULL,
    PRIMARY KEY (user_name, tenant)
);
CREATE TABLE site (
    id integer PRIMARY KEY CHECK (id = 1),
    incarnation BLOB_ID NOT NULL,
    version bigint NOT NULL
);
