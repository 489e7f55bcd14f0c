//! What a resource refers to on this server: found in its text, so that references without a search parameter count too.
//! Spec: <https://hl7.org/fhir/R4/references.html>.

use crate::fhir::identity::local_reference;
use crate::fhir::identity::self_hash;
use crate::fhir::links;
use crate::interaction::Service;
use crate::interaction::operation::meta::stored;
use crate::outcome::Outcome;
use crate::store::compartment;
use crate::store::database_error;
use crate::store::rows::Row;
use std::collections::HashSet;

/// A resource with its text.
pub struct Text {
    pub rid: i64,
    pub type_name: &'static str,
    pub id: String,
    pub json: String,
}

impl Text {
    pub fn of(service: &Service, row: &Row) -> Result<Text, Outcome> {
        let registry = service.store.registry();
        Ok(Text {
            rid: row.rid,
            type_name: registry.name_of(row.type_number),
            id: row.id.clone(),
            json: row.to_json(&registry, &service.store.bodies)?,
        })
    }

    pub fn hash(&self) -> i64 {
        self_hash(self.type_name, &self.id)
    }

    /// The resources of this server that it refers to, each once, in order: relative references, and absolute ones below `base`.
    pub fn links(&self, base: &str) -> Result<Vec<Link>, Outcome> {
        let document = stored(&self.json)?;
        let mut found: Vec<Link> = Vec::new();
        links::each(document.root(), &mut |value, is_reference| {
            let Some(text) = value.as_str().filter(|_| is_reference) else {
                return;
            };
            let relative = text.strip_prefix(base).map_or(&*text, |rest| rest.trim_start_matches('/'));
            if let Some(local) = local_reference(relative) {
                let link = Link {
                    type_name: local.type_name.to_owned(),
                    id: local.id.to_owned(),
                };
                if !found.contains(&link) {
                    found.push(link);
                }
            }
        });
        Ok(found)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    pub type_name: String,
    pub id: String,
}

impl Link {
    pub fn hash(&self) -> i64 {
        self_hash(&self.type_name, &self.id)
    }
}

/// Those of the links that are there and not in `seen`, which then has them, in the order of the links.
pub async fn follow(service: &Service, links: &[Link], seen: &mut HashSet<i64>) -> Result<Vec<Text>, Outcome> {
    let wanted: Vec<&Link> = links.iter().filter(|link| seen.insert(link.hash())).collect();
    let hashes: Vec<i64> = wanted.iter().map(|link| link.hash()).collect();
    let rows = compartment::by_hashes(&service.store, service.policy, &hashes)
        .await
        .map_err(database_error)?;
    let mut texts = Vec::with_capacity(rows.len());
    for link in wanted {
        let is_meant = |row: &&Row| row.id == link.id && service.store.registry().name_of(row.type_number) == link.type_name;
        if let Some(row) = rows.iter().find(is_meant) {
            texts.push(Text::of(service, row)?);
        }
    }
    Ok(texts)
}
