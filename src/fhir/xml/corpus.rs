//! Real material, if it is there: HL7's official examples, the ministry's Bundles, Synthea's. Each comes back from XML as it was.
//! The data lie beside the project, not in it; without them these tests say so and pass.

use crate::fhir::definitions::definitions;
use crate::fhir::json::Document;
use crate::fhir::json::Value;
use crate::fhir::xml::tests::sorted;
use crate::fhir::xml::to_json;
use crate::fhir::xml::to_xml;
use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;

/// The JSON files of a folder; none if it is not there, which is said. A worktree lies one level deeper.
fn files(folder: &str) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = ["../shared/data", "../../shared/data"].map(|data| root.join(data).join(folder));
    let Some(entries) = folders.iter().find_map(|folder| std::fs::read_dir(folder).ok()) else {
        println!("../shared/data/{folder} is not on this machine: nothing was tested");
        return Vec::new();
    };
    let paths = entries.map(|e| e.expect("readable").path());
    let mut files: Vec<PathBuf> = paths.filter(|p| p.extension().is_some_and(|e| e == "json")).collect();
    files.sort();
    files
}

/// Long files take long in a debug build, and have nothing in them that short ones have not.
fn is_short(file: &Path) -> bool {
    file.metadata().is_ok_and(|m| m.len() < 30_000)
}

/// JSON is compared but for what this module's documentation names.
fn check(file: &Path) -> Result<(), String> {
    let text = std::fs::read_to_string(file).expect("UTF-8");
    let document = Document::parse_str(&text).map_err(|e| e.to_string())?;
    let xml = to_xml(document.root(), false).map_err(|e| format!("{:?}", e.internal))?;
    let again = to_json(xml.as_bytes()).map_err(|e| e.to_string())?;
    let again_document = Document::parse_str(&again).map_err(|e| e.to_string())?;
    let (first, second) = (sorted(document.root()), sorted(again_document.root()));
    if first != second {
        let at = first.bytes().zip(second.bytes()).take_while(|(a, b)| a == b).count();
        let part = |text: &str| text.get(at.saturating_sub(80)..).map(|t| t.chars().take(160).collect::<String>());
        return Err(format!("{:?}\n  is {:?}", part(&first), part(&second)));
    }
    let pretty = to_xml(again_document.root(), true).map_err(|e| format!("{:?}", e.internal))?;
    let pretty = to_json(pretty.as_bytes()).map_err(|e| e.to_string())?;
    (pretty == again)
        .then_some(())
        .ok_or_else(|| "indented, it is another resource".to_owned())
}

#[test]
fn real_resources_come_back_from_xml_as_they_were() {
    let (mut count, mut wrong) = (0, Vec::new());
    for folder in ["r4-examples", "fse/bundles", "synthea", "it-profiles/core/examples"] {
        for file in files(folder).into_iter().filter(|file| folder == "fse/bundles" || is_short(file)) {
            count += 1;
            if let Err(what) = check(&file) {
                wrong.push(format!("{}: {what}", file.display()));
            }
        }
    }
    println!("{count} files, {} do not come back", wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// HL7 writes its JSON examples from XML, so their members stand in the order of the schemas; these two are written by hand.
const WRITTEN_BY_HAND: [&str; 2] = ["immunizationevaluation-questionnaire.json", "json-edge-cases.json"];

#[test]
fn the_order_of_our_definitions_is_that_of_hl7s_examples() {
    let mut pairs = Pairs::new();
    let by_hand = |file: &PathBuf| WRITTEN_BY_HAND.iter().any(|name| file.ends_with(name));
    for file in files("r4-examples").into_iter().filter(|file| !by_hand(file)) {
        let text = std::fs::read_to_string(&file).expect("UTF-8");
        if let Ok(document) = Document::parse_str(&text) {
            count(document.root(), None, &mut pairs);
        }
    }
    let wrong: Vec<_> = pairs.iter().filter(|(_, is_wrong)| **is_wrong).collect();
    println!("{} pairs of elements, {} in another order", pairs.len(), wrong.len());
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Object and two of its elements, in our order; true if they ever stand in another.
type Pairs = BTreeMap<(String, usize, usize), bool>;

fn count(object: Value<'_>, shape: Option<u32>, pairs: &mut Pairs) {
    let definitions = definitions();
    let of_resource = object.get_str("resourceType").and_then(|name| definitions.shape_of(&name));
    let Some(shape) = shape.or(of_resource) else { return };
    let path = &definitions.shape(shape).path;
    let mut before: Vec<usize> = Vec::new();
    for (name, value) in object.members() {
        let Some(member) = definitions.member(shape, &name).filter(|m| !m.is_twin && name != "meta") else {
            continue;
        };
        if of_resource.is_none() && name == "url" && path == "Extension" {
            continue;
        }
        let index = member.element_index;
        for other in &before {
            *pairs.entry((path.clone(), index.min(*other), index.max(*other))).or_default() |= *other > index;
        }
        before.push(index);
        value
            .items()
            .filter(Value::is_object)
            .for_each(|item| count(item, member.ty.shape, pairs));
    }
}
