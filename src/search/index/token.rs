//! What becomes a term: tokens, strings, URIs, references.

use crate::fhir::definitions::model::SearchParameterKind;
use crate::fhir::identity::local_reference;
use crate::fhir::identity::reference_hash;
use crate::fhir::identity::referenced_type;
use crate::fhir::identity::self_hash;
use crate::fhir::identity::without_version;
use crate::fhir::json::Value;
use crate::fhir::strings::normalise;
use crate::search::index::Indexer;
use crate::search::parameters::Extract;
use crate::search::term::Token;
use crate::search::term::reference_term;
use crate::search::term::term;
use crate::search::term::uri_ancestors;

impl Indexer<'_> {
    pub(super) fn put_token(&mut self, extract: &Extract, system: Option<&str>, code: &str) -> Option<()> {
        let salt = extract.salt;
        match system {
            Some(system) => {
                self.tokens.push(term(salt, Token::SystemAndCode(system, code)));
                self.tokens.push(term(salt, Token::System(system)));
            }
            None => self.tokens.push(term(salt, Token::CodeWithoutSystem(code))),
        }
        let code = term(salt, Token::Code(code));
        self.tokens.push(code);
        if extract.bits & self.parameters.lead != 0 && !self.codes.contains(&code) {
            self.codes.push(code);
        }
        Some(())
    }

    /// A plain code or boolean: one term says it all.
    pub(super) fn put_plain(&mut self, extract: &Extract, code: &str) -> Option<()> {
        self.tokens.push(term(extract.salt, Token::Plain(code)));
        Some(())
    }

    pub(super) fn put_coding(&mut self, extract: &Extract, value: Value<'_>) -> Option<()> {
        self.put_system_and(extract, value, "code")
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
        if let Some((unversioned, _)) = uri.split_once('|') {
            self.put_one_uri(extract, unversioned, is_reference);
        }
        self.put_one_uri(extract, uri, is_reference);
        Some(())
    }

    pub(super) fn put_one_uri(&mut self, extract: &Extract, uri: &str, is_reference: bool) {
        if is_reference {
            self.push_reference(extract.salt, reference_hash(uri));
            return;
        }
        self.tokens.push(term(extract.salt, Token::Uri(uri)));
        if extract.has_ancestors {
            for ancestor in uri_ancestors(uri) {
                self.tokens.push(term(extract.salt, Token::UriBelow(ancestor)));
            }
        }
    }

    pub(super) fn push_reference(&mut self, salt: i64, target: i64) {
        let term = reference_term(salt, target);
        self.references.push(term);
        if salt == self.parameters.subject {
            self.subjects.push(term);
        }
    }

    pub(super) fn put_reference(&mut self, extract: &Extract, value: Value<'_>) -> Option<()> {
        let reference = value.get_str("reference");
        let wanted = |reference: &str| match &extract.target {
            Some(target) => referenced_type(reference) == Some(target) || value.get_str("type").is_some_and(|t| t == target.as_str()),
            None => true,
        };
        let mut found = None;
        if let Some(reference) = reference.filter(|r| !r.starts_with('#') && wanted(r)) {
            let target = match local_reference(&reference) {
                Some(local) => self_hash(local.type_name, local.id),
                None => reference_hash(without_version(&reference)),
            };
            self.push_reference(extract.salt, target);
            found = Some(());
        }
        if let Some(identifier) = value.get("identifier")
            && let Some(text) = identifier
                .get_str("value")
                .filter(|_| extract.target.is_none() || found.is_some() || wanted(""))
        {
            self.tokens.push(term(extract.salt, Token::IdentifierValue(&text)));
            if let Some(system) = identifier.get_str("system") {
                self.tokens
                    .push(term(extract.salt, Token::IdentifierSystemAndValue(&system, &text)));
            }
            found = Some(());
        }
        found
    }
}
