//! `Composition/[id]/$document`: the Composition and everything it refers to, over and over, as a Bundle of type document.
//!
//! What the Composition itself refers to on this server must be there: else the document would lack what its author meant. What these refer to in
//! turn is taken along if it is there. References to other servers stay references.
//! Spec: <https://hl7.org/fhir/R4/composition-operation-document.html>, <https://hl7.org/fhir/R4/documents.html#content>.

use crate::clock::instant;
use crate::fhir::identity::check_id;
use crate::interaction::Reply;
use crate::interaction::Service;
use crate::interaction::operation::Call;
use crate::interaction::operation::gather;
use crate::interaction::operation::gather::Link;
use crate::interaction::operation::gather::Text;
use crate::interaction::operation::input::Input;
use crate::outcome::Category;
use crate::outcome::Outcome;
use std::collections::HashSet;
use std::fmt::Write;

pub async fn document(service: &Service, call: &Call<'_>, input: &Input<'_>) -> Result<Reply, Outcome> {
    if input.text("graph")?.is_some() {
        let text = "graph is not supported: a document has everything that its Composition refers to";
        return Err(Outcome::not_supported(text));
    }
    if input.flag("persist")? {
        // A stored copy would outlive the oscuramento of what it was made of.
        let text = "persist is not supported: the document is answered and not stored, so that what is obscured later is nowhere else. It may be \
            sent to /Bundle by who answers for it";
        return Err(Outcome::not_supported(text));
    }
    let id = match call.id {
        Some(id) => id,
        None => composition_id(call, input.text("id")?.ok_or_else(|| input.required("id"))?)?,
    };
    check_id(id)?;
    let composition = service.reader.read(service.policy, "Composition", id).await?;
    let mut texts = vec![Text::of(service, &composition)?];
    let mut seen: HashSet<i64> = texts.iter().map(Text::hash).collect();
    let mut from = 0;
    while from < texts.len() {
        let mut links: Vec<Link> = Vec::new();
        for text in &texts[from..] {
            links.extend(text.links(call.base)?);
        }
        let is_known = |link: &Link| service.store.registry().number_of(&link.type_name).is_some();
        links.retain(is_known);
        let found = gather::follow(service, &links, &mut seen).await?;
        if from == 0 {
            let itself = texts[0].hash();
            let is_missing = |link: &&Link| link.hash() != itself && found.iter().all(|text| text.hash() != link.hash());
            if let Some(missing) = links.iter().find(is_missing) {
                let text = format!(
                    "The Composition refers to {}/{}, which is not here: a document has all that its Composition refers to",
                    missing.type_name, missing.id
                );
                return Err(Outcome::new(Category::Unprocessable, "not-found", text));
            }
        }
        from = texts.len();
        texts.extend(found);
        let most = service.operations.document_entries_max;
        if texts.len() > most {
            let text = format!("The document would have more than {most} resources (operation.document_entries_max)");
            return Err(Outcome::new(Category::Unprocessable, "too-costly", text));
        }
    }
    Ok(Reply::with_body(bundle(service, call, &texts)))
}

/// `id`, `Composition/id`, or that below the base.
fn composition_id<'t>(call: &Call<'_>, text: &'t str) -> Result<&'t str, Outcome> {
    let relative = text.strip_prefix(call.base).unwrap_or(text).trim_start_matches('/');
    let id = relative.strip_prefix("Composition/").unwrap_or(relative);
    if id.contains('/') {
        let text = "id names a Composition of this server: its id, or Composition/[id]";
        return Err(Outcome::invalid(text).with_code("value"));
    }
    Ok(id)
}

fn bundle(service: &Service, call: &Call<'_>, texts: &[Text]) -> String {
    let id = service.store.clock.new_id();
    let mut out = String::with_capacity(512 + texts.iter().map(|text| text.json.len() + 128).sum::<usize>());
    let _ = write!(
        out,
        "{{\"resourceType\":\"Bundle\",\"id\":\"{id}\",\"identifier\":{{\"system\":\"urn:ietf:rfc:3986\",\"value\":\"urn:uuid:{id}\"}},\
         \"type\":\"document\",\"timestamp\":\"{}\",\"entry\":[",
        instant(service.store.clock.now())
    );
    for (i, text) in texts.iter().enumerate() {
        let separator = if i == 0 { "" } else { "," };
        let _ = write!(
            out,
            "{separator}{{\"fullUrl\":\"{}/{}/{}\",\"resource\":{}}}",
            call.base, text.type_name, text.id, text.json
        );
    }
    out.push_str("]}");
    out
}
