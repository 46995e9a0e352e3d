//! Personal data in what is kept of a parameter: e-mail addresses and telephone numbers are found
//! by their form and masked. Transaction IDs, click IDs, amounts and times have other forms, and
//! are left alone. Secrets are found by their names.

use std::borrow::Cow;
use std::ops::Range;

/// What stands for an e-mail address.
pub const EMAIL: &str = "(email)";
/// What stands for a telephone number.
pub const PHONE: &str = "(phone)";
/// What stands for a secret, and all behind it.
pub const SECRET: &str = "(secret)";

/// Digits of a telephone number, country code included (ITU-T E.164).
const PHONE_DIGITS: std::ops::RangeInclusive<usize> = 7..=15;
/// Digits of a number that is written with its area in parentheses.
const AREA_DIGITS: usize = 3;
/// Characters before an address's `@` that are looked at (RFC 5321).
const LOCAL_CHARS_MAX: usize = 64;
/// Letters of a top-level domain.
const TOP_LEVEL_LETTERS_MIN: usize = 2;
/// Parts of a parameter's name that say its value is a telephone number.
const PHONE_NAMES: [&str; 4] = ["phone", "msisdn", "whatsapp", "mobile"];

/// A decoded value without its e-mail addresses and telephone numbers; `None` if it has none.
///
/// An address is also found if its `@` is still percent-encoded, a number by its `+` (or the space
/// that a `+` became when it was decoded), or by an area code in parentheses. Digits alone are no
/// number: transaction IDs, times and amounts have them, too.
#[must_use]
pub fn mask(value: &str) -> Option<String> {
    let without_emails = replace(value, EMAIL, |rest, _| find_email(rest));
    let rest = without_emails.as_deref().unwrap_or(value);
    replace(rest, PHONE, find_phone).or(without_emails)
}

/// `value` with `word` in place of all that `find` finds in what is left of it; `None` if that is
/// nothing. `find` also hears whether anything stood before.
fn replace(
    value: &str,
    word: &str,
    find: impl Fn(&str, bool) -> Option<Range<usize>>,
) -> Option<String> {
    let (mut masked, mut rest) = (None, value);
    while let Some(place) = find(rest, rest.len() == value.len()) {
        let out = masked.get_or_insert_with(String::new);
        out.push_str(&rest[..place.start]);
        out.push_str(word);
        rest = &rest[place.end..];
    }
    masked.map(|masked| masked + rest)
}

/// As [`mask`], for a parameter of this name: one that is called a telephone number is masked if
/// it looks like one at all.
#[must_use]
pub fn mask_named(name: &str, value: &str) -> Option<String> {
    if is_phone_name(name) && is_phone_alone(value) {
        return Some(PHONE.to_owned());
    }
    mask(value)
}

/// Whether a parameter of this name is a telephone number.
#[must_use]
pub fn is_phone_name(name: &str) -> bool {
    let name = lower(name);
    PHONE_NAMES.iter().any(|part| name.contains(part))
        || name.split(|c: char| !c.is_ascii_alphanumeric()).any(|part| part == "tel")
}

/// A value as far as nothing stands in it that `hides` says is secret, by its name or what it is:
/// many put `?token=` behind a URL that has its `?`.
#[must_use]
pub fn before_secret(value: &str, hides: impl Fn(&str, &str) -> bool) -> &str {
    let begins_one = |at: &usize| {
        let Some((name, rest)) = value[at + 1..].split_once('=') else { return false };
        hides(name, rest.split(['?', '&']).next().unwrap_or_default())
    };
    let begin = memchr::memchr2_iter(b'?', b'&', value.as_bytes()).find(begins_one);
    begin.map_or(value, |at| &value[..at])
}

/// Whether something was put into a value in place of what it had. A sender may write the same words; then its
/// value counts as masked.
#[must_use]
pub fn is_masked(value: &str) -> bool {
    [EMAIL, PHONE, SECRET].iter().any(|word| value.contains(word))
}

fn lower(name: &str) -> Cow<'_, str> {
    match name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        true => name.to_ascii_lowercase().into(),
        false => name.into(),
    }
}

