-- All of a patient, in the order in which it came (Patient/[id]/$everything): in the row of whatever belongs to patients, the reference to the
-- patient stands first among the references (search::index), so that an index can have it beside the row id, and a page costs what it shows.
create index resource_owner on resource ((terms[1]), rid) where reference_terms > 0;
