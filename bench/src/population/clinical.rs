//! The clinical resources: what was seen, measured, done and prescribed at a visit.
//!
//! Spec: <https://hl7.org/fhir/R4/observation.html> and its siblings.

use serde_json::Value;
use serde_json::json;

use crate::calendar;
use crate::population::codes;
use crate::population::codes::ATC;
use crate::population::codes::Coded;
use crate::population::codes::ICD9;
use crate::population::codes::LOINC;
use crate::population::codes::Measure;
use crate::population::codes::Panel;
use crate::population::codes::UCUM;
use crate::population::person::test_data_meta;
use crate::rng::Rng;

/// What most resources point to, and when they happened (seconds since 1970).
pub struct Scene {
    pub patient: String,
    pub encounter: String,
    pub practitioner: String,
    pub at: i64,
}

/// Something that happened at a visit and that later resources cite: where it is, and its code.
#[derive(Clone)]
pub struct Event {
    pub target: String,
    pub system: &'static str,
    pub coded: Coded,
}

/// A coding with its wording, twice as exporters do.
pub fn concept(system: &str, coded: Coded) -> Value {
    json!({ "coding": [{ "system": system, "code": coded.0, "display": coded.1 }], "text": coded.1 })
}

/// A code of HL7's own terminology, without wording.
pub fn hl7(system: &str, code: &str) -> Value {
    json!({ "coding": [{ "system": format!("http://terminology.hl7.org/CodeSystem/{system}"), "code": code }] })
}

/// A reference.
pub fn to(target: &str) -> Value {
    json!({ "reference": target })
}

/// An Encounter; `class` is a code of v3-ActCode.
pub fn encounter(rng: &mut Rng, scene: &Scene, organization: &str, class: &str, kind: Coded, reason: Option<Coded>) -> Value {
    let minutes = if class == "IMP" { 2_880 } else { 15 };
    let mut resource = json!({
        "resourceType": "Encounter",
        "id": rng.uuid(),
        "status": "finished",
        "class": { "system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": class },
        "type": [concept(ICD9, kind)],
        "subject": to(&scene.patient),
        "participant": [{ "individual": to(&scene.practitioner) }],
        "period": { "start": calendar::date_time(scene.at), "end": calendar::date_time(scene.at + minutes * 60) }
    });
    if let Some(reason) = reason {
        resource["reasonCode"] = json!([concept(ICD9, reason)]);
    }
    resource["serviceProvider"] = to(organization);
    resource["meta"] = test_data_meta();
    resource
}

fn quantity(measure: &Measure, rng: &mut Rng) -> Value {
    json!({ "value": rng.real(measure.low, measure.high), "unit": measure.unit, "system": UCUM, "code": measure.unit })
}

fn observation(rng: &mut Rng, id: bool, scene: &Scene, category: &str, code: Coded, value: (&str, Value)) -> Value {
    let mut resource = json!({ "resourceType": "Observation" });
    if id {
        resource["id"] = json!(rng.uuid());
    }
    resource["status"] = json!("final");
    resource["category"] = json!([{ "coding": [{
        "system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": category, "display": category
    }] }]);
    resource["code"] = concept(LOINC, code);
    resource["subject"] = to(&scene.patient);
    resource["encounter"] = to(&scene.encounter);
    resource["effectiveDateTime"] = json!(calendar::date_time(scene.at));
    resource["issued"] = json!(calendar::instant(scene.at, scene.at % 1_000));
    resource[value.0] = value.1;
    resource["meta"] = test_data_meta();
    resource
}

/// A measured Observation.
pub fn measured(rng: &mut Rng, scene: &Scene, category: &str, measure: &Measure) -> Value {
    let value = quantity(measure, rng);
    observation(rng, true, scene, category, (measure.code, measure.text), ("valueQuantity", value))
}

fn pressure_components(rng: &mut Rng) -> Value {
    let component = |measure: &Measure, rng: &mut Rng| json!({ "code": concept(LOINC, (measure.code, measure.text)), "valueQuantity": quantity(measure, rng) });
    json!([component(&codes::DIASTOLIC, rng), component(&codes::SYSTOLIC, rng)])
}

const BLOOD_PRESSURE: Coded = ("55284-4", "Pressione arteriosa sistolica e diastolica");

/// A blood pressure, with its two components.
pub fn blood_pressure(rng: &mut Rng, scene: &Scene) -> Value {
    let components = pressure_components(rng);
    observation(rng, true, scene, "vital-signs", BLOOD_PRESSURE, ("component", components))
}

