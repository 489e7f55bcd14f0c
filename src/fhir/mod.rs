//! FHIR as data: JSON text, definitions, dates, references, identifiers. No I/O.
//! Spec: <https://hl7.org/fhir/R4/>.

pub mod codice_fiscale;
pub mod datetime;
pub mod definitions;
pub mod identity;
pub mod json;
pub mod links;
pub mod patch;
pub mod regions;
pub mod resource;
pub mod splice;
pub mod strings;
pub mod systems;
