//! Countries, as whoever stands in front of the server tells them.

use std::fmt;

/// A country: two upper-case ASCII letters, in general a code of ISO 3166-1. The list is not
/// asked: it changes, and a network's proxy may be ahead of a release.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Country([u8; 2]);

/// Codes by which CDNs and databases say that they do not know.
const UNKNOWN: [[u8; 2]; 2] = [*b"XX", *b"ZZ"];

impl Country {
    /// Reads a code in any case; `None` for what is none, such as Cloudflare's `T1` for Tor, and
    /// for the codes that stand for an unknown country.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let code: [u8; 2] = text.as_bytes().try_into().ok()?;
        Self::from_bytes(code.map(|letter| letter.to_ascii_uppercase()))
            .filter(|country| !UNKNOWN.contains(&country.0))
    }

    /// Reads a stored code, upper case only.
    #[must_use]
    pub fn from_bytes(code: [u8; 2]) -> Option<Self> {
        code.iter().all(u8::is_ascii_uppercase).then_some(Self(code))
    }

    /// The code as stored.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 2] {
        self.0
    }

    /// The code.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("only ASCII letters are constructed")
    }
}

impl fmt::Display for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_letters_are_a_country_and_nothing_else_is() {
        let check = |text: &str, expected: Option<&str>| {
            let country = Country::parse(text);
            assert_eq!(country.as_ref().map(Country::as_str), expected, "{text:?}");
        };
        check("DE", Some("DE"));
        check("de", Some("DE"));
        check("gB", Some("GB"));
        check("XK", Some("XK")); // Kosovo: in use, not in the list
        for nothing in ["", "D", "DEU", "T1", "A1", "D ", " DE", "--", "XX", "zz", "\u{e4}"] {
            check(nothing, None);
        }
    }

    #[test]
    fn a_stored_code_is_read_back_and_a_damaged_one_is_not() {
        let country = Country::parse("de").expect("a country");
        assert_eq!(Country::from_bytes(country.to_bytes()), Some(country));
        assert_eq!(Country::from_bytes(*b"de"), None);
        assert_eq!(Country::from_bytes([0xc3, 0xa4]), None);
    }
}
