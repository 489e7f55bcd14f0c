//! The values of parameters of one's own: what their expressions give goes to the index as the values of standard ones do.

use crate::fhir::json::Value;
use crate::search::custom::evaluate::Item;
use crate::search::custom::evaluate::evaluate;
use crate::search::custom::reading::Reading;
use crate::search::custom::reading::parts;
use crate::search::datatype::datatype;
use crate::search::index::Indexer;
use crate::search::parameters::Extract;

impl Indexer<'_> {
    pub(super) fn read_custom(&mut self, resource: Value<'_>) {
        let parameters = self.parameters;
        for reading in &parameters.readings {
            let items = evaluate(parameters.definitions, &reading.custom.expression, &parameters.name, resource);
            // Every value counts, also after one that gives nothing.
            let has_value = items.into_iter().filter(|item| self.put_item(reading, *item).is_some()).count() > 0;
            if has_value {
                self.tokens.push(reading.presence);
            }
        }
    }

    fn put_item(&mut self, reading: &Reading, item: Item<'_>) -> Option<()> {
        let kind = reading.custom.definition.kind;
        let extract = |code: &str| {
            Some(Extract {
                bits: 0,
                kind,
                salt: reading.salt,
                key: reading.key,
                datatype: datatype(kind, code)?,
                target: None,
                has_ancestors: true,
            })
        };
        match item {
            Item::Boolean(boolean) => self.put_plain(&extract("boolean")?, if boolean { "true" } else { "false" }),
            Item::Element(element) => {
                let value = element.value?;
                if let Some(extract) = extract(element.code) {
                    return self.put(&extract, value);
                }
                let extract = extract("string")?;
                let members = parts(kind, element.code).iter().filter_map(|part| value.get(part));
                let texts = members.flat_map(|member| member.items()).filter_map(|text| text.as_str());
                texts.filter_map(|text| self.put_string(&extract, &text)).last()
            }
            // Literals stand in conditions; alone they say nothing of the resource.
            Item::Number(_) | Item::Text(_) => None,
        }
    }
}
