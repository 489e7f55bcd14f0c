-- The vocabulary: each distinct coding of a path once, and each distinct text of a coding with it. A resource has the hashed term alone
-- (resource.terms); here stands what the term means, so that texts are found by their beginning (':text', '_profile:below') and a value set of
-- thousands of codes is asked of the few that are in use. Rows are only added: a term that nothing uses any more finds nothing.
create table vocabulary (
    term bigint primary key,
    -- The path, as in string_index.
    key int not null,
    -- The normalised text, or the URI; null for a coding.
    value text collate "C"
);
create index vocabulary_value on vocabulary (key, value) include (term) where value is not null;
