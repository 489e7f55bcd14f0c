-- What has no primary date, of the types that have one: the last rows of an order by that date. Few, as a rule: without this they are looked for among all.
-- The numbers are those of the registry, which a test compares.
create index resource_undated on resource (type, rid) where date_low is null and state = 0 and type in (1, 2, 3, 4, 5, 7, 8, 13, 14, 15, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 32, 33, 38, 40, 41, 42, 43, 44, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 61, 62, 63, 64, 65, 67, 68, 70, 72, 73, 74, 75, 76, 77, 79, 80, 91, 94, 96, 98, 101, 103, 104, 105, 106, 107, 109, 110, 111, 112, 113, 114, 115, 116, 117, 118, 119, 120, 121, 122, 123, 124, 126, 128, 129, 139, 140, 141, 142, 143, 144);

-- The order of `_sort=_id`. Eight characters tell nearly all ids apart, and are half as much to keep as an id is.
create index resource_id on resource (type, (left(id, 8)) collate "C") where state = 0;
