//! Which datatypes give values to which type of parameter. Source: <https://hl7.org/fhir/R4/search.html#table>.

use crate::fhir::definitions::model::SearchParameterKind;

/// How a value of this datatype is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Datatype {
    Code,
    /// A string that is searched as a token: without case.
    CodeWithoutCase,
    Boolean,
    Text,
    Uri,
    Coding,
    CodeableConcept,
    Identifier,
    ContactPoint,
    Reference,
    Date,
    /// A point in time, whatever its precision.
    Instant,
    Period,
    Timing,
    Number,
    Quantity,
    Money,
    Range,
    SampledData,
    /// Longitude and latitude of a Location.
    Position,
    /// A whole resource inside another (`Bundle.entry[0].resource`): stands for a reference to it.
    Resource,
    /// Present and not `false`: a boolean token.
    PresentAndNotFalse,
}

/// How a parameter of this kind reads this datatype; `None` if it gives nothing (an unqualified choice also names datatypes that do not fit).
pub fn datatype(kind: SearchParameterKind, code: &str) -> Option<Datatype> {
    use SearchParameterKind as K;
    match (kind, code) {
        (K::Token, "Coding") => Some(Datatype::Coding),
        (K::Token, "CodeableConcept") => Some(Datatype::CodeableConcept),
        (K::Token, "Identifier") => Some(Datatype::Identifier),
        (K::Token, "ContactPoint") => Some(Datatype::ContactPoint),
        (K::Token, "boolean") => Some(Datatype::Boolean),
        (K::Token, "code" | "id" | "uri" | "canonical" | "oid" | "uuid" | "url") => Some(Datatype::Code),
        (K::Token, "string") => Some(Datatype::CodeWithoutCase),
        (K::Token, "date" | "dateTime" | "instant" | "integer" | "positiveInt") => Some(Datatype::Code),
        (K::String, "string" | "markdown" | "code" | "id") => Some(Datatype::Text),
        (K::Reference, "Reference") => Some(Datatype::Reference),
        (K::Reference | K::Uri, "canonical" | "uri" | "url" | "oid" | "uuid") => Some(Datatype::Uri),
        (K::Reference, "Resource") => Some(Datatype::Resource),
        (K::Date, "date" | "dateTime") => Some(Datatype::Date),
        (K::Date, "instant") => Some(Datatype::Instant),
        (K::Date, "Period") => Some(Datatype::Period),
        (K::Date, "Timing") => Some(Datatype::Timing),
        (K::Number, "decimal" | "integer" | "positiveInt" | "unsignedInt") => Some(Datatype::Number),
        (K::Number | K::Quantity, "Range") => Some(Datatype::Range),
        (K::Quantity, "Quantity" | "Age" | "Duration" | "Distance" | "Count" | "SimpleQuantity" | "MoneyQuantity") => {
            Some(Datatype::Quantity)
        }
        (K::Quantity, "Money") => Some(Datatype::Money),
        (K::Quantity, "SampledData") => Some(Datatype::SampledData),
        (K::Special, "BackboneElement") => Some(Datatype::Position),
        (K::Quantity, "decimal" | "integer") => Some(Datatype::Number),
        _ => None,
    }
}
