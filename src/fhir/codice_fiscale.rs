//! The Italian tax code: 16 characters with a check character, or the provisional one of 11 digits.
//!
//! Sources: decree of the Ministry of Finance of 23 December 1976 (check character, month letters, day of birth plus 40 for
//! women) and of 12 March 1974 on homonyms (omocodia: letters in place of digits). Half of the codes in official examples are
//! wrong, so a wrong one is never a reason to refuse a resource.

/// What is wrong with a text that should be a codice fiscale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Neither 16 characters nor 11 digits.
    Length,
    /// A character that cannot stand at its place.
    Format,
    /// The month letter or the day of birth does not exist.
    BirthDate,
    /// The last character does not follow from the others.
    Check,
}

impl Fault {
    /// What would be right, for a message; never the code itself.
    pub fn text(self) -> &'static str {
        match self {
            Fault::Length => "a codice fiscale has 16 characters, or 11 digits when provisional",
            Fault::Format => {
                "a codice fiscale is six letters, two digits, a letter, two digits, a letter, three digits and a letter (digits may be LMNPQRSTUV)"
            }
            Fault::BirthDate => "the month letter is one of ABCDEHLMPRST, the day 01-31 or 41-71",
            Fault::Check => "the last character is not the check character of the others",
        }
    }
}

const SHAPE: &[u8; 16] = b"AAAAAA00A00A000A";
const OMOCODIA: &[u8; 10] = b"LMNPQRSTUV";
const MONTHS: &[u8; 12] = b"ABCDEHLMPRST";
/// What a character at an odd place counts, by its place in 0-9 or A-Z.
const ODD: [u32; 26] = [
    1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23,
];

/// Checks a codice fiscale, in capitals or small letters.
/// Example: `check("RSSMRA80A01H501U")` is `Ok(())`.
pub fn check(text: &str) -> Result<(), Fault> {
    let code = text.to_ascii_uppercase();
    match code.len() {
        16 => check_personal(code.as_bytes()),
        11 => check_provisional(code.as_bytes()),
        _ => Err(Fault::Length),
    }
}

fn check_personal(code: &[u8]) -> Result<(), Fault> {
    let mut digits = [0u8; 16];
    for (i, byte) in code.iter().enumerate() {
        digits[i] = match (SHAPE[i], byte) {
            (b'A', b'A'..=b'Z') => 0,
            (b'0', b'0'..=b'9') => byte - b'0',
            (b'0', byte) => OMOCODIA.iter().position(|letter| letter == byte).ok_or(Fault::Format)? as u8,
            _ => return Err(Fault::Format),
        };
    }
    let day = digits[9] * 10 + digits[10];
    if !MONTHS.contains(&code[8]) || !matches!(day, 1..=31 | 41..=71) {
        return Err(Fault::BirthDate);
    }
    if check_character(&code[..15]) == code[15] {
        Ok(())
    } else {
        Err(Fault::Check)
    }
}

/// The check character of the first 15, which are digits and capitals.
fn check_character(code: &[u8]) -> u8 {
    let sum: u32 = code
        .iter()
        .enumerate()
        .map(|(i, byte)| {
            let place = if byte.is_ascii_digit() { byte - b'0' } else { byte - b'A' };
            // The first character is at an odd place.
            if i % 2 == 0 { ODD[place as usize] } else { u32::from(place) }
        })
        .sum();
    b'A' + (sum % 26) as u8
}

/// Eleven digits with the check digit of a partita IVA.
fn check_provisional(code: &[u8]) -> Result<(), Fault> {
    if !code.iter().all(u8::is_ascii_digit) {
        return Err(Fault::Format);
    }
    if sum_of_luhn(code).is_multiple_of(10) {
        Ok(())
    } else {
        Err(Fault::Check)
    }
}

/// Eleven digits, the last of them the check digit.
pub fn is_partita_iva(text: &str) -> bool {
    text.len() == 11 && check_provisional(text.as_bytes()).is_ok()
}

/// The digits at even places count double, their digits added up.
fn sum_of_luhn(code: &[u8]) -> u32 {
    code.iter()
        .enumerate()
        .map(|(i, byte)| {
            let digit = u32::from(byte - b'0');
            match (i % 2, digit) {
                (0, _) => digit,
                (_, 0..=4) => 2 * digit,
                _ => 2 * digit - 9,
            }
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn right_codes_pass_and_each_fault_is_named() {
        for (code, expected) in [
            ("RSSMRA80A01H501U", Ok(())),
            ("rssmra80a01h501u", Ok(())),
            // Omocodia: digits replaced from the right, with a check character of its own.
            ("RSSMRA80A01H50MN", Err(Fault::Check)),
            ("RSSMRA80A41H501Y", Ok(())),
            ("RSSMRA80A01H501X", Err(Fault::Check)),
            ("RSSMRA80F01H501U", Err(Fault::BirthDate)),
            ("RSSMRA80A32H501U", Err(Fault::BirthDate)),
            ("RSSMRA80A00H501U", Err(Fault::BirthDate)),
            ("PROVAX00X00X000Y", Err(Fault::BirthDate)),
            ("RSSMRA8OA01H501U", Err(Fault::Format)),
            ("RSSM1A80A01H501U", Err(Fault::Format)),
            ("RSSMRA80A01H501", Err(Fault::Length)),
            ("", Err(Fault::Length)),
            ("RSSMRÀ80A01H501", Err(Fault::Format)),
            ("00743110157", Ok(())),
            ("12345678910", Err(Fault::Check)),
            ("1234567891A", Err(Fault::Format)),
        ] {
            assert_eq!(check(code), expected, "{code}");
        }
    }

    #[test]
    fn omocodia_letters_stand_for_digits() {
        let mut code = *b"RSSMRA80A01H50MA";
        code[15] = check_character(&code[..15]);
        assert_eq!(check(std::str::from_utf8(&code).expect("ascii")), Ok(()));
    }
}
