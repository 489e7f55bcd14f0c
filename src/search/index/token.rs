//! What becomes a term: tokens, strings, URIs, references.

use crate::fhir::definitions::model::SearchParameterKind;
use crate::fhir::identity::local_reference;
use crate::fhir::identity::own_reference;
use crate::fhir::identity::reference_hash;
use crate::fhir::identity::referenced_type;
use crate::fhir::identity::self_hash;
use crate::fhir::identity::without_version;
use crate::fhir::json::Value;
use crate::fhir::strings::normalise;
use crate::search::index::Indexer;
use crate::search::index::Word;
use crate::search::index::order::place;
use crate::search::parameters::Extract;
use crate::search::term::Token;
use crate::search::term::further_code;
use crate::search::term::identifier_salt;
use crate::search::term::reference_term;
use crate::search::term::term;
use crate::search::term::uri_ancestors;

/// Longest URI of the vocabulary: an entry of a B-tree has room for a third of a page.
const WORD_BYTES_MAX: usize = 2_000;

impl Indexer<'_> {
    pub(super) fn put_token(&mut self, extract: &Extract, system: Option<&str>, code: &str) -> Option<()> {
        let salt = extract.salt;
        let exact = match system {
            Some(system) => {
                self.tokens.push(term(salt, Token::System(system)));
                term(salt, Token::SystemAndCode(system, code))
            }
            None => term(salt, Token::CodeWithoutSystem(code)),
        };
        self.tokens.push(exact);
        let code = term(salt, Token::Code(code));
        self.tokens.push(code);
        if extract.bits & self.parameters.lead != 0 && !self.codes.contains(&code) {
            if self.codes.is_empty() {
                self.concept = Some(exact);
            }
            self.codes.push(code);
        }
        Some(())
    }

    /// A concept that is told in words alone is one by its words.
    fn put_words(&mut self, extract: &Extract, concept: Value<'_>) {
        if extract.bits & self.parameters.lead != 0
            && self.codes.is_empty()
            && let Some(text) = concept.get_str("text")
        {
            let words = further_code(term(extract.salt, Token::Exact(&normalise(&text))));
            self.tokens.push(words);
            self.concept = Some(words);
        }
    }

    /// A plain code or boolean: one term says it all.
    pub(super) fn put_plain(&mut self, extract: &Extract, code: &str) -> Option<()> {
        let plain = term(extract.salt, Token::Plain(code));
        self.tokens.push(plain);
        if extract.kind == SearchParameterKind::Token {
            self.put_place(extract.key, plain, place(code, None));
        }
        Some(())
    }

    pub(super) fn put_concept(&mut self, extract: &Extract, value: Value<'_>) -> Option<()> {
        let text = self.put_token_text(extract, value.get_str("text").as_deref());
        let codings = value.get("coding").into_iter().flat_map(|codings| codings.items());
        let put = codings.filter_map(|coding| self.put_coding(extract, coding)).last();
        self.put_words(extract, value);
        put.or(text)
    }

    pub(super) fn put_coding(&mut self, extract: &Extract, value: Value<'_>) -> Option<()> {
        let text = self.put_token_text(extract, value.get_str("display").as_deref());
        match (value.get_str("system"), value.get_str("code")) {
            (Some(system), Some(code)) => {
                let whole = term(extract.salt, Token::SystemAndCode(&system, &code));
                self.put_place(extract.key, whole, place(&code, Some(&system)));
            }
            (None, Some(code)) => self.put_place(extract.key, term(extract.salt, Token::CodeWithoutSystem(&code)), place(&code, None)),
            (_, None) => {}
        }
        self.put_system_and(extract, value, "code").or(text)
    }

    pub(super) fn put_identifier(&mut self, extract: &Extract, value: Value<'_>) -> Option<()> {
        let kind = value.get("type");
        let text = self.put_token_text(extract, kind.and_then(|kind| kind.get_str("text")).as_deref());
        if let Some(text) = value.get_str("value") {
            let codings = kind
                .and_then(|kind| kind.get("coding"))
                .into_iter()
                .flat_map(|codings| codings.items());
            let types = codings.filter_map(|coding| Some((coding.get_str("system")?, coding.get_str("code")?)));
            self.tokens
                .extend(types.map(|(system, code)| term(extract.salt, Token::OfType(&system, &code, &text))));
        }
        self.put_system_and(extract, value, "value").or(text)
    }

    /// The text of a token, which `:text` finds.
    fn put_token_text(&mut self, extract: &Extract, text: Option<&str>) -> Option<()> {
        let text = normalise(text?);
        if text.is_empty() || self.is_joining {
            return None;
        }
        let term = term(extract.salt, Token::Text(&text));
        self.tokens.push(term);
        self.put_word(extract, term, Some(text));
        Some(())
    }

    fn put_word(&mut self, extract: &Extract, term: i64, value: Option<String>) {
        let key = extract.key;
        self.entry.words.push(Word {
            term,
            key,
            value,
            place: None,
        });
    }

    /// A code, with its place among those of its path. What is joined has its codes under their own parameters.
    pub(super) fn put_place(&mut self, key: i32, term: i64, place: Option<String>) {
        if !self.is_joining {
            self.entry.words.push(Word {
                term,
                key,
                value: None,
                place,
            });
        }
    }

    /// A system with or without its code or value: the system alone can be found too.
    pub(super) fn put_system_and(&mut self, extract: &Extract, value: Value<'_>, member: &str) -> Option<()> {
        let system = value.get_str("system");
        match (value.get_str(member), &system) {
            (Some(code), _) => self.put_token(extract, system.as_deref(), &code),
            (None, Some(system)) => {
                self.tokens.push(term(extract.salt, Token::System(system)));
                Some(())
            }
            (None, None) => None,
        }
    }

    pub(super) fn put_string(&mut self, extract: &Extract, text: &str) -> Option<()> {
        self.tokens.push(term(extract.salt, Token::Exact(text)));
        self.entry.strings.push((extract.key, normalise(text)));
        Some(())
    }

    pub(super) fn put_uri(&mut self, extract: &Extract, uri: &str) -> Option<()> {
        let is_reference = extract.kind == SearchParameterKind::Reference;
        if let Some(id) = uri.strip_prefix('#').filter(|_| is_reference) {
            return self.put_link(extract, id);
        }
        if let Some((unversioned, _)) = uri.split_once('|') {
            self.put_one_uri(extract, unversioned, is_reference);
        }
        self.put_one_uri(extract, uri, is_reference);
        Some(())
    }

    pub(super) fn put_one_uri(&mut self, extract: &Extract, uri: &str, is_reference: bool) {
        if is_reference {
            let target = reference_hash(uri);
            self.push_reference(extract.salt, target);
            if uri.contains('|') && uri.len() <= WORD_BYTES_MAX {
                self.put_word(extract, reference_term(extract.salt, target), Some(uri.to_owned()));
            }
            return;
        }
        let whole = term(extract.salt, Token::Uri(uri));
        self.tokens.push(whole);
        if extract.has_ancestors {
            for ancestor in uri_ancestors(uri) {
                self.tokens.push(term(extract.salt, Token::UriBelow(ancestor)));
            }
        } else if uri.len() <= WORD_BYTES_MAX {
            self.put_word(extract, whole, Some(uri.to_owned()));
        }
    }

    pub(super) fn push_reference(&mut self, salt: i64, target: i64) {
        let term = reference_term(salt, target);
        self.references.push(term);
        if salt != 0 && salt == self.parameters.owner {
            self.subjects.push(term);
        }
    }

    pub(super) fn put_reference(&mut self, extract: &Extract, value: Value<'_>) -> Option<()> {
        let reference = value.get_str("reference");
        let link = reference.as_deref().and_then(|reference| reference.strip_prefix('#'));
        // `#id` tells no type, but what it leads to has one.
        let is_of_type = |id| self.locals.type_of(id).is_some_and(|name| extract.target.as_deref() == Some(name));
        let is_wanted = is_wanted(extract, value) || link.is_some_and(is_of_type);
        let mut found = link.and_then(|id| self.put_link(extract, id));
        if let Some(reference) = reference.filter(|r| !r.starts_with('#') && is_wanted) {
            let target = match local_reference(own_reference(&reference, &self.parameters.base)) {
                Some(local) => self_hash(local.type_name, local.id),
                None => reference_hash(without_version(&reference)),
            };
            self.push_reference(extract.salt, target);
            found = Some(());
        }
        if let Some(identifier) = value.get("identifier").filter(|_| is_wanted) {
            found = self.put_reference_identifier(extract, identifier).or(found);
        }
        found
    }

    fn put_reference_identifier(&mut self, extract: &Extract, identifier: Value<'_>) -> Option<()> {
        let (system, value) = (identifier.get_str("system"), identifier.get_str("value"));
        let salt = identifier_salt(extract.salt, extract.target.as_deref());
        let mut push = |token| self.tokens.push(term(salt, token));
        if let Some(system) = &system {
            push(Token::IdentifierSystem(system));
        }
        match (&system, &value) {
            (Some(system), Some(value)) => push(Token::IdentifierSystemAndValue(system, value)),
            (None, Some(value)) => push(Token::IdentifierWithoutSystem(value)),
            (Some(_), None) => return Some(()),
            (None, None) => return None,
        }
        push(Token::IdentifierValue(value.as_deref()?));
        Some(())
    }
}

/// Whether a parameter that is filtered by the type of what is referenced reads this: a literal reference tells it, or `Reference.type`.
pub fn is_wanted(extract: &Extract, value: Value<'_>) -> bool {
    extract.target.as_deref().is_none_or(|target| {
        let reference = value.get_str("reference");
        reference.as_deref().and_then(referenced_type) == Some(target) || value.get_str("type").is_some_and(|t| t == target)
    })
}
