//! Claims and explanations of benefit: a fifth of the resources and half of the bytes of the shape imitated.
//!
//! Spec: <https://hl7.org/fhir/R4/claim.html>, <https://hl7.org/fhir/R4/explanationofbenefit.html>.

use serde_json::Value;
use serde_json::json;

use crate::calendar;
use crate::population::clinical::Event;
use crate::population::clinical::Scene;
use crate::population::clinical::concept;
use crate::population::clinical::hl7;
use crate::population::clinical::to;
use crate::population::codes::Coded;
use crate::population::codes::ICD9;
use crate::population::person::test_data_meta;
use crate::rng::Rng;

const INSURER: &str = "Servizio Sanitario Nazionale";

/// What happened at a visit, as the bill sees it: references and wording.
pub struct Bill {
    pub kind: Coded,
    pub diagnoses: Vec<Event>,
    pub procedures: Vec<Event>,
    pub immunizations: Vec<Event>,
}

fn euro(value: f64) -> Value {
    json!({ "value": value, "currency": "EUR" })
}

fn claim_frame(rng: &mut Rng, scene: &Scene, kind: &str, organization: &str) -> Value {
    let end = calendar::date_time(scene.at + 900);
    json!({
        "resourceType": "Claim",
        "id": rng.uuid(),
        "status": "active",
        "type": hl7("claim-type", kind),
        "use": "claim",
        "patient": to(&scene.patient),
        "billablePeriod": { "start": calendar::date_time(scene.at), "end": end },
        "created": end,
        "provider": to(organization),
        "priority": hl7("processpriority", "normal")
    })
}

fn insurance() -> Value {
    json!([{ "sequence": 1, "focal": true, "coverage": { "display": INSURER } }])
}

fn visit_item(scene: &Scene, kind: Coded) -> Value {
    json!({ "sequence": 1, "productOrService": concept(ICD9, kind), "encounter": [to(&scene.encounter)] })
}

/// The claim of a prescription.
pub fn pharmacy_claim(rng: &mut Rng, scene: &Scene, organization: &str, bill: &Bill, prescription: &str) -> Value {
    let mut claim = claim_frame(rng, scene, "pharmacy", organization);
    claim["prescription"] = to(prescription);
    claim["insurance"] = insurance();
    claim["item"] = json!([visit_item(scene, bill.kind)]);
    claim["total"] = euro(rng.real(3.0, 90.0));
    claim["meta"] = test_data_meta();
    claim
}

/// The claim of a visit: an item each for the visit, its diagnoses, procedures and vaccines.
pub fn visit_claim(rng: &mut Rng, scene: &Scene, organization: &str, bill: &Bill) -> Value {
    let mut claim = claim_frame(rng, scene, "institutional", organization);
    let mut items = vec![visit_item(scene, bill.kind)];
    let information: Vec<Value> = numbered(&bill.immunizations)
        .map(|(sequence, event)| {
            json!({ "sequence": sequence, "category": hl7("claiminformationcategory", "info"), "valueReference": to(&event.target) })
        })
        .collect();
    let diagnoses: Vec<Value> = numbered(&bill.diagnoses)
        .map(|(sequence, event)| json!({ "sequence": sequence, "diagnosisReference": to(&event.target) }))
        .collect();
    let procedures: Vec<Value> = numbered(&bill.procedures)
        .map(|(sequence, event)| json!({ "sequence": sequence, "procedureReference": to(&event.target) }))
        .collect();
    let links = [
        ("informationSequence", &bill.immunizations),
        ("diagnosisSequence", &bill.diagnoses),
        ("procedureSequence", &bill.procedures),
    ];
    for (link, subjects) in links {
        for (sequence, event) in numbered(subjects) {
            let service = concept(event.system, event.coded);
            let mut item = json!({ "sequence": items.len() + 1, "productOrService": service });
            item[link] = json!([sequence]);
            item["net"] = euro(rng.real(10.0, 600.0));
            items.push(item);
        }
    }
    for (element, list) in [("supportingInfo", information), ("diagnosis", diagnoses), ("procedure", procedures)] {
        if !list.is_empty() {
            claim[element] = Value::Array(list);
        }
    }
    claim["insurance"] = insurance();
    claim["item"] = Value::Array(items);
    claim["total"] = euro(rng.real(20.0, 900.0));
    claim["meta"] = test_data_meta();
    claim
}

fn numbered(subjects: &[Event]) -> impl Iterator<Item = (usize, &Event)> {
    subjects.iter().enumerate().map(|(position, subject)| (position + 1, subject))
}

