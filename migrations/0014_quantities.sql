-- Quantities: units that measure the same, and the code that stands in the same element. Why: docs/adr/0013-quantities.md.

-- Each unit that was ever written, once, with how it measures by UCUM: a value in it is value * factor + shift of the dimension's canonical unit.
-- Quantities stay as they were written; a search looks into their index once for each unit of the dimension. Rows are never changed nor deleted.
create table unit (
    -- quantity_index.unit
    hash bigint primary key,
    code text collate "C" not null,
    -- Null if UCUM has no such unit.
    dimension text collate "C",
    factor numeric,
    shift numeric
);
create index unit_code on unit (code);
create index unit_dimension on unit (dimension) where dimension is not null;

-- Composites: hash of the code of the element that has the value, and of the system of that code.
alter table quantity_index add column system int, add column joint bigint;
create index quantity_index_joint on quantity_index (joint, low) where joint is not null;
-- Ranges, and values of which only a bound is known: few. All others are found by their lower end.
create index quantity_index_wide on quantity_index (key, high) where low <> high;