/// What the patient says of smoking.
pub fn smoking(rng: &mut Rng, scene: &Scene) -> Value {
    let answer = concept(LOINC, *rng.pick(codes::SMOKING));
    observation(
        rng,
        true,
        scene,
        "survey",
        ("72166-2", "Abitudine al fumo di tabacco"),
        ("valueCodeableConcept", answer),
    )
}

/// A vital sign without id, to be posted alone.
pub fn single_observation(rng: &mut Rng, patient: &str, encounter: &str) -> Value {
    let at = (crate::population::person::LAST_DAY - rng.between(0, 3_650)) * calendar::DAY_SECONDS + rng.between(25_000, 68_000);
    let scene = Scene {
        patient: patient.to_owned(),
        encounter: encounter.to_owned(),
        practitioner: String::new(),
        at,
    };
    if rng.chance(20) {
        let components = pressure_components(rng);
        return observation(rng, false, &scene, "vital-signs", BLOOD_PRESSURE, ("component", components));
    }
    let measure = rng.pick(codes::VITALS);
    let value = quantity(measure, rng);
    observation(
        rng,
        false,
        &scene,
        "vital-signs",
        (measure.code, measure.text),
        ("valueQuantity", value),
    )
}

/// The report of a laboratory panel, on results already written.
pub fn report(rng: &mut Rng, scene: &Scene, panel: &Panel, results: &[String]) -> Value {
    let results: Vec<Value> = results
        .iter()
        .zip(panel.measures)
        .map(|(target, measure)| json!({ "reference": target, "display": measure.text }))
        .collect();
    json!({
        "resourceType": "DiagnosticReport",
        "id": rng.uuid(),
        "status": "final",
        "category": [{ "coding": [{ "system": "http://terminology.hl7.org/CodeSystem/v2-0074", "code": "LAB", "display": "Laboratory" }] }],
        "code": concept(LOINC, (panel.code, panel.text)),
        "subject": to(&scene.patient),
        "encounter": to(&scene.encounter),
        "effectiveDateTime": calendar::date_time(scene.at),
        "issued": calendar::instant(scene.at, scene.at % 1_000),
        "result": results,
        "meta": test_data_meta()
    })
}

/// A Condition; a short illness has an end.
pub fn condition(rng: &mut Rng, scene: &Scene, diagnosis: Coded, short: bool) -> Value {
    let mut resource = json!({
        "resourceType": "Condition",
        "id": rng.uuid(),
        "clinicalStatus": hl7("condition-clinical", if short { "resolved" } else { "active" }),
        "verificationStatus": hl7("condition-ver-status", "confirmed"),
        "code": concept(ICD9, diagnosis),
        "subject": to(&scene.patient),
        "encounter": to(&scene.encounter),
        "onsetDateTime": calendar::date_time(scene.at),
        "recordedDate": calendar::date_time(scene.at)
    });
    if short {
        resource["abatementDateTime"] = json!(calendar::date_time(scene.at + rng.between(5, 40) * calendar::DAY_SECONDS));
    }
    resource["meta"] = test_data_meta();
    resource
}

/// A Procedure, for a Condition or for none.
pub fn procedure(rng: &mut Rng, scene: &Scene, done: Coded, reason: Option<&Event>) -> Value {
    let mut resource = json!({
        "resourceType": "Procedure",
        "id": rng.uuid(),
        "status": "completed",
        "code": concept(ICD9, done),
        "subject": to(&scene.patient),
        "encounter": to(&scene.encounter),
        "performedPeriod": {
            "start": calendar::date_time(scene.at),
            "end": calendar::date_time(scene.at + rng.between(10, 90) * 60)
        }
    });
    if let Some(reason) = reason {
        resource["reasonReference"] = json!([{ "reference": reason.target, "display": reason.coded.1 }]);
    }
    resource["meta"] = test_data_meta();
    resource
}

/// A MedicationRequest; about half carry a dosage.
pub fn prescription(rng: &mut Rng, scene: &Scene, medicine: Coded, reason: Option<&Event>) -> Value {
    let mut resource = json!({
        "resourceType": "MedicationRequest",
        "id": rng.uuid(),
        "status": if rng.chance(80) { "stopped" } else { "active" },
        "intent": "order",
        "medicationCodeableConcept": concept(ATC, medicine),
        "subject": to(&scene.patient),
        "encounter": to(&scene.encounter),
        "authoredOn": calendar::date_time(scene.at),
        "requester": to(&scene.practitioner)
    });
    if let Some(reason) = reason {
        resource["reasonReference"] = json!([to(&reason.target)]);
    }
    if rng.chance(45) {
        resource["dosageInstruction"] = json!([{
            "sequence": 1,
            "asNeededBoolean": false,
            "timing": { "repeat": { "frequency": rng.between(1, 3), "period": 1.0, "periodUnit": "d" } },
            "doseAndRate": [{ "doseQuantity": { "value": 1.0 } }]
        }]);
    }
    resource["meta"] = test_data_meta();
    resource
}

