//! FHIR as data: JSON and XML text, definitions, dates, references, identifiers. No I/O.
//! Spec: <https://hl7.org/fhir/R4/>.

pub mod codice_fiscale;
pub mod datetime;
pub mod definitions;
pub mod difference;
pub mod identity;
pub mod json;
pub mod links;
pub mod meta;
pub mod patch;
pub mod regions;
pub mod resource;
pub mod splice;
pub mod strings;
pub mod systems;
pub mod terminology;
pub mod xml;