fn adjudications(rng: &mut Rng) -> Value {
    let amount = rng.real(20.0, 600.0);
    let share = |code: &str, value: f64| json!({ "category": hl7("adjudication", code), "amount": euro(value) });
    json!([
        share("submitted", amount),
        share("eligible", amount),
        share("deductible", 0.0),
        share("copay", amount * 0.2),
        share("benefit", amount * 0.8)
    ])
}

fn benefit_items(rng: &mut Rng, scene: &Scene, bill: &Bill) -> Vec<Value> {
    let period = json!({ "start": calendar::date_time(scene.at), "end": calendar::date_time(scene.at + 900) });
    let place = json!({
        "coding": [{ "system": "http://terminology.hl7.org/CodeSystem/ex-serviceplace", "code": "19", "display": "Off Campus-Outpatient Hospital" }],
        "text": "Ambulatorio o presidio fuori dall'ospedale"
    });
    let mut items: Vec<Value> = Vec::new();
    let others = bill
        .immunizations
        .iter()
        .chain(&bill.diagnoses)
        .chain(&bill.procedures)
        .map(|event| (event.system, event.coded));
    for (system, coded) in std::iter::once((ICD9, bill.kind)).chain(others) {
        let mut item = json!({
            "sequence": items.len() + 1,
            "category": {
                "coding": [{ "system": "http://terminology.hl7.org/CodeSystem/ex-benefitcategory", "code": "1", "display": "Medical Care" }],
                "text": "Assistenza specialistica ambulatoriale"
            },
            "productOrService": concept(system, coded),
            "servicedPeriod": period,
            "locationCodeableConcept": place
        });
        if items.is_empty() {
            item["encounter"] = json!([to(&scene.encounter)]);
        } else {
            item["net"] = euro(rng.real(10.0, 600.0));
            item["adjudication"] = adjudications(rng);
        }
        items.push(item);
    }
    items
}

fn contained(scene: &Scene) -> Value {
    json!([
        {
            "resourceType": "ServiceRequest", "id": "referral", "status": "completed", "intent": "order",
            "subject": to(&scene.patient), "requester": to(&scene.practitioner), "performer": [to(&scene.practitioner)]
        },
        {
            "resourceType": "Coverage", "id": "coverage", "status": "active", "type": { "text": INSURER },
            "beneficiary": to(&scene.patient), "payor": [{ "display": INSURER }]
        }
    ])
}

/// The explanation of benefit of a claim.
pub fn explanation(rng: &mut Rng, scene: &Scene, bill: &Bill, claim: &str) -> Value {
    let start = scene.at + 900;
    let mut resource = json!({
        "resourceType": "ExplanationOfBenefit",
        "id": rng.uuid(),
        "contained": contained(scene),
        "identifier": [
            { "system": "urn:ietf:rfc:3986", "value": claim },
            { "system": "urn:oid:2.16.840.1.113883.2.9.4.3.8", "value": format!("{:015}", rng.below(1_000_000_000_000_000)) }
        ],
        "status": "active",
        "type": hl7("claim-type", "institutional"),
        "use": "claim",
        "patient": to(&scene.patient),
        "billablePeriod": {
            "start": calendar::date_time(start),
            "end": calendar::date_time(start + 365 * calendar::DAY_SECONDS)
        },
        "created": calendar::date_time(start),
        "insurer": { "display": INSURER },
        "provider": to(&scene.practitioner),
        "referral": { "reference": "#referral" },
        "claim": to(claim),
        "outcome": "complete",
        "careTeam": [{ "sequence": 1, "provider": to(&scene.practitioner), "role": hl7("claimcareteamrole", "primary") }]
    });
    let diagnoses: Vec<Value> = numbered(&bill.diagnoses)
        .map(|(sequence, event)| {
            json!({ "sequence": sequence, "diagnosisReference": to(&event.target), "type": [hl7("ex-diagnosistype", "principal")] })
        })
        .collect();
    if !diagnoses.is_empty() {
        resource["diagnosis"] = Value::Array(diagnoses);
    }
    resource["insurance"] = json!([{ "focal": true, "coverage": { "reference": "#coverage", "display": INSURER } }]);
    resource["item"] = Value::Array(benefit_items(rng, scene, bill));
    resource["total"] = json!([{
        "category": {
            "coding": [{ "system": "http://terminology.hl7.org/CodeSystem/adjudication", "code": "submitted", "display": "Submitted Amount" }],
            "text": "Importo richiesto dalla struttura"
        },
        "amount": euro(rng.real(20.0, 900.0))
    }]);
    resource["payment"] = json!({ "amount": euro(rng.real(0.0, 700.0)) });
    resource["meta"] = test_data_meta();
    resource
}
