-- Contained resources: rows of their own for `_contained` and for chains that go through `#id`. Why it looks like this: docs/adr/0016-contained.md.
-- They are written, replaced and deleted with the resource that contains them. Whether they may be seen is asked of that one's row.

create table contained (
    -- container * 1024 + place in `contained` - 2^62: below zero, so that none is that of a resource, and the same after an update.
    rid bigint primary key,
    -- Row id of the resource that contains it.
    container bigint not null,
    -- Of that one's hash and the id: what references '#id' are XORed from.
    self_hash bigint not null,
    -- Of 'Type/id': for `_id`.
    id_hash bigint not null,
    present bigint not null,
    date_low bigint,
    date_high bigint,
    type smallint not null,
    reference_terms smallint not null,
    -- Without the '#'.
    id text not null,
    terms bigint[] not null,
    -- JSON, as it stands in the container.
    content text not null
);
create index contained_container on contained (container);
create index contained_self on contained (self_hash);
create index contained_id on contained (id_hash);
create index contained_primary_date on contained (type, date_low) where date_low is not null;
-- Few: no list of what waits, which every search would read.
create index contained_terms on contained using gin (terms) with (fastupdate = off);

-- Side rows apart, so that they cost no other search anything; they go with their row.
create table contained_string (
    rid bigint not null references contained on delete cascade,
    key int not null,
    value text collate "C" not null
);
create index contained_string_value on contained_string (key, value, rid);
create index contained_string_rid on contained_string (rid);
create table contained_date (
    rid bigint not null references contained on delete cascade,
    low bigint not null,
    high bigint not null,
    key int not null
);
create index contained_date_low on contained_date (key, low);
create index contained_date_rid on contained_date (rid);
create table contained_quantity (
    rid bigint not null references contained on delete cascade,
    unit bigint not null,
    code bigint not null,
    low double precision not null,
    high double precision not null,
    key int not null,
    system int,
    joint bigint
);
create index contained_quantity_low on contained_quantity (key, low);
create index contained_quantity_rid on contained_quantity (rid);
create table contained_position (
    rid bigint not null references contained on delete cascade,
    at point not null
);
create index contained_position_at on contained_position using gist (at);
create index contained_position_rid on contained_position (rid);
