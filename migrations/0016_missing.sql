-- What lacks a parameter (`:missing`): the bits of a type's resources make few different masks, so an index on them is small, and those that lack a bit are
-- found by their masks.
create index resource_present on resource (type, present);
-- The masks of a type, live or not, that have none of these bits. The index is entered once for each mask.
create function present_without(of smallint, bits bigint) returns bigint[] language sql stable as $$
    with recursive mask (present) as (
        (select present from resource where type = of order by present limit 1)
        union all
        select (select r.present from resource r where r.type = of and r.present > mask.present order by r.present limit 1)
        from mask
        where mask.present is not null
    )
    select coalesce(array_agg(present), '{}') from mask where present & bits = 0
$$;
