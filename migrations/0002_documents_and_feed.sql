-- Documents of the ingestion API, the feed's positions, and what is delivered to the regions.

create table document (
    id bigint generated always as identity primary key,
    -- SHA-256 over the entries with ids and links normalised: the same document again, or another under its identifier.
    fingerprint bytea not null,
    -- As resource.state: 0 live, 1 deleted or replaced, 2 withdrawn.
    state smallint not null,
    updated timestamptz not null,
    -- The region that it came from, by its identifier's OID; null if that names none.
    origin text,
    -- Row ids, in the order of the Bundle's entries.
    members bigint[] not null
);
-- Which documents brought a patient.
create index document_members on document using gin (members);
create table document_identifier (
    -- 'oid^extension'
    identifier text primary key,
    document bigint not null references document (id)
);
create index document_identifier_document on document_identifier (document);

-- Operations of the ingestion API: accepted when they stand here, carried out in order per document.
create table ingestion (
    id bigint generated always as identity primary key,
    workflow_instance_id text not null,
    -- CREATE, REPLACE, UPDATE, DELETE
    operation text not null,
    identifier text not null,
    -- zstd of the transaction Bundle's text; emptied when the operation has ended.
    body bytea,
    accepted timestamptz not null,
    -- Null while it waits; then SUCCESS or BLOCKING_ERROR.
    status text,
    message text,
    finished timestamptz,
    -- Where the final status is pushed to; null when nobody asked.
    callback_url text,
    callback_attempts int not null default 0,
    callback_next timestamptz
);
-- The latest operation of a workflow.
create index ingestion_workflow on ingestion (workflow_instance_id, id);
-- What waits, in order.
create index ingestion_waiting on ingestion (identifier, id) where status is null;
-- Statuses that still have to be pushed.
create index ingestion_callback on ingestion (callback_next) where callback_next is not null;

-- Feed positions: change rows [seq_first, seq_first + count) have the positions [position, position + count). Gapless in position;
-- seq has gaps where a transaction was rolled back, and runs out of order where one committed late.
create table feed_run (
    position bigint primary key,
    seq_first bigint not null,
    count int not null
);
create index feed_run_seq on feed_run (seq_first);
-- The sequencer's state: one row.
create table sequencer (
    only_row boolean primary key default true check (only_row),
    -- Next position to give.
    position bigint not null default 1,
    -- Every change row below has a position or was rolled back.
    low bigint not null default 1,
    -- Raised by each new leader: an old one that wakes up late can no longer write.
    epoch int not null default 0
);
insert into sequencer default values;
-- Registry of assistance: each patient's region, fed from outside. The key is a hash of the codice fiscale (or other identifier): the
-- registry alone names nobody.
create table rda (
    identifier_hash bigint primary key,
    region text not null,
    updated timestamptz not null
);
-- Entries of the registry that changed, until the sequencer has moved the patients they are about.
create table rda_change (
    id bigint generated always as identity primary key,
    -- The index term of the identifier: finds the patients.
    term bigint not null
);

-- Regions that data are delivered to.
create table region (
    code text primary key,
    -- Its bit in masks.
    bit smallint not null unique,
    -- Base URL of its FHIR endpoint; null for a region that only pulls.
    url text,
    -- The last position of its stream that it has acknowledged.
    acknowledged bigint not null default 0,
    -- The next position of its stream to give.
    next_position bigint not null default 1,
    -- Existing resources up to this row id are in its stream; null when all are (a region that is new begins at 0).
    bootstrap_rid bigint default 0,
    attempts int not null default 0,
    next_attempt timestamptz,
    -- What its last refusal was: a status or the kind of failure, never what it answered.
    last_error text
);

-- What the regions hold: bit mask of region.bit, for every resource that any of them holds.
create table pertinence (
    rid bigint primary key,
    mask int not null
);

-- Each region's stream: gapless positions after the filter.
create table region_stream (
    region text not null references region (code),
    position bigint not null,
    rid bigint not null,
    version int not null,
    type smallint not null,
    -- 0 present (send the current version), 1 absent (send a deletion).
    action smallint not null,
    updated timestamptz not null,
    primary key (region, position)
);
-- Items that a region refuses for good: visible, and in nobody's way.
create table region_parked (
    region text not null,
    position bigint not null,
    error text not null,
    parked timestamptz not null,
    primary key (region, position)
);