fn find_email(text: &str) -> Option<Range<usize>> {
    let mut from = 0;
    while let Some((at, sign)) = next_at_sign(text, from) {
        from = at + sign;
        let start = text[..at]
            .char_indices()
            .rev()
            .take(LOCAL_CHARS_MAX)
            .take_while(|(_, c)| is_local(*c))
            .last()
            .map_or(at, |(start, _)| start);
        let Some(domain) = domain_bytes(&text[from..]) else { continue };
        if start < at {
            return Some(start..from + domain);
        }
    }
    None
}

/// The next `@`, plain or percent-encoded, and its length.
fn next_at_sign(text: &str, from: usize) -> Option<(usize, usize)> {
    let bytes = text.as_bytes();
    (from..bytes.len()).find_map(|at| match bytes[at] {
        b'@' => Some((at, 1)),
        b'%' if bytes[at + 1..].starts_with(b"40") => Some((at, 3)),
        _ => None,
    })
}

fn is_local(c: char) -> bool {
    c.is_alphanumeric() || "!#$%'*+-./=?^_`{|}~".contains(c)
}

/// The length of a domain at the start of `text`: labels with dots between, the last of letters.
fn domain_bytes(text: &str) -> Option<usize> {
    let is_part = |c: char| c.is_alphanumeric() || c == '-' || c == '.';
    let all = text.find(|c| !is_part(c)).unwrap_or(text.len());
    let domain = text[..all].trim_end_matches(['.', '-']);
    let (before, last) = domain.rsplit_once('.')?;
    let letters = last.chars().take_while(|c| c.is_alphabetic()).count();
    let is_domain =
        !before.is_empty() && (letters >= TOP_LEVEL_LETTERS_MIN || last.starts_with("xn--"));
    is_domain.then_some(domain.len())
}

fn find_phone(text: &str, at_start: bool) -> Option<Range<usize>> {
    let bytes = text.as_bytes();
    let stands_alone = |at: usize| at == 0 || !bytes[at - 1].is_ascii_alphanumeric();
    (0..bytes.len()).find_map(|at| {
        let digits_from = match bytes[at] {
            b'+' if stands_alone(at) => at + 1,
            b'%' if stands_alone(at) && is_escaped_plus(&bytes[at + 1..]) => at + 3,
            // A `+` at the start that was decoded as a space.
            b' ' if at == 0 && at_start => at + 1,
            b'(' if stands_alone(at) && has_area(&bytes[at..]) => at,
            _ => return None,
        };
        let end = digits_from + phone_bytes(&bytes[digits_from..])?;
        Some(at..end)
    })
}

fn is_escaped_plus(bytes: &[u8]) -> bool {
    bytes.starts_with(b"2B") || bytes.starts_with(b"2b")
}

/// `(555)` and what follows it.
fn has_area(bytes: &[u8]) -> bool {
    let area = &bytes[1..];
    let digits = area.iter().take_while(|byte| byte.is_ascii_digit()).count();
    digits == AREA_DIGITS && area.get(digits) == Some(&b')')
}

/// The length of a number at the start of `bytes`: enough digits, perhaps with separators.
fn phone_bytes(bytes: &[u8]) -> Option<usize> {
    let (mut digits, mut end, mut number) = (0, 0, None);
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            // Visitors choose the text: no further than a number can go.
            b'0'..=b'9' if digits >= *PHONE_DIGITS.end() => break,
            b'0'..=b'9' => {
                (digits, end) = (digits + 1, at + 1);
                // A date or another number may follow it, which are no part of it.
                let ends = bytes.get(end).is_none_or(|byte| !byte.is_ascii_alphanumeric());
                if ends && PHONE_DIGITS.contains(&digits) {
                    number = Some(end);
                }
            }
            // Two separators, as in `) `, and no more.
            b' ' | b'-' | b'.' | b'(' | b')' | b'/' if at < end + 2 => {}
            _ => break,
        }
    }
    number
}

