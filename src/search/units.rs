//! Units of measure: what makes 5.4 mg and 0.0054 g the same. Spec: <https://hl7.org/fhir/R4/search.html#quantity>, <https://ucum.org/ucum>.
//!
//! The index has each quantity as it was written. Each unit that was ever written stands once in the table `unit`, with how it measures, so
//! that a search looks into the index once for each unit of the same dimension, with its bounds converted (`search::compile`).

use crate::fhir::systems;
use octofhir_ucum::Number;
use octofhir_ucum::evaluate;
use octofhir_ucum::get_canonical_units;
use octofhir_ucum::parse_expression;
use std::fmt::Write;

pub const UCUM: &str = "http://unitsofmeasure.org";

/// Longer codes are compared as text: no unit that someone measures in is as long.
const CODE_LENGTH_MAX: usize = 100;
/// Powers of ten of a unit's factor, and of a value in its canonical unit, within which binary numbers hold what is converted.
const FACTOR_EXPONENT_MAX: i32 = 90;
const VALUE_EXPONENT_MAX: i32 = 180;

/// How a unit measures: a value in it is `value * factor + shift` of the dimension's canonical unit.
#[derive(Debug, Clone, PartialEq)]
pub struct Measure {
    /// The canonical unit, such as `g.m-3`. Units of the same have values that can be compared.
    pub dimension: String,
    factor: Number,
    shift: Number,
}

impl Measure {
    /// `None` if the system is not UCUM, or UCUM has no such unit: its values are compared with those of the same text only.
    ///
    /// Units on a scale that is not linear (`[pH]`, `B[V]`) are compared with their own multiples only, arbitrary ones (`[IU]`) as UCUM says: with
    /// multiples of the same arbitrary unit.
    pub fn of(system: &str, code: &str) -> Option<Measure> {
        if systems::canonical(system) != UCUM || code.is_empty() || code.len() > CODE_LENGTH_MAX {
            return None;
        }
        let measure = match get_canonical_units(code) {
            Ok(canonical) => Measure {
                dimension: canonical.unit,
                factor: canonical.factor,
                shift: canonical.offset,
            },
            Err(_) => {
                let special = evaluate(&parse_expression(code).ok()?).ok()?.special?;
                Measure {
                    dimension: format!("scale of {}", special.unit.code),
                    factor: special.scale,
                    shift: Number::ZERO,
                }
            }
        };
        let (_, exponent) = measure.factor.to_integer_and_exponent();
        let is_convertible = exponent.abs() <= FACTOR_EXPONENT_MAX && !measure.factor.is_zero() && !measure.factor.is_negative();
        is_convertible.then_some(measure)
    }

    /// A value in this unit as one in the canonical unit; `None` if it is too large or small to be told apart.
    pub fn canonical(&self, value: Number) -> Option<Number> {
        let canonical = value.checked_mul(self.factor)?.checked_add(self.shift)?;
        let (_, exponent) = canonical.to_integer_and_exponent();
        (exponent.abs() <= VALUE_EXPONENT_MAX).then_some(canonical)
    }

    pub fn factor(&self) -> String {
        decimal(self.factor)
    }

    pub fn shift(&self) -> String {
        decimal(self.shift)
    }
}

/// A number as text that the database reads as a decimal, without loss.
pub fn decimal(number: Number) -> String {
    let (digits, exponent) = number.to_integer_and_exponent();
    let mut text = digits.to_string();
    if exponent != 0 {
        let _ = write!(text, "e{exponent}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measure(code: &str) -> Measure {
        Measure::of(UCUM, code).expect(code)
    }

    #[test]
    fn units_of_one_dimension_measure_the_same() {
        for (one, other) in [
            ("mg", "kg"),
            ("mm[Hg]", "kPa"),
            ("Cel", "[degF]"),
            ("mmol/L", "umol/mL"),
            ("10*3/uL", "/nL"),
            ("%", "1"),
            ("[IU]/L", "m[IU]/mL"),
            ("dB[V]", "B[V]"),
            ("/min", "Hz"),
        ] {
            assert_eq!(measure(one).dimension, measure(other).dimension, "{one} {other}");
        }
        for (one, other) in [
            ("mg", "mL"),
            ("mmol/L", "mg/dL"),
            ("[IU]", "[arb'U]"),
            ("[IU]", "1"),
            ("[pH]", "mol/L"),
            ("B[V]", "V"),
        ] {
            assert_ne!(measure(one).dimension, measure(other).dimension, "{one} {other}");
        }
    }

    #[test]
    fn values_are_converted_without_loss() {
        let canonical = |value: &str, code: &str| measure(code).canonical(Number::parse(value).expect(value)).map(decimal);
        for (value, code, expected) in [
            ("5.35", "mg", "535e-5"),
            ("0.00535", "g", "535e-5"),
            ("37", "Cel", "31015e-2"),
            ("12", "[in_i]", "3048e-4"),
            ("0.1", "kg", "1e2"),
            ("25", "dB[V]", "25e-1"),
        ] {
            assert_eq!(canonical(value, code).as_deref(), Some(expected), "{value} {code}");
        }
        assert_eq!(canonical("1e300", "kg"), None);
    }

    #[test]
    fn what_is_no_unit_of_ucum_measures_nothing() {
        for (system, code) in [
            (UCUM, "milligrammi"),
            (UCUM, ""),
            (UCUM, "mg|g"),
            ("http://other", "mg"),
            ("", "mg"),
            (UCUM, "Ym99"),
            (UCUM, &"m.".repeat(400)),
            (UCUM, "((((((((("),
        ] {
            assert_eq!(Measure::of(system, code), None, "{system} {code}");
        }
        assert!(Measure::of("urn:oid:2.16.840.1.113883.6.8", "mg").is_some());
    }
}
