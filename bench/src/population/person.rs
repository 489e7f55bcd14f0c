//! One person of the population, and the Patient resource that describes her or him.
//!
//! Codice fiscale: decree of the Ministry of Finance of 23 December 1976, article 3 and following.

use serde_json::Value;
use serde_json::json;

use crate::calendar;
use crate::population::codes::CODICE_FISCALE;
use crate::population::codes::TEAM_CARD;
use crate::population::names::AWKWARD_FAMILIES;
use crate::population::names::FAMILY_ENDINGS;
use crate::population::names::FAMILY_STEMS;
use crate::population::names::FEMALE;
use crate::population::names::MALE;
use crate::population::names::MUNICIPALITIES;
use crate::population::names::Municipality;
use crate::population::names::STREETS;
use crate::rng::Rng;

/// The last day of everybody's record, fixed so that a seed gives the same text for ever: 2025-06-30.
pub const LAST_DAY: i64 = 20_269;

/// Oldest age of the population, in days.
const AGE_DAYS_MAX: i64 = 95 * 365;

/// What identifies a person.
pub struct Person {
    pub family: String,
    pub given: &'static str,
    pub female: bool,
    pub birth_day: i64,
    pub birthplace: &'static Municipality,
    pub home: &'static Municipality,
}

/// Draws a person.
pub fn draw(rng: &mut Rng) -> Person {
    let female = rng.chance(51);
    Person {
        family: draw_family(rng),
        given: rng.pick::<&'static str>(if female { FEMALE } else { MALE }),
        female,
        birth_day: LAST_DAY - rng.between(30, AGE_DAYS_MAX),
        birthplace: rng.pick(MUNICIPALITIES),
        home: rng.pick(MUNICIPALITIES),
    }
}

/// Draws a surname: one in thirty is awkward to index.
pub fn draw_family(rng: &mut Rng) -> String {
    if rng.below(30) == 0 {
        return (*rng.pick(AWKWARD_FAMILIES)).to_owned();
    }
    format!("{}{}", rng.pick(FAMILY_STEMS), rng.pick(FAMILY_ENDINGS))
}

/// The codice fiscale of a person, with its check character. Example: Rossi, Mario, 1980-01-01, Roma: `RSSMRA80A01H501U`.
pub fn codice_fiscale(person: &Person) -> String {
    let (year, month, day) = calendar::civil_from_days(person.birth_day);
    let month_letter = char::from(b"ABCDEHLMPRST"[(month - 1) as usize]);
    let day = if person.female { day + 40 } else { day };
    let mut code = format!(
        "{}{}{:02}{month_letter}{day:02}{}",
        family_letters(&person.family),
        given_letters(person.given),
        year % 100,
        person.birthplace.belfiore
    );
    code.push(check_character(&code));
    code
}

fn plain_letters(text: &str) -> impl Iterator<Item = char> {
    text.chars().filter_map(|letter| match letter {
        'à' => Some('A'),
        'è' | 'é' => Some('E'),
        'ì' => Some('I'),
        'ò' => Some('O'),
        'ù' => Some('U'),
        _ if letter.is_ascii_alphabetic() => Some(letter.to_ascii_uppercase()),
        _ => None,
    })
}

fn split_letters(text: &str) -> (Vec<char>, Vec<char>) {
    plain_letters(text).partition(|letter| !"AEIOU".contains(*letter))
}

fn family_letters(family: &str) -> String {
    let (consonants, vowels) = split_letters(family);
    consonants.into_iter().chain(vowels).chain("XXX".chars()).take(3).collect()
}

fn given_letters(given: &str) -> String {
    let (consonants, vowels) = split_letters(given);
    if consonants.len() >= 4 {
        return [consonants[0], consonants[2], consonants[3]].iter().collect();
    }
    consonants.into_iter().chain(vowels).chain("XXX".chars()).take(3).collect()
}

fn check_character(code: &str) -> char {
    const ODD: [u32; 26] = [
        1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23,
    ];
    let sum: u32 = code
        .bytes()
        .enumerate()
        .map(|(position, byte)| {
            let value = if byte.is_ascii_digit() { byte - b'0' } else { byte - b'A' };
            if position % 2 == 0 {
                ODD[usize::from(value)]
            } else {
                u32::from(value)
            }
        })
        .sum();
    char::from(b'A' + (sum % 26) as u8)
}

