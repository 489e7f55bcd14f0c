//! References that are absolute, and references to a version. Spec: <https://hl7.org/fhir/R4/references.html#literal>,
//! <https://hl7.org/fhir/R4/search.html#reference>.

use crate::support::server::DataDir;
use crate::support::server::Server;
use crate::support::world::World;
use serde_json::Value;
use serde_json::json;

fn observation(subject: &str) -> Value {
    json!({"resourceType": "Observation", "status": "final", "code": {"text": "x"}, "subject": {"reference": subject}})
}

#[test]
fn references_to_the_own_address_and_to_a_version_are_those_to_the_resource() {
    let base = "https://eds.example/fhir";
    let dir = DataDir::new();
    let server: &'static Server = Box::leak(Box::new(Server::start(&dir, &[("EDS_BASE_URL", "https://eds.example")])));
    let world = World::on(server);
    let absolute = format!("{base}/Patient/~p");
    world.load(vec![
        ("p", json!({"resourceType": "Patient", "name": [{"family": "Rossi"}]})),
        ("relative", observation("Patient/~p")),
        ("version", observation("Patient/~p/_history/1")),
        ("absolute", observation(&absolute)),
        ("both", observation(&format!("{absolute}/_history/1"))),
        ("foreign", observation("https://other.example/fhir/Patient/~p")),
    ]);
    let own: &[&str] = &["absolute", "both", "relative", "version"];
    let by_absolute = format!("Observation?subject={absolute}");
    world.check(&[
        ("Observation?subject=Patient/~p", own),
        ("Observation?subject=~p", own),
        ("Observation?patient=~p", own),
        ("Observation?subject:Patient=~p", own),
        (&by_absolute, own),
        ("Observation?subject.family=rossi", own),
        ("Observation?patient.name=rossi", own),
        ("Patient?_has:Observation:subject:status=final", &["p"]),
        ("Observation?subject=https://other.example/fhir/Patient/~p", &["foreign"]),
    ]);
    assert_eq!(world.included("Observation?_include=Observation:subject"), ["p"]);
    assert_eq!(world.included("Patient?_revinclude=Observation:subject"), own);
    // What is stored stays as it was sent.
    let stored = server.get(&world.name("/Observation/~absolute")).expect(200).json();
    assert_eq!(stored["subject"]["reference"], world.name(&absolute));
    // They hold what they refer to.
    let told = server.delete(&world.name("/Patient/~p")).refused(409);
    for name in own {
        assert!(told.contains(&world.name(&format!("Observation/~{name}"))), "{told}");
    }
    assert!(!told.contains("foreign"), "{told}");
}

/// Without `server.base_url` the index knows no address: what is absolute is found as it was written.
#[test]
fn without_an_address_absolute_references_are_found_as_they_were_written() {
    let world = World::new();
    let absolute = format!("{}/Patient/~p", world.server.base());
    world.load(vec![("absolute", observation(&absolute)), ("relative", observation("Patient/~p"))]);
    let by_absolute = format!("Observation?subject={absolute}");
    world.check(&[
        (&by_absolute, &["absolute", "relative"]),
        ("Observation?subject=Patient/~p", &["relative"]),
    ]);
}
