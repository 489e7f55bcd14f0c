-- The newest (or oldest) of a code: the first code of a resource stands first among its tokens (search::index), so that an index can have it beside
-- the primary date without a column more. The row id makes the order whole, and the end of the date is compared inside the index. Only types that have codes and a primary date; their numbers are those of the registry, which a test
-- compares.
create index resource_code on resource ((terms[reference_terms + 1]), date_low, rid, date_high) where date_low is not null and type in (8, 28, 38, 40, 54, 70, 75, 76, 77, 79, 80, 96, 110, 112, 115, 124, 140);

-- Prefixes are told dense or rare by these (search::density).
alter table string_index alter column value set statistics 1000;
