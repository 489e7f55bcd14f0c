//! Values that stand in the same element, for composites. Spec: <https://hl7.org/fhir/R4/search.html#combining>.

use crate::fhir::json::Value;
use crate::search::datatype::Datatype;
use crate::search::index::Indexer;
use crate::search::index::QuantityEntry;
use crate::search::index::for_each_below;
use crate::search::index::range::number_of;
use crate::search::parameters::Extract;
use crate::search::parameters::Walk;
use crate::search::parameters::composite::Join;
use crate::search::parameters::composite::Place;
use crate::search::term::Token;
use crate::search::term::joint_term;
use crate::search::term::system_hash;
use crate::search::term::term;

impl Indexer<'_> {
    /// Joins what stands in an element; the quantities from this place on are those that it has.
    pub(super) fn join(&mut self, join: &Join, element: Value<'_>, quantities: usize) {
        match join {
            Join::Terms(first, second) => {
                let (first, second) = (self.terms_at(first, element), self.terms_at(second, element));
                for one in &first {
                    self.tokens.extend(second.iter().map(|other| joint_term(*one, *other)));
                }
            }
            Join::Quantity {
                codes,
                salt,
                keys,
                further,
            } => {
                let entries = &self.entry.quantities[quantities..];
                if !entries.iter().any(|q| keys.contains(&q.key) && q.joint.is_none()) {
                    return;
                }
                let codes = codes_at(codes, *salt, element);
                let Some(first) = codes.first() else { return };
                let mut rows: Vec<QuantityEntry> = Vec::new();
                for entry in self.entry.quantities[quantities..].iter_mut().filter(|q| keys.contains(&q.key)) {
                    entry.joint = Some(*first);
                    rows.extend(codes[1..].iter().map(|code| QuantityEntry {
                        key: *further,
                        joint: Some(*code),
                        ..entry.clone()
                    }));
                }
                self.entry.quantities.append(&mut rows);
            }
            Join::Numbers(first, second, key) => {
                let (first, second) = (numbers_at(first, element), numbers_at(second, element));
                for low in &first {
                    self.entry.quantities.extend(second.iter().map(|high| QuantityEntry {
                        key: *key,
                        unit: 0,
                        code: 0,
                        low: *low,
                        high: *high,
                        joint: None,
                    }));
                }
            }
        }
    }

    /// All terms of the values at a place, in all their forms.
    fn terms_at(&self, place: &Place, element: Value<'_>) -> Vec<i64> {
        let mut indexer = Indexer::new(self.parameters, self.locals);
        indexer.is_joining = true;
        indexer.walk(&place.walk, place.element, element);
        indexer.tokens.append(&mut indexer.references);
        indexer.tokens.sort_unstable();
        indexer.tokens.dedup();
        indexer.tokens
    }
}

/// What [`QuantityEntry::joint`] has for each code at a place.
fn codes_at(place: &Place, salt: i64, element: Value<'_>) -> Vec<(i64, i32)> {
    let mut codes = Vec::new();
    let mut add = |system: Option<&str>, code: Token<'_>| {
        let joint = (term(salt, code), system_hash(system));
        if !codes.contains(&joint) {
            codes.push(joint);
        }
    };
    let mut coding = |coding: Value<'_>| {
        let system = coding.get_str("system");
        match (coding.get_str("code"), system.as_deref()) {
            (Some(code), system) => add(system, Token::Code(&code)),
            (None, Some(system)) => add(Some(system), Token::System(system)),
            (None, None) => {}
        }
    };
    for_each_at(&place.walk, place.element, element, &mut |extract, value| match extract.datatype {
        Datatype::Coding => coding(value),
        Datatype::CodeableConcept => value.get("coding").into_iter().flat_map(|list| list.items()).for_each(&mut coding),
        _ => {}
    });
    codes
}

fn numbers_at(place: &Place, element: Value<'_>) -> Vec<f64> {
    let mut numbers = Vec::new();
    for_each_at(&place.walk, place.element, element, &mut |_, value| {
        numbers.extend(number_of(value))
    });
    numbers
}

/// The values that a tree finds below a node.
pub(super) fn for_each_at<'v>(walk: &Walk, node: usize, value: Value<'v>, then: &mut dyn FnMut(&Extract, Value<'v>)) {
    let node = &walk.nodes[node];
    for extract in &node.extracts {
        then(extract, value);
    }
    if !node.edges.is_empty() {
        for_each_below(node, value, &mut |below, item| for_each_at(walk, below, item, then));
    }
}
