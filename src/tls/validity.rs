//! From when until when a certificate is valid: the one thing in it that we read ourselves.
//!
//! X.509 (RFC 5280, section 4.1) in DER: a certificate is a sequence that begins with the sequence
//! to be signed, and this one holds, in this order, an optional version, a serial number, an
//! algorithm, the issuer, and the validity.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::Offset;

/// A certificate's time, Unix seconds, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// The first second.
    pub from_s: i64,
    /// The last.
    pub until_s: i64,
}

impl std::fmt::Display for Validity {
    /// The last second, in RFC 3339.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match Timestamp::from_second(self.until_s) {
            Ok(time) => time.fmt(f),
            Err(_) => self.until_s.fmt(f),
        }
    }
}

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;

/// When a certificate is valid; `None` if it is not one of X.509.
#[must_use]
pub fn validity(certificate: &[u8]) -> Option<Validity> {
    let (certificate, _) = expect(SEQUENCE, certificate)?;
    let (signed, _) = expect(SEQUENCE, certificate)?;
    let rest = match element(signed)? {
        (VERSION, _, rest) => rest,
        _ => signed,
    };
    let (_serial, rest) = expect(INTEGER, rest)?;
    let (_algorithm, rest) = expect(SEQUENCE, rest)?;
    let (_issuer, rest) = expect(SEQUENCE, rest)?;
    let (validity, _) = expect(SEQUENCE, rest)?;
    let (from_s, rest) = time(validity)?;
    let (until_s, _) = time(rest)?;
    Some(Validity { from_s, until_s })
}

/// The first element's tag and content, and what follows it.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        // A length of its own length; a certificate is never as long as three bytes can say.
        0x81..=0x83 => {
            let (length, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

fn expect(tag: u8, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (found, content, rest) = element(bytes)?;
    (found == tag).then_some((content, rest))
}

/// `YYMMDDHHMMSSZ`, years from 1950 to 2049, or `YYYYMMDDHHMMSSZ`.
fn time(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let (tag, content, rest) = element(bytes)?;
    let digits = content.strip_suffix(b"Z")?;
    let (year, digits) = match tag {
        UTC_TIME => {
            let (year, digits) = digits.split_at_checked(2)?;
            let year = number(year)?;
            (if year < 50 { 2000 + year } else { 1900 + year }, digits)
        }
        GENERALIZED_TIME => {
            let (year, digits) = digits.split_at_checked(4)?;
            (number(year)?, digits)
        }
        _ => return None,
    };
    let [month, day, hour, minute, second] = digits.as_chunks::<2>().0 else { return None };
    let two = |digits: &[u8; 2]| number(digits).and_then(|number| i8::try_from(number).ok());
    let time =
        DateTime::new(year, two(month)?, two(day)?, two(hour)?, two(minute)?, two(second)?, 0);
    // The last day of the year 9999, which says that there is no end, is more than jiff counts to.
    let time = Offset::UTC.to_timestamp(time.ok()?).unwrap_or(Timestamp::MAX);
    (digits.len() == 10).then_some((time.as_second(), rest))
}

fn number(digits: &[u8]) -> Option<i16> {
    let all = digits.iter().all(u8::is_ascii_digit);
    all.then(|| digits.iter().fold(0, |sum, digit| sum * 10 + i16::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An element of DER.
    fn der(tag: u8, content: &[u8]) -> Vec<u8> {
        let length = content.len();
        let length = match length {
            0..0x80 => vec![length as u8],
            0x80..0x100 => vec![0x81, length as u8],
            _ => vec![0x82, (length >> 8) as u8, length as u8],
        };
        [&[tag], length.as_slice(), content].concat()
    }

    fn certificate(version: &[u8], issuer: usize, times: &[u8]) -> Vec<u8> {
        let issuer = der(SEQUENCE, &vec![7; issuer]);
        let before = [version, &der(INTEGER, &[1]), &der(SEQUENCE, b"algorithm"), &issuer].concat();
        der(SEQUENCE, &der(SEQUENCE, &[&before, der(SEQUENCE, times).as_slice()].concat()))
    }

    #[test]
    fn both_forms_of_time_are_read_whatever_stands_before_them() {
        let check = |from: &str, until: &str, expected: Option<(&str, &str)>| {
            let tag = |text: &str| if text.len() == 13 { UTC_TIME } else { GENERALIZED_TIME };
            let time = |text: &str| der(tag(text), text.as_bytes());
            let times = [time(from), time(until)].concat();
            let second = |text: &str| text.parse::<Timestamp>().expect("a time").as_second();
            let expected = expected
                .map(|(from, until)| Validity { from_s: second(from), until_s: second(until) });
            for version in [vec![], der(VERSION, &der(INTEGER, &[2]))] {
                for issuer in [0, 100, 200, 4000] {
                    let certificate = certificate(&version, issuer, &times);
                    assert_eq!(validity(&certificate), expected, "{from} {until}");
                }
            }
        };
        let some = Some(("1999-12-31T23:59:59Z", "2049-02-28T00:00:00Z"));
        check("991231235959Z", "490228000000Z", some);
        check("19991231235959Z", "20490228000000Z", some);
        let long = Some(("1950-01-01T00:00:00Z", "9999-12-30T22:00:00Z"));
        check("500101000000Z", "99991230220000Z", long);
        check("500101000000Z", "99991231235959Z", long);
        check("991331235959Z", "490228000000Z", None);
        check("991231235959Z", "490229000000Z", None);
        check("99123123595 Z", "490228000000Z", None);
        check("991231235959+", "490228000000Z", None);
        check("9912312359590Z", "490228000000Z", None);
    }

    #[test]
    fn what_is_cut_short_is_no_certificate() {
        let times = [der(UTC_TIME, b"240101000000Z"), der(UTC_TIME, b"250101000000Z")].concat();
        let whole = certificate(&[], 300, &times);
        assert!(validity(&whole).is_some());
        for length in 0..whole.len() {
            assert_eq!(validity(&whole[..length]), None, "{length}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_break_it(bytes: Vec<u8>) {
            let _ = validity(&bytes);
            let _ = validity(&certificate(&[], 3, &bytes));
        }
    }
}
