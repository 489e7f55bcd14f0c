-- Searches as of an instant: superseded versions get what `resource` has for search. docs/adr/0010-time-travel.md.
-- Nothing here is written for a resource that never changes.

-- When the next version came. What is here already, and what the version before this one writes, gets an upper bound: `eds reindex` makes it exact.
alter table history add column superseded timestamptz not null default now();
alter table history add column self_hash bigint;
alter table history add column present bigint;
alter table history add column date_low bigint;
alter table history add column date_high bigint;
alter table history add column reference_terms smallint;
alter table history add column id text;
-- Null: not indexed yet.
alter table history add column terms bigint[];

-- As those of `resource`, for the same statements.
create index history_terms on history using gin (terms) with (gin_pending_list_limit = 32768);
create index history_date on history (type, date_low) where date_low is not null;
create index history_date_wide on history (type, date_high) where date_high - date_low > 31622400000000;
create index history_updated on history (type, updated);
create index history_code_patient on history ((terms[reference_terms + 1]), (terms[1])) where reference_terms > 0 and type in (8, 28, 38, 40, 54, 70, 75, 76, 77, 79, 80, 96, 110, 112, 115, 124, 140);
create index history_code_date on history ((terms[reference_terms + 1]), date_low, date_high) where date_low is not null and type in (8, 28, 38, 40, 54, 70, 75, 76, 77, 79, 80, 96, 110, 112, 115, 124, 140);
-- Whether an instant lies in a time that is not indexed.
create index history_unindexed on history (superseded) where terms is null;

-- The side tables apart: what is superseded costs the searches of now nothing.
create table string_history (
    rid bigint not null,
    version int not null,
    key int not null,
    value text collate "C" not null
);
create index string_history_value on string_history (key, value, rid, version);
create index string_history_rid on string_history (rid, version);
create table date_history (
    rid bigint not null,
    low bigint not null,
    high bigint not null,
    version int not null,
    key int not null
);
create index date_history_low on date_history (key, low);
create index date_history_rid on date_history (rid, version);
create table position_history (
    rid bigint not null,
    at point not null,
    version int not null
);
create index position_history_at on position_history using gist (at);
create index position_history_rid on position_history (rid, version);
create table quantity_history (
    rid bigint not null,
    unit bigint not null,
    code bigint not null,
    low double precision not null,
    high double precision not null,
    version int not null,
    key int not null,
    joint bigint,
    system int
);
create index quantity_history_low on quantity_history (key, low);
create index quantity_history_joint on quantity_history (joint, low) where joint is not null;
create index quantity_history_wide on quantity_history (key, high) where low <> high;
create index quantity_history_rid on quantity_history (rid, version);
