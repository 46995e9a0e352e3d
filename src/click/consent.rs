// Hot path: no allocation.
//! What a click's consent parameters say, where the network strips clicks without consent.
//!
//! Two signals withhold it:
//!
//! - `gdpr=1`, and `gdpr_consent` is not a TC string of version 2 that consents to purpose 1, "store
//!   and/or access information on a device". The string is that of the Transparency and Consent
//!   Framework of IAB Europe, laid out in "Transparency and Consent String with Global Vendor & CMP
//!   List Formats" of the IAB Tech Lab. Its core comes first: base64url without padding, fields of
//!   fixed bits, the purposes at bits 152 to 175. What comes behind them (vendors, publishers'
//!   restrictions) is not looked at: which vendor a network is, is not known here.
//! - The US Privacy string, `1` and three letters, opts out of the sale by its third character, `Y`;
//!   or `ccpa_optout` says so itself.
//!
//! Where something is said more than once, by a repeated parameter or by its two names, what
//! withholds consent counts.

/// The first purpose's place in a TC string, bits.
const PURPOSE_1_BIT: usize = 152;
/// Where the string says that its country has no use for purpose 1, which is not asked for then.
const PURPOSE_ONE_TREATMENT_BIT: usize = 200;
/// The version of TC strings since August 2020.
const TC_VERSION: u8 = 2;
/// Bits of a base64 digit.
const DIGIT_BITS: usize = 6;
/// Digits of a string's core up to the publisher's country, all of them required.
const CORE_DIGITS_MIN: usize = 36;

/// Whether the visitor has not consented to be kept.
#[must_use]
pub fn is_withheld(gdpr: &str, gdpr_consent: &str, us_privacy: &str) -> bool {
    (applies(gdpr) && !consents(gdpr_consent)) || opts_out(us_privacy)
}

/// Whether `gdpr` says that the visitor has to be asked.
pub(super) fn applies(gdpr: &str) -> bool {
    is_yes(gdpr)
}

fn is_yes(word: &str) -> bool {
    ["1", "true", "yes", "y"].iter().any(|yes| yes.eq_ignore_ascii_case(word))
}

/// Whether a TC string consents to purpose 1.
pub(super) fn consents(text: &str) -> bool {
    let core = text.split('.').next().unwrap_or_default().as_bytes();
    if core.len() < CORE_DIGITS_MIN || core.iter().any(|byte| digit(*byte).is_none()) {
        return false;
    }
    let is_set = |bit: usize| {
        let digit = core.get(bit / DIGIT_BITS).and_then(|byte| digit(*byte));
        digit.is_some_and(|digit| digit >> (DIGIT_BITS - 1 - bit % DIGIT_BITS) & 1 == 1)
    };
    digit(core[0]) == Some(TC_VERSION)
        && (is_set(PURPOSE_1_BIT) || is_set(PURPOSE_ONE_TREATMENT_BIT))
}

/// The six bits of a base64url digit.
const fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'-' => Some(62),
        b'_' => Some(63),
        _ => None,
    }
}

/// Whether `us_privacy` or `ccpa_optout` opts out of the sale.
pub(super) fn opts_out(text: &str) -> bool {
    match text.as_bytes() {
        [b'1', _, opted_out, _] => opted_out.eq_ignore_ascii_case(&b'Y'),
        _ => is_yes(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The Tech Lab's own example: purposes 1, 2 and 3.
    const CONSENT: &str = "COvFyGBOvFyGBAbAAAENAPCAAOAAAAAAAAAAAEEUACCKAAA.IFoEUQQgAIQwgIwQABAEAAAAOIAACAIAAAAQAIAgEAACEAAAAAgAQBAAAAAAAGBAAgAAAAAAAFAAECAAAgAAQARAEQAAAAAJAAIAAgAAAYQEAAAQmAgBC3ZAYzUw";

    /// The example with another digit at a place.
    fn with(place: usize, digit: &str) -> String {
        let mut text = CONSENT.to_owned();
        text.replace_range(place..=place, digit);
        text
    }

    #[test]
    fn where_the_gdpr_applies_a_valid_string_must_consent_to_purpose_1() {
        let check = |gdpr: &str, consent: &str, withheld: bool| {
            assert_eq!(is_withheld(gdpr, consent, ""), withheld, "gdpr={gdpr:?} {consent:?}");
        };
        for gdpr in ["1", "true"] {
            check(gdpr, CONSENT, false);
            check(gdpr, "", true);
            check(gdpr, "1", true);
            check(gdpr, "{gdpr_consent}", true);
            // The old version, and purposes 2 and 3 alone.
            check(gdpr, &with(0, "B"), true);
            check(gdpr, &with(25, "G"), true);
            // Purpose 1 alone; not disclosed, and so not asked for.
            check(gdpr, &with(25, "I"), false);
            let undisclosed = with(25, "G");
            check(gdpr, &format!("{}I{}", &undisclosed[..33], &undisclosed[34..]), false);
            // Cut short, cut behind the core's fixed part, damaged.
            check(gdpr, &CONSENT[..35], true);
            check(gdpr, &CONSENT[..36], false);
            check(gdpr, &with(40, "+"), true);
            check(gdpr, &with(40, "é"), true);
        }
        for gdpr in ["", "0", "false", "maybe"] {
            check(gdpr, "", false);
            check(gdpr, "x", false);
        }
    }

    #[test]
    fn the_us_privacy_string_opts_out_by_its_third_character() {
        let check = |text: &str, withheld: bool| {
            assert_eq!(is_withheld("", "", text), withheld, "{text:?}");
        };
        for text in ["1YYN", "1NYN", "1yyn", "1", "true", "Y"] {
            check(text, true);
        }
        for text in ["", "0", "1YNN", "1---", "1NNY", "2YYN", "1YY", "1YYNN", "ÄYYN"] {
            check(text, false);
        }
    }
}
