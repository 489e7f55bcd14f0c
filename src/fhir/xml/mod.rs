//! FHIR XML, to and from FHIR JSON: two forms of the same resource, driven by the definitions.
//!
//! [`to_json`] reads a body before an interaction sees it, [`to_xml`] writes an answer after it. What JSON says comes back from XML as it was but
//! for the order of members, and the other way round; decimals keep their text. Element order, what repeats, and what is an attribute (`value`,
//! `Extension.url`, the `id` of what is no resource) come from the definitions.
//!
//! Not kept, because FHIR's other form has no place for it: comments and processing instructions outside the narrative; processing instructions, and
//! carriage returns between attributes and in comments, inside it; in JSON, `_id` of what is no resource, `_url` of an extension, and `_div`.
//! An array of values that are all `null` is there whenever its twin is: XML cannot tell it from none.
//! Written otherwise, because XML cannot hold it: U+FFFE and U+FFFF and control characters become U+FFFD; a narrative that is no
//! well-formed XHTML becomes its own text in a `div`.
//! Refused: DOCTYPE, entities other than XML's five, namespaces other than FHIR's and XHTML's, other encodings than UTF-8. So nothing is ever
//! expanded or fetched.
//! Spec: <https://hl7.org/fhir/R4/xml.html>, <https://hl7.org/fhir/R4/json.html>, <https://hl7.org/fhir/R4/narrative.html>.

mod issues;
mod markup;
mod narrative;
mod read;
mod write;

#[cfg(test)]
mod corpus;
#[cfg(test)]
mod tests;

use crate::fhir::definitions::Definitions;
use crate::fhir::definitions::definitions;
use crate::fhir::definitions::model::Element;
use crate::fhir::definitions::model::ShapeId;
use crate::fhir::json::Value;
use crate::fhir::xml::read::Reader;
use crate::fhir::xml::write::Writer;
use crate::outcome::Outcome;

/// Deepest nesting of elements: what libxml2 reads, so that others can read what we write. Resources end before it (`json::DEPTH_MAX`).
pub const DEPTH_MAX: usize = 256;
/// Most attributes of one element: FHIR has three, XHTML a dozen.
pub const ATTRIBUTES_MAX: usize = 64;
/// Most namespaces declared around one element: bounds the search for a prefix.
pub const NAMESPACES_MAX: usize = 32;

const FHIR: &str = "http://hl7.org/fhir";
const XHTML: &str = "http://www.w3.org/1999/xhtml";

/// The JSON text of a resource in XML.
/// Errors: 400 for what is no XML as FHIR wants it, with line and column; 422 for elements, attributes and values that R4 does not have, with all of them.
pub fn to_json(xml: &[u8]) -> Result<String, Outcome> {
    Reader::read(definitions(), xml)
}

/// The XML text of a resource in JSON, on one line or indented.
/// Errors: 500 for an object that R4 does not know: what was validated, and what the server writes, has none.
pub fn to_xml(resource: Value<'_>, is_pretty: bool) -> Result<String, Outcome> {
    Writer::write(definitions(), resource, is_pretty)
}

/// Where an object stands decides what of it is an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Resource,
    Element,
    Extension,
}

impl Role {
    fn of(definitions: &Definitions, shape: ShapeId) -> Role {
        match definitions.shape_of("Extension") == Some(shape) {
            true => Role::Extension,
            false => Role::Element,
        }
    }

    /// The member is an attribute of the object's element.
    fn is_attribute(self, member: &str) -> bool {
        match self {
            Role::Resource => false,
            Role::Element => member == "id",
            Role::Extension => member == "id" || member == "url",
        }
    }
}

/// The element is a JSON array, however often it is there.
fn is_list(element: &Element) -> bool {
    element.max.is_none_or(|max| max > 1)
}
