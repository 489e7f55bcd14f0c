-- Full text (_text, _content): the words of narratives, and of everything, as search.full_text says. A resource without such text has no row.
create table text_index (
    rid bigint not null,
    -- Of text.div, and of every string of the resource; null where that is not indexed.
    narrative tsvector,
    content tsvector
);
create index text_index_rid on text_index (rid);
create index text_index_narrative on text_index using gin (narrative) where narrative is not null;
create index text_index_content on text_index using gin (content) where content is not null;
