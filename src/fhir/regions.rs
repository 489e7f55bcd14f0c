//! Italy's regions and autonomous provinces, and SASN, as the FSE numbers them: three digits, and in OIDs without leading zeros.
//! Source: GTW integration guide 15.3.7, `2.16.840.1.113883.2.9.2.<REG>.4.4` of document identifiers.

/// Code and name; the place is the region's bit in masks, so the order never changes.
pub const REGIONS: [(&str, &str); 22] = [
    ("010", "Piemonte"),
    ("020", "Valle d'Aosta"),
    ("030", "Lombardia"),
    ("041", "Provincia autonoma di Bolzano"),
    ("042", "Provincia autonoma di Trento"),
    ("050", "Veneto"),
    ("060", "Friuli-Venezia Giulia"),
    ("070", "Liguria"),
    ("080", "Emilia-Romagna"),
    ("090", "Toscana"),
    ("100", "Umbria"),
    ("110", "Marche"),
    ("120", "Lazio"),
    ("130", "Abruzzo"),
    ("140", "Molise"),
    ("150", "Campania"),
    ("160", "Puglia"),
    ("170", "Basilicata"),
    ("180", "Calabria"),
    ("190", "Sicilia"),
    ("200", "Sardegna"),
    ("001", "SASN"),
];

/// The region's bit; `None` for what is no region.
pub fn bit(code: &str) -> Option<i16> {
    REGIONS.iter().position(|(known, _)| *known == code).map(|place| place as i16)
}

/// The region whose document this is: `2.16.840.1.113883.2.9.2.120.4.4^290700` is of 120.
pub fn of_document(identifier: &str) -> Option<&'static str> {
    let rest = identifier.strip_prefix("2.16.840.1.113883.2.9.2.")?;
    let number = rest.split('.').next()?;
    REGIONS
        .iter()
        .map(|(code, _)| *code)
        .find(|code| code.trim_start_matches('0') == number && *code != "001")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_tells_its_region() {
        assert_eq!(of_document("2.16.840.1.113883.2.9.2.120.4.4^1"), Some("120"));
        assert_eq!(of_document("2.16.840.1.113883.2.9.2.90.4.4^1"), Some("090"));
        for other in [
            "2.16.840.1.113883.2.9.4.3.8^1",
            "2.16.840.1.113883.2.9.2.999.4.4^1",
            "",
            "x^y",
            "2.16.840.1.113883.2.9.2.1.4.4^1",
        ] {
            assert_eq!(of_document(other), None, "{other}");
        }
        assert_eq!(bit("120"), Some(12));
        assert_eq!(bit("111"), None);
    }
}
