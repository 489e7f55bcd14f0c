-- What waits, in the order of acceptance over all documents: the queue looks for the first of each document from its head.
create index ingestion_order on ingestion (id) where status is null;

-- The document that this one has replaced: its history is obscured and shown with it.
alter table document add column replaces bigint;
