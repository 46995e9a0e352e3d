// Hot path: every click and postback. No allocation, no locks, no panics.

//! Walks the pairs of a query string without copying or decoding them.

use std::fmt;
use std::iter::FusedIterator;

use memchr::{memchr, memchr2};

use super::raw::Raw;

/// The pairs of a query string or form body, in the order sent.
///
/// Takes what follows the `?`, without it. Never fails: every byte string is some list of pairs.
///
/// ```
/// use postbackd::query::Params;
///
/// let sub1 = Params::new(b"offer=spring&sub1=summer+sale")
///     .find(|param| param.name.is("sub1"))
///     .map(|param| param.value.decode_lossy());
/// assert_eq!(sub1.as_deref(), Some("summer sale"));
/// ```
#[derive(Clone)]
pub struct Params<'a> {
    rest: &'a [u8],
    /// `rest` as text, if nothing in it needs decoding: found out once, not for each component.
    plain: Option<&'a str>,
}

/// One pair, still encoded. A pair without `=` has an empty value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Param<'a> {
    /// What stands before the first `=`.
    pub name: Raw<'a>,
    /// What stands after it.
    pub value: Raw<'a>,
}

impl<'a> Params<'a> {
    /// Walks the pairs of a query string or form.
    #[must_use]
    pub fn new(query: &'a [u8]) -> Self {
        let plain = memchr2(b'%', b'+', query).is_none();
        Self { rest: query, plain: if plain { str::from_utf8(query).ok() } else { None } }
    }
}

impl<'a> Iterator for Params<'a> {
    type Item = Param<'a>;

    #[inline]
    fn next(&mut self) -> Option<Param<'a>> {
        while !self.rest.is_empty() {
            let end = memchr(b'&', self.rest).unwrap_or(self.rest.len());
            // Names are so short that a plain loop beats memchr.
            let pair = &self.rest[..end];
            let equals = pair.iter().position(|&byte| byte == b'=').unwrap_or(end);
            let component = |from: usize, to: usize| {
                let text = self.plain.and_then(|text| text.get(from..to));
                Raw::known(&self.rest[from..to], text)
            };
            let value_at = (equals + 1).min(end);
            let param = Param { name: component(0, equals), value: component(value_at, end) };
            let next = (end + 1).min(self.rest.len());
            self.rest = &self.rest[next..];
            self.plain = self.plain.and_then(|text| text.get(next..));
            if end > 0 {
                return Some(param);
            }
        }
        None
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        // The shortest pair is one byte and its separator; the last needs no separator.
        (0, Some(self.rest.len().div_ceil(2)))
    }
}

impl FusedIterator for Params<'_> {}

/// Shows how much is left, never what: values may be secrets or personal data.
impl fmt::Debug for Params<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Params({} bytes)", self.rest.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(query: &str, expected: &[(&str, &str)]) {
        let pairs: Vec<_> = Params::new(query.as_bytes())
            .map(|param| (param.name.as_encoded(), param.value.as_encoded()))
            .collect();
        let expected: Vec<_> =
            expected.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
        assert_eq!(pairs, expected, "{query:?}");
    }

    #[test]
    fn ampersands_separate_pairs_and_keep_their_order() {
        check("a=1", &[("a", "1")]);
        check("b=2&a=1", &[("b", "2"), ("a", "1")]);
        check("a=1&a=2", &[("a", "1"), ("a", "2")]);
    }

    #[test]
    fn semicolons_do_not_separate() {
        check("a=1;b=2", &[("a", "1;b=2")]);
        check("a;b", &[("a;b", "")]);
    }

    #[test]
    fn the_first_equals_sign_splits() {
        check("a=1=2", &[("a", "1=2")]);
        check("a==", &[("a", "=")]);
        check("sig=Zm9v==&b=1", &[("sig", "Zm9v=="), ("b", "1")]);
    }

    #[test]
    fn a_missing_equals_sign_means_an_empty_value() {
        check("a", &[("a", "")]);
        check("a=", &[("a", "")]);
        check("a&b=2", &[("a", ""), ("b", "2")]);
    }

    #[test]
    fn a_missing_name_is_an_empty_name() {
        check("=1", &[("", "1")]);
        check("=", &[("", "")]);
    }

    #[test]
    fn empty_pairs_are_skipped() {
        check("", &[]);
        check("&", &[]);
        check("&&&", &[]);
        check("&&a=1&&b=2&", &[("a", "1"), ("b", "2")]);
    }

    #[test]
    fn an_encoded_separator_is_part_of_the_value() {
        check("a=1%262&b%3D=2", &[("a", "1%262"), ("b%3D", "2")]);
    }

    #[test]
    fn the_question_mark_and_the_hash_are_ordinary_bytes() {
        check("?a=1#b", &[("?a", "1#b")]);
    }

    #[test]
    fn an_exhausted_walk_stays_exhausted() {
        let mut params = Params::new(b"a=1&");
        assert!(params.next().is_some());
        assert_eq!(params.next(), None);
        assert_eq!(params.next(), None);
    }

    #[test]
    fn debug_output_gives_away_no_value() {
        let mut params = Params::new(b"token=hunter2");
        assert_eq!(format!("{params:?}"), "Params(13 bytes)");
        let param = params.next().expect("one pair");
        assert!(!format!("{param:?}").contains("hunter2"));
    }
}
