-- Search parameters of one's own: SearchParameter resources that are in use. Why it looks like this: docs/adr/0011-custom-search-parameters.md.

-- Raised by each change of the parameters. A batch of writes compares it in the statement that writes, and so holds a lock on this table from before
-- it read it until its commit; whoever changes the parameters locks the table against all of these first. So what is written is indexed by the
-- parameters that hold at its commit.
create table search_generation (
    only_row boolean primary key default true check (only_row),
    generation bigint not null
);
insert into search_generation (generation) values (0);

create table search_parameter (
    -- Of the SearchParameter resource.
    id text primary key,
    -- search::custom::definition::Definition.
    definition jsonb not null,
    -- 0 being indexed, 1 complete, 2 leaving (its values are taken out of the index), 3 unusable (store::search_parameter::State).
    state smallint not null,
    is_paused boolean not null default false,
    -- Resource types whose rows are walked.
    types smallint[] not null,
    -- Rows up to this one are done. What came after the last was written with the parameter, or without the one that leaves.
    after_rid bigint not null,
    last_rid bigint not null,
    started timestamptz not null,
    updated timestamptz not null
);