/// An Immunization.
pub fn immunization(rng: &mut Rng, scene: &Scene, vaccine: Coded) -> Value {
    json!({
        "resourceType": "Immunization",
        "id": rng.uuid(),
        "status": "completed",
        "vaccineCode": concept(ATC, vaccine),
        "patient": to(&scene.patient),
        "encounter": to(&scene.encounter),
        "occurrenceDateTime": calendar::date_time(scene.at),
        "primarySource": true,
        "meta": test_data_meta()
    })
}

/// An AllergyIntolerance.
pub fn allergy(rng: &mut Rng, scene: &Scene, allergen: &(&str, &'static str, &str)) -> Value {
    json!({
        "resourceType": "AllergyIntolerance",
        "id": rng.uuid(),
        "clinicalStatus": hl7("allergyintolerance-clinical", "active"),
        "verificationStatus": hl7("allergyintolerance-verification", "confirmed"),
        "type": "allergy",
        "category": [allergen.2],
        "criticality": if rng.chance(80) { "low" } else { "high" },
        "code": { "coding": [{ "system": ATC, "code": allergen.0, "display": allergen.1 }], "text": allergen.1 },
        "patient": to(&scene.patient),
        "recordedDate": calendar::date_time(scene.at),
        "meta": test_data_meta()
    })
}

/// A Goal of a care plan.
pub fn goal(rng: &mut Rng, scene: &Scene) -> Value {
    json!({
        "resourceType": "Goal",
        "id": rng.uuid(),
        "lifecycleStatus": "active",
        "achievementStatus": hl7("goal-achievement", "in-progress"),
        "description": { "text": "Pressione arteriosa sotto 140/90 mmHg a tutte le misure del mese" },
        "subject": to(&scene.patient),
        "meta": test_data_meta()
    })
}

/// A CarePlan for a Condition, perhaps with a Goal.
pub fn care_plan(rng: &mut Rng, scene: &Scene, reason: &Event, goal: Option<&String>) -> Value {
    let (first, second) = (*rng.pick(codes::ACTIVITIES), *rng.pick(codes::ACTIVITIES));
    let activity = |text: &str| {
        json!({ "detail": { "code": { "text": text }, "status": "in-progress", "location": {
        "display": "Ambulatorio del medico curante"
    } } })
    };
    let mut resource = json!({
        "resourceType": "CarePlan",
        "id": rng.uuid(),
        "text": { "status": "generated", "div": format!(
            "<div xmlns=\"http://www.w3.org/1999/xhtml\"><p>Piano di cura per: {}.</p><ul><li>{first}</li><li>{second}</li></ul></div>",
            reason.coded.1
        ).replace('\'', "&#39;") },
        "status": "active",
        "intent": "order",
        "category": [{ "text": "Percorso terapeutico assistenziale" }],
        "subject": to(&scene.patient),
        "encounter": to(&scene.encounter),
        "period": { "start": calendar::date_time(scene.at) },
        "addresses": [to(&reason.target)]
    });
    if let Some(goal) = goal {
        resource["goal"] = json!([to(goal)]);
    }
    resource["activity"] = json!([activity(first), activity(second)]);
    resource["meta"] = test_data_meta();
    resource
}

/// An ImagingStudy of one image.
pub fn imaging(rng: &mut Rng, scene: &Scene) -> Value {
    let mut uid = || format!("2.25.{}", rng.bits());
    let (study, series, instance) = (uid(), uid(), uid());
    let dicom = "http://dicom.nema.org/resources/ontology/DCM";
    json!({
        "resourceType": "ImagingStudy",
        "id": rng.uuid(),
        "identifier": [{ "use": "official", "system": "urn:dicom:uid", "value": format!("urn:oid:{study}") }],
        "status": "available",
        "subject": to(&scene.patient),
        "encounter": to(&scene.encounter),
        "started": calendar::date_time(scene.at),
        "numberOfSeries": 1,
        "numberOfInstances": 1,
        "series": [{
            "uid": series,
            "number": 1,
            "modality": { "system": dicom, "code": "DX", "display": "Digital Radiography" },
            "numberOfInstances": 1,
            "started": calendar::date_time(scene.at),
            "instance": [{
                "uid": instance, "number": 1, "title": "Radiogramma, proiezione antero-posteriore",
                "sopClass": { "system": "urn:ietf:rfc:3986", "code": "urn:oid:1.2.840.10008.5.1.4.1.1.1.1" }
            }]
        }],
        "meta": test_data_meta()
    })
}
