-- A change of the registry of assistance names the patient by the registry's key, which is also a term of the patient's row: so a patient
-- is found however the codice fiscale was written, and the router reads no bodies.
alter table rda_change rename column term to identifier_hash;

-- Which making of terms the index has: an older one than the server's is told at start, and mended by `eds reindex`.
alter table repository add column index_version int not null default 1;
