-- The order of codes: by what a resource is sorted that has the code of this term (`_sort` by a token over very many, interaction::search::by_value). Null: a
-- word that is no code, or one that an older version wrote; `eds reindex` gives it its place.
alter table vocabulary add column place text collate "C";
create index vocabulary_place on vocabulary (key, place) include (term) where place is not null;
