-- The repository: one row per resource, one inverted index of hashed terms, history, change rows, the feed's runs.
-- Why it looks like this: docs/adr/0001-storage.md and docs/adr/0002-feed.md.

-- Ids of rows are handed out in blocks, so that a batch knows them before it is written. One value is a block of 1,024 ids.
create sequence rid_block;

-- Trained zstd dictionaries. 0 stands for none. Rows are never changed: bodies refer to them.
create table dictionary (
    id smallint primary key,
    type smallint not null,
    created timestamptz not null default now(),
    content bytea not null
);

-- The current version of every resource. Fixed-width columns first: no padding.
create table resource (
    rid bigint not null,
    -- xxh3-64 of 'Type/id': what references are XORed from. The row's id and type are compared where a collision would matter.
    self_hash bigint not null,
    updated timestamptz not null,
    -- A bit for each search parameter that has a value (':missing').
    present bigint not null,
    -- The type's primary date as half-open range, microseconds since 1970.
    date_low bigint,
    date_high bigint,
    version int not null,
    type smallint not null,
    -- 0 live, 1 deleted, 2 withdrawn (policy::State).
    state smallint not null,
    dictionary smallint not null,
    -- How many of the terms, from the first, are references.
    reference_terms smallint not null,
    id text not null,
    terms bigint[] not null,
    -- zstd of the kept text (fhir::resource).
    body bytea not null,
    primary key (rid)
);
-- Already compressed: Postgres must not try again.
alter table resource alter column body set storage external;
-- Element statistics tell the planner which terms are dense, and so when to walk the date index instead.
alter table resource alter column terms set statistics 1000;
alter table resource set (autovacuum_vacuum_insert_scale_factor = 0.1, autovacuum_analyze_scale_factor = 0.05, autovacuum_vacuum_scale_factor = 0.05);
-- One resource per id.
create unique index resource_self on resource (self_hash);
-- Every token, reference, uri, exact string.
-- New rows wait in its pending list; the server merges them in the background, so that no writer has to (commands::serve).
create index resource_terms on resource using gin (terms) with (gin_pending_list_limit = 32768);
-- Date ranges and date order; 'wide' rows (open periods) apart, so that a range on the beginning of all others is exact.
create index resource_date on resource (type, date_low) where date_low is not null;
create index resource_date_wide on resource (type, date_high) where date_high - date_low > 31622400000000;
-- Wide rows are few: without this the planner takes a third of all rows for wide.
create statistics resource_width on (date_high - date_low) from resource;
-- _lastUpdated, and the history of a type.
create index resource_updated on resource (type, updated);

-- Normalised strings, for prefix and part.
create table string_index (
    rid bigint not null,
    key int not null,
    value text collate "C" not null
);
create index string_index_value on string_index (key, value, rid);
create index string_index_rid on string_index (rid);
-- Each normalised string once, for search by part: names and cities repeat, and trigrams are dear to keep.
create table string_value (
    value text collate "C" primary key
);
create extension if not exists pg_trgm;
create index string_value_part on string_value using gin (value gin_trgm_ops);

-- Dates other than the primary one.
create table date_index (
    rid bigint not null,
    low bigint not null,
    high bigint not null,
    key int not null
);
create index date_index_low on date_index (key, low);
create index date_index_rid on date_index (rid);

-- Numbers and quantities.
create table quantity_index (
    rid bigint not null,
    -- Hash of system and code, and of the code alone; 0 if there is none.
    unit bigint not null,
    code bigint not null,
    low double precision not null,
    high double precision not null,
    key int not null
);
create index quantity_index_low on quantity_index (key, low);
create index quantity_index_rid on quantity_index (rid);

-- Superseded versions.
create table history (
    rid bigint not null,
    updated timestamptz not null,
    version int not null,
    type smallint not null,
    state smallint not null,
    dictionary smallint not null,
    body bytea not null,
    primary key (rid, version)
);
alter table history alter column body set storage external;

-- One row for each version and each withdrawal or restoration: the log that system history, feed and delivery read.
-- seq follows the order of versions of one resource, because a writer takes it while it holds the resource's lock.
create table change (
    seq bigint generated always as identity primary key,
    rid bigint not null,
    updated timestamptz not null,
    version int not null,
    type smallint not null,
    -- 0 create, 1 update, 2 delete, 3 withdraw, 4 restore (store::write::Change).
    operation smallint not null
);
-- An append-only table whose readers ask for new rows: vacuum has nothing to do but freeze.
alter table change set (autovacuum_vacuum_insert_scale_factor = 0.5);

-- This repository, and how often its feed was begun anew (a restore begins it anew).
create table repository (
    only_row boolean primary key default true check (only_row),
    id uuid not null default gen_random_uuid(),
    feed_epoch int not null default 1,
    -- Encrypts and authenticates search cursors.
    cursor_key bytea not null,
    created timestamptz not null default now()
);
