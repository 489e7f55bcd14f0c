-- The live resources of a type, newest first: the order of a search that asks for none. Row ids alone are the order of all types together, in which those of
-- a small type may lie far apart or far back. Also answers how many a type has, from the index alone.
create index resource_type on resource (type, rid) where state = 0;

-- A range of values in one unit passes over the same numbers in other units: they are left out inside the index.
create index quantity_index_value on quantity_index (key, low, unit);
drop index quantity_index_low;