/// The Patient resource of a person; `id` is absent from a body that is posted alone.
pub fn patient(person: &Person, id: Option<&str>, rng: &mut Rng) -> Value {
    let mut resource = json!({ "resourceType": "Patient" });
    if let Some(id) = id {
        resource["id"] = json!(id);
    }
    let title = if person.female { "Sig.ra" } else { "Sig." };
    let birth_date = calendar::date(person.birth_day);
    resource["text"] = json!({ "status": "generated", "div": format!(
        "<div xmlns=\"http://www.w3.org/1999/xhtml\"><p>{title} {} {}, nascita {birth_date} a {}.</p><p>Persona inventata per le prove \
         di carico: nessun dato riguarda una persona reale.</p></div>",
        person.given, person.family.replace('\'', "&#39;"), person.birthplace.name.replace('\'', "&#39;")
    )});
    resource["extension"] = extensions(person, rng);
    resource["identifier"] = identifiers(person, rng);
    resource["name"] = json!([{ "use": "official", "family": person.family, "given": [person.given], "prefix": [title] }]);
    resource["telecom"] = json!([
        { "system": "phone", "value": format!("0{}", rng.between(10_000_000, 99_999_999)), "use": "home" },
        { "system": "phone", "value": format!("3{}", rng.between(100_000_000, 999_999_999)), "use": "mobile" }
    ]);
    resource["gender"] = json!(if person.female { "female" } else { "male" });
    resource["birthDate"] = json!(birth_date);
    resource["address"] = json!([home_address(person.home, rng)]);
    let (code, text) = if rng.chance(55) {
        ("M", "Coniugata o coniugato")
    } else {
        ("S", "Mai coniugata o coniugato")
    };
    resource["maritalStatus"] = json!({ "coding": [
        { "system": "http://terminology.hl7.org/CodeSystem/v3-MaritalStatus", "code": code }
    ], "text": text });
    resource["multipleBirthBoolean"] = json!(rng.chance(3));
    resource["communication"] =
        json!([{ "language": { "coding": [{ "system": "urn:ietf:bcp:47", "code": "it-IT" }], "text": "Italiano" } }]);
    resource["meta"] = test_data_meta();
    resource
}

/// The `meta` of every resource: HL7's own mark of test data.
pub fn test_data_meta() -> Value {
    json!({ "tag": [{ "system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "HTEST" }] })
}

fn extensions(person: &Person, rng: &mut Rng) -> Value {
    json!([
        {
            "url": "http://hl7.org/fhir/StructureDefinition/patient-mothersMaidenName",
            "valueString": format!("{} {}", rng.pick(FEMALE), draw_family(rng))
        },
        {
            "url": "http://hl7.org/fhir/StructureDefinition/patient-birthPlace",
            "valueAddress": {
                "city": person.birthplace.name, "district": person.birthplace.province,
                "state": person.birthplace.region, "country": "IT"
            }
        },
        {
            "url": "http://hl7.org/fhir/StructureDefinition/patient-citizenship",
            "extension": [{
                "url": "code",
                "valueCodeableConcept": { "coding": [{ "system": "urn:iso:std:iso:3166", "code": "IT" }], "text": "Italia" }
            }]
        }
    ])
}

fn identifier_type(code: &str, text: &str) -> Value {
    json!({ "coding": [{ "system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": code, "display": text }], "text": text })
}

fn identifiers(person: &Person, rng: &mut Rng) -> Value {
    json!([
        {
            "use": "official", "type": identifier_type("NI", "National unique individual identifier"),
            "system": CODICE_FISCALE, "value": codice_fiscale(person)
        },
        {
            "type": identifier_type("HC", "Health Card Number"), "system": TEAM_CARD,
            "value": format!("8038000{:013}", rng.below(10_000_000_000_000)),
            "period": { "start": "2020-01-01", "end": "2025-12-31" }
        },
        {
            "type": identifier_type("MR", "Medical record number"),
            "system": format!("urn:oid:2.16.840.1.113883.2.9.2.{}0.4.6", rng.between(1, 20)),
            "value": rng.uuid()
        },
        {
            "type": identifier_type("AN", "Account number"),
            "system": "urn:oid:2.16.840.1.113883.2.9.4.3.15",
            "value": format!("AN{:09}", rng.below(1_000_000_000)), "assigner": { "display": "Anagrafe nazionale degli assistiti" }
        }
    ])
}

/// An address in a municipality, with its position.
pub fn home_address(place: &Municipality, rng: &mut Rng) -> Value {
    json!({
        "extension": [{
            "url": "http://hl7.org/fhir/StructureDefinition/geolocation",
            "extension": [
                { "url": "latitude", "valueDecimal": place.latitude + rng.real(-0.05, 0.05) },
                { "url": "longitude", "valueDecimal": place.longitude + rng.real(-0.05, 0.05) }
            ]
        }],
        "use": "home",
        "line": [street(rng)],
        "city": place.name,
        "district": place.province,
        "state": place.region,
        "postalCode": place.postal_code,
        "country": "IT"
    })
}

/// A street and a number.
pub fn street(rng: &mut Rng) -> String {
    format!("{}, {}", rng.pick(STREETS), rng.between(1, 180))
}

#[cfg(test)]
mod tests {
    use crate::calendar::days_from_civil;
    use crate::population::names::MUNICIPALITIES;
    use crate::population::person::Person;
    use crate::population::person::codice_fiscale;

    #[test]
    fn a_codice_fiscale_has_its_letters_and_its_check_character() {
        let check = |family: &str, given: &'static str, female: bool, birth_day: i64, expected: &str| {
            let (birthplace, home) = (&MUNICIPALITIES[0], &MUNICIPALITIES[0]);
            let person = Person {
                family: family.to_owned(),
                given,
                female,
                birth_day,
                birthplace,
                home,
            };
            assert_eq!(codice_fiscale(&person), expected);
        };
        check("Rossi", "Mario", false, days_from_civil(1980, 1, 1), "RSSMRA80A01H501U");
        check("Fo", "Gianfranco", true, days_from_civil(1985, 12, 10), "FOXGFR85T50H501W");
    }
}
