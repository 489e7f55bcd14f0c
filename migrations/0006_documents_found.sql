-- Members that were here before any document brought them, and belong to no patient (a Medication of the register): a document that only
-- found them neither hides nor deletes them.
alter table document add column found bigint[] not null default '{}';
