-- The codings that a path has (`$meta` of a type asks for its tags and security labels): the vocabulary has them by their terms alone.
create index vocabulary_coding on vocabulary (key) include (term) where value is null;
