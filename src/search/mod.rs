//! Search: what a query means, how resources are indexed for it, and the SQL that answers it. Pure: no I/O.
//! Spec: <https://hl7.org/fhir/R4/search.html>.

pub mod compile;
pub mod condition;
pub mod contained;
pub mod cursor;
pub mod custom;
pub mod datatype;
pub mod density;
pub mod expression;
pub mod full_text;
pub mod holders;
pub mod index;
pub mod lastn;
pub mod led;
pub mod named;
pub mod page;
pub mod parameters;
pub mod parse;
pub mod sql;
pub mod term;
pub mod types;
pub mod units;
pub mod value;
