//! Terms: what is discrete in a resource, as 64-bit hashes under the salt of a parameter's path.
//! Why: `docs/adr/0001-storage.md`.

use crate::fhir::systems;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The term that every resource of a type has.
pub fn type_term(number: i16) -> i64 {
    xxh3_64_with_seed(b"type", number as u64) as i64
}

/// The forms of a token, as its terms: `system|code`, `code`, `system|`, `|code`, a normalised text that goes with it, an identifier by its type, an
/// exact string, a URI, a URI that begins with this.
#[derive(Debug, Clone, Copy)]
pub enum Token<'a> {
    SystemAndCode(&'a str, &'a str),
    Code(&'a str),
    /// A code or boolean whose system, if any, the definition implies.
    Plain(&'a str),
    /// A string, in lower case.
    WithoutCase(&'a str),
    System(&'a str),
    CodeWithoutSystem(&'a str),
    Text(&'a str),
    /// System and code of the identifier's type, and its value.
    OfType(&'a str, &'a str, &'a str),
    Exact(&'a str),
    Uri(&'a str),
    UriBelow(&'a str),
    /// Is there, and has no code: it is sorted as if it were not there.
    WithoutPlace,
    /// The same forms for the identifier inside a Reference.
    IdentifierSystemAndValue(&'a str, &'a str),
    IdentifierValue(&'a str),
    IdentifierSystem(&'a str),
    IdentifierWithoutSystem(&'a str),
}

/// The term of a value under a parameter's salt.
pub fn term(salt: i64, token: Token<'_>) -> i64 {
    let (tag, system, value) = match token {
        Token::SystemAndCode(system, code) => (b's', systems::canonical(system), code),
        Token::Code(code) => (b'c', "", code),
        Token::Plain(code) => (b'p', "", code),
        Token::WithoutCase(text) => (b'i', "", text),
        Token::System(system) => (b'y', systems::canonical(system), ""),
        Token::CodeWithoutSystem(code) => (b'n', "", code),
        Token::Text(text) => (b't', "", text),
        Token::OfType(system, code, _) => (b'o', systems::canonical(system), code),
        Token::Exact(text) => (b'e', "", text),
        Token::Uri(uri) => (b'u', "", uri),
        Token::UriBelow(uri) => (b'b', "", uri),
        Token::WithoutPlace => (b'w', "", ""),
        Token::IdentifierSystemAndValue(system, value) => (b'S', systems::canonical(system), value),
        Token::IdentifierValue(value) => (b'C', "", value),
        Token::IdentifierSystem(system) => (b'Y', systems::canonical(system), ""),
        Token::IdentifierWithoutSystem(value) => (b'N', "", value),
    };
    let mut bytes = Vec::with_capacity(system.len() + value.len() + 2);
    bytes.push(tag);
    bytes.extend_from_slice(system.as_bytes());
    bytes.push(0);
    bytes.extend_from_slice(value.as_bytes());
    if let Token::OfType(.., value) = token {
        bytes.push(0);
        bytes.extend_from_slice(value.as_bytes());
    }
    xxh3_64_with_seed(&bytes, salt as u64) as i64
}

/// The salt of identifiers inside references. Those that are filtered by a type are others than those of the path without the filter, which
/// share its salt otherwise: a reference tells its type, an identifier does not.
pub fn identifier_salt(salt: i64, target: Option<&str>) -> i64 {
    target.map_or(salt, |target| xxh3_64_with_seed(target.as_bytes(), salt as u64) as i64)
}

/// The term of a code that is not the resource's first.
pub fn further_code(code: i64) -> i64 {
    xxh3_64_with_seed(b"further", code as u64) as i64
}

/// The term of a reference to the resource with this hash.
pub fn reference_term(salt: i64, target: i64) -> i64 {
    salt ^ target
}

/// The terms of references, under any of these salts, to the resources with these hashes.
pub fn reference_terms(salts: &[i64], targets: &[i64]) -> Vec<i64> {
    let of = |target: &i64| salts.iter().map(|salt| reference_term(*salt, *target)).collect::<Vec<_>>();
    targets.iter().flat_map(of).collect()
}

/// The term of what refers, under this salt, to a resource that it contains.
pub fn link_term(salt: i64) -> i64 {
    xxh3_64_with_seed(b"contained", salt as u64) as i64
}

/// A value joined with another of the same element.
pub fn joint_term(first: i64, second: i64) -> i64 {
    xxh3_64_with_seed(&first.to_le_bytes(), second as u64) as i64
}

/// A code's system, beside the code's own hash; 0 if it has none.
pub fn system_hash(system: Option<&str>) -> i32 {
    system.map_or(0, |system| term(0, Token::System(system)) as i32)
}

pub fn unit_hash(system: &str, code: &str) -> i64 {
    term(0, Token::SystemAndCode(system, code))
}

pub fn unit_code_hash(code: &str) -> i64 {
    term(0, Token::Code(code))
}

/// Beginnings of a URI that are kept: further ones would cost a resource more terms than a URI of so many segments is worth.
pub const URI_SEGMENTS_MAX: usize = 16;

/// The URI itself and each of its beginnings that ends before a `/`, at most [`URI_SEGMENTS_MAX`] of these.
pub fn uri_ancestors(uri: &str) -> impl Iterator<Item = &str> {
    let authority = uri.find("://").map_or(0, |i| i + 3);
    let slashes = uri[authority..].match_indices('/').map(move |(i, _)| &uri[..authority + i]);
    slashes.take(URI_SEGMENTS_MAX).chain(std::iter::once(uri))
}