/// Whether a value is nothing but a telephone number, by whatever writing.
fn is_phone_alone(value: &str) -> bool {
    let digits = value.trim().trim_start_matches('+').as_bytes();
    phone_bytes(digits) == Some(digits.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(value: &str, expected: &str) {
        assert_eq!(mask(value).as_deref().unwrap_or(value), expected, "{value:?}");
        assert_eq!(mask(value).is_some(), value != expected, "{value:?}");
    }

    fn left_alone(value: &str) {
        check(value, value);
    }

    #[test]
    fn email_addresses_are_masked_wherever_they_stand() {
        check("jane.doe@example.com", "(email)");
        check("jane+tag@mail.example.co.uk", "(email)");
        check("<jane@example.com>", "<(email)>");
        check("a@b.de, c@d.fr", "(email), (email)");
        check("jane%40example.com", "(email)");
        check("mailto:jane@example.com?x", "mailto:(email)?x");
        check("jürgen@müller.example", "(email)");
        check("jane@xn--mller-kva.xn--p1ai", "(email)");
        check("jane@example.com.", "(email).");
    }

    #[test]
    fn an_at_sign_alone_is_no_address() {
        for value in ["@", "a@", "@b.de", "a@b", "user@localhost", "a@b.1", "a @ b.de", "3@10.00"] {
            left_alone(value);
        }
    }

    #[test]
    fn telephone_numbers_are_masked_where_their_form_says_so() {
        check("+491701234567", "(phone)");
        check("+49 170 123-4567", "(phone)");
        check(" 491701234567", "(phone)");
        check("%2B491701234567", "(phone)");
        check("+1 (555) 123-4567", "(phone)");
        check("(555) 123-4567", "(phone)");
        check("tel:+15551234567;ext=1", "tel:(phone);ext=1");
        check("+491701234567 2026-11-27", "(phone) 2026-11-27");
        check("+491701234567/01701234567", "(phone)/01701234567");
        check("call +491701234567 5pm", "call (phone) 5pm");
    }

    #[test]
    fn identifiers_amounts_and_times_are_left_alone() {
        for value in [
            "4917012345678",
            "0049170123456",
            "T-20260101-000123",
            "123-456-7890",
            "2026-01-01T00:00:00+02:00",
            "2026-01-01 00:00:00 +0200",
            "1767225600000",
            "15.10",
            "+15.10",
            "-15.10",
            "0Abc123XYZ0Abc123XYZ0Abc123XYZ012",
            "a3b1c8d0-7f5e-4c1b-9d61-0123456789ab",
            "ORDER+12345678",
            "aGVsbG8+1234567890/w==",
            "+1234567890123456",
            "+1234567x",
            "{click_id}",
            "",
        ] {
            left_alone(value);
        }
    }

    #[test]
    fn a_name_that_says_telephone_masks_digits_alone() {
        let named = |name, value| mask_named(name, value).is_some();
        assert!(named("phone", "4917012345678"));
        assert!(named("customerPhone", "0170 1234567"));
        assert!(named("user_tel", "555-123-4567"));
        assert!(!named("phone", "iPhone 15"));
        assert!(!named("hotel", "4917012345678"));
        assert!(!named("txn_id", "4917012345678"));
        assert!(named("txn_id", "jane@example.com"));
    }

    proptest! {
        #[test]
        fn what_was_masked_once_has_nothing_left_to_mask(value in ".{0,60}") {
            if let Some(masked) = mask(&value) {
                prop_assert_eq!(mask(&masked), None, "{:?} became {:?}", value, masked);
                prop_assert!(is_masked(&masked));
            }
        }

        #[test]
        fn no_address_gets_through(
            before in "[ ,;<(]?", local in "[a-z0-9._+-]{1,12}", domain in "[a-z0-9]{1,9}\\.[a-z]{2,5}",
        ) {
            let masked = mask(&format!("{before}{local}@{domain}"));
            prop_assert!(masked.is_some_and(|masked| !masked.contains('@')));
        }

        #[test]
        fn no_international_number_gets_through(digits in "[1-9][0-9]{6,14}") {
            prop_assert_eq!(mask(&format!("+{digits}")), Some(PHONE.to_owned()));
        }

        #[test]
        fn letters_digits_and_dashes_are_never_touched(value in "[A-Za-z0-9_-]{0,64}") {
            prop_assert_eq!(mask(&value), None);
        }

        #[test]
        fn amounts_are_never_touched(value in "[+-]?[0-9]{1,12}(\\.[0-9]{1,6})?") {
            // But for a `+` before so many digits, which no amount has.
            prop_assume!(!value.starts_with('+') || value.len() < 7);
            prop_assert_eq!(mask(&value), None);
        }
    }
}
