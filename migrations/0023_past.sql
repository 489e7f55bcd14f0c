-- How often what can be seen of the past has changed without a change row: versions were erased, or what was deleted was hidden, or shown, with its document.
-- Who has counted as of an instant counts anew (store::count).
create table past (
    only_row boolean primary key default true check (only_row),
    changes bigint not null default 0
);
insert into past default values;
