//! The course of a record: about seventeen visits in ten years, and what each leaves behind.

use crate::calendar;
use crate::population::billing;
use crate::population::billing::Bill;
use crate::population::clinical;
use crate::population::clinical::Event;
use crate::population::clinical::Scene;
use crate::population::codes;
use crate::population::codes::ATC;
use crate::population::codes::Coded;
use crate::population::codes::ICD9;
use crate::population::codes::Panel;
use crate::population::draft::Draft;
use crate::population::person::LAST_DAY;

/// How far back a record goes, in days.
const RECORD_DAYS: i64 = 3_650;

/// Why the patient comes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Wellness,
    Illness,
}

/// Writes all the visits of the drafted patient, oldest first.
pub fn write_record(draft: &mut Draft) {
    let visits = plan(draft);
    let half = visits.len() / 2;
    if draft.rng.chance(25) {
        write_allergies(draft, visits.first().map_or(0, |visit| visit.0));
    }
    for (number, (at, purpose)) in visits.into_iter().enumerate() {
        if number == half && draft.rng.chance(40) {
            draft.change_institution();
        }
        write_visit(draft, at, purpose);
    }
}

/// When the patient comes, in seconds since 1970, and why: 8 to 11 regular checks, and 4 to 10 other visits.
fn plan(draft: &mut Draft) -> Vec<(i64, Purpose)> {
    let days = RECORD_DAYS.min(LAST_DAY - draft.person.birth_day);
    let checks = draft.rng.between(8, 11);
    let others = draft.rng.between(4, 10);
    let mut visits = Vec::new();
    for number in 0..checks {
        visits.push((LAST_DAY - days * number / checks, Purpose::Wellness));
    }
    for _ in 0..others {
        visits.push((LAST_DAY - draft.rng.between(0, days - 1), Purpose::Illness));
    }
    visits.sort_by_key(|visit| visit.0);
    visits
        .into_iter()
        .map(|(day, purpose)| (day * calendar::DAY_SECONDS + draft.rng.between(25_000, 68_000), purpose))
        .collect()
}

fn scene(draft: &Draft, at: i64) -> Scene {
    Scene {
        patient: draft.patient.clone(),
        encounter: String::new(),
        practitioner: draft.practitioner.clone(),
        at,
    }
}

fn write_allergies(draft: &mut Draft, at: i64) {
    let scene = scene(draft, at);
    let first = draft.rng.below(codes::ALLERGENS.len());
    for number in 0..draft.rng.between(1, 8) as usize {
        let allergen = &codes::ALLERGENS[(first + number) % codes::ALLERGENS.len()];
        let allergy = clinical::allergy(&mut draft.rng, &scene, allergen);
        draft.push("AllergyIntolerance", allergy);
    }
}

fn write_visit(draft: &mut Draft, at: i64, purpose: Purpose) {
    let (class, kind) = match purpose {
        Purpose::Wellness => ("AMB", codes::WELLNESS),
        Purpose::Illness if draft.rng.chance(13) => ("EMER", codes::EMERGENCY),
        Purpose::Illness if draft.rng.chance(1) => ("IMP", codes::EMERGENCY),
        Purpose::Illness => ("AMB", *draft.rng.pick(codes::SICK)),
    };
    let ill = purpose == Purpose::Illness && draft.rng.chance(60);
    let short = draft.rng.chance(67);
    let diagnosis = *draft.rng.pick(if short { codes::ACUTE } else { codes::CHRONIC });
    let mut scene = scene(draft, at);
    let organization = draft.organization.clone();
    let encounter = clinical::encounter(&mut draft.rng, &scene, &organization, class, kind, ill.then_some(diagnosis));
    scene.encounter = draft.push("Encounter", encounter);
    let mut bill = Bill {
        kind,
        diagnoses: Vec::new(),
        procedures: Vec::new(),
        immunizations: Vec::new(),
    };
    if ill {
        let condition = clinical::condition(&mut draft.rng, &scene, diagnosis, short);
        let target = draft.push("Condition", condition);
        bill.diagnoses.push(Event {
            target,
            system: ICD9,
            coded: diagnosis,
        });
    }
    match purpose {
        Purpose::Wellness => write_check(draft, &scene, &mut bill),
        Purpose::Illness => write_illness(draft, &scene, &mut bill),
    }
    write_bill(draft, &scene, &bill);
}

