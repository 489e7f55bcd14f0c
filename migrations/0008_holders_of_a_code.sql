-- Who has a code (`_has`): the reference to the patient stands first among the references of a resource whose type has a leading parameter
-- (search::index), so that an index can have it beside the first code. Paid for by the row ids that 0007 had in its index: what has one code at one
-- instant is sorted in a moment.
create index resource_code_patient on resource ((terms[reference_terms + 1]), (terms[1])) where reference_terms > 0 and type in (8, 28, 38, 40, 54, 70, 75, 76, 77, 79, 80, 96, 110, 112, 115, 124, 140);
create index resource_code_date on resource ((terms[reference_terms + 1]), date_low, date_high) where date_low is not null and type in (8, 28, 38, 40, 54, 70, 75, 76, 77, 79, 80, 96, 110, 112, 115, 124, 140);
drop index resource_code;