fn write_check(draft: &mut Draft, scene: &Scene, bill: &mut Bill) {
    let vitals = if draft.rng.chance(80) { codes::VITALS } else { &codes::VITALS[..3] };
    for measure in vitals {
        let observation = clinical::measured(&mut draft.rng, scene, "vital-signs", measure);
        draft.push("Observation", observation);
    }
    let pressure = clinical::blood_pressure(&mut draft.rng, scene);
    draft.push("Observation", pressure);
    let smoking = clinical::smoking(&mut draft.rng, scene);
    draft.push("Observation", smoking);
    for (percent, panel) in [18, 16, 3].into_iter().zip(codes::PANELS) {
        if draft.rng.chance(percent) {
            write_panel(draft, scene, panel);
        }
    }
    let mut vaccines = 1 + usize::from(draft.rng.chance(35)) + usize::from(draft.rng.chance(20));
    let first = draft.rng.below(codes::VACCINES.len());
    while vaccines > 0 {
        vaccines -= 1;
        let vaccine = codes::VACCINES[(first + vaccines) % codes::VACCINES.len()];
        let immunization = clinical::immunization(&mut draft.rng, scene, vaccine);
        let target = draft.push("Immunization", immunization);
        bill.immunizations.push(Event {
            target,
            system: ATC,
            coded: vaccine,
        });
    }
    if draft.rng.chance(25) {
        write_procedure(draft, scene, bill);
    }
}

fn write_panel(draft: &mut Draft, scene: &Scene, panel: &Panel) {
    let mut results = Vec::new();
    for measure in panel.measures {
        let observation = clinical::measured(&mut draft.rng, scene, "laboratory", measure);
        results.push(draft.push("Observation", observation));
    }
    let report = clinical::report(&mut draft.rng, scene, panel, &results);
    draft.push("DiagnosticReport", report);
}

fn write_procedure(draft: &mut Draft, scene: &Scene, bill: &mut Bill) {
    let done: Coded = *draft.rng.pick(codes::PROCEDURES);
    let procedure = clinical::procedure(&mut draft.rng, scene, done, bill.diagnoses.first());
    let target = draft.push("Procedure", procedure);
    bill.procedures.push(Event {
        target,
        system: ICD9,
        coded: done,
    });
}

fn write_illness(draft: &mut Draft, scene: &Scene, bill: &mut Bill) {
    for (percent, measure) in [(11, &codes::TEMPERATURE), (8, &codes::FILTRATION)] {
        if draft.rng.chance(percent) {
            let observation = clinical::measured(&mut draft.rng, scene, "vital-signs", measure);
            draft.push("Observation", observation);
        }
    }
    if draft.rng.chance(60) {
        write_procedure(draft, scene, bill);
    }
    if draft.rng.chance(1) {
        let study = clinical::imaging(&mut draft.rng, scene);
        draft.push("ImagingStudy", study);
    }
    if let Some(reason) = bill.diagnoses.first().cloned()
        && draft.rng.chance(43)
    {
        let goal = draft.rng.chance(22).then(|| clinical::goal(&mut draft.rng, scene));
        let goal = goal.map(|goal| draft.push("Goal", goal));
        let plan = clinical::care_plan(&mut draft.rng, scene, &reason, goal.as_ref());
        draft.push("CarePlan", plan);
    }
    if draft.rng.chance(53) {
        let medicine = *draft.rng.pick(codes::MEDICINES);
        let prescription = clinical::prescription(&mut draft.rng, scene, medicine, bill.diagnoses.first());
        let target = draft.push("MedicationRequest", prescription);
        let organization = draft.organization.clone();
        let claim = billing::pharmacy_claim(&mut draft.rng, scene, &organization, bill, &target);
        draft.push("Claim", claim);
    }
}

fn write_bill(draft: &mut Draft, scene: &Scene, bill: &Bill) {
    let organization = draft.organization.clone();
    let claim = billing::visit_claim(&mut draft.rng, scene, &organization, bill);
    let target = draft.push("Claim", claim);
    let explanation = billing::explanation(&mut draft.rng, scene, bill, &target);
    draft.push("ExplanationOfBenefit", explanation);
}
