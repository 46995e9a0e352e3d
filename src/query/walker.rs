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
    rest: Rest<'a>,
}

/// Whether anything needs decoding is found out once, not for each component.
#[derive(Clone, Copy)]
enum Rest<'a> {
    Plain(&'a str),
    Encoded(&'a [u8]),
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
    /// Walks the pairs of a form, or of a query string of which nothing is known.
    #[must_use]
    pub fn new(encoded: &'a [u8]) -> Self {
        str::from_utf8(encoded).map_or(Self { rest: Rest::Encoded(encoded) }, Self::of_text)
    }

    /// Walks the pairs of what is known to be text.
    #[must_use]
    pub fn of_text(query: &'a str) -> Self {
        let rest = match memchr2(b'%', b'+', query.as_bytes()) {
            None => Rest::Plain(query),
            Some(_) => Rest::Encoded(query.as_bytes()),
        };
        Self { rest }
    }

    fn bytes_left(&self) -> usize {
        match self.rest {
            Rest::Plain(text) => text.len(),
            Rest::Encoded(bytes) => bytes.len(),
        }
    }
}

impl<'a> Iterator for Params<'a> {
    type Item = Param<'a>;

    #[inline]
    fn next(&mut self) -> Option<Param<'a>> {
        match &mut self.rest {
            Rest::Plain(rest) => {
                let pair = next_pair(rest, |text| split_text(text, ampersand(text.as_bytes())))?;
                let (name, value) =
                    split_text(pair, equals_sign(pair.as_bytes())).unwrap_or((pair, ""));
                Some(Param { name: Raw::plain(name), value: Raw::plain(value) })
            }
            Rest::Encoded(rest) => {
                let pair = next_pair(rest, |bytes| split_bytes(bytes, ampersand(bytes)))?;
                let (name, value) = split_bytes(pair, equals_sign(pair)).unwrap_or((pair, &[]));
                Some(Param { name: Raw::new(name), value: Raw::new(value) })
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        // The shortest pair is one byte and its separator; the last needs no separator.
        (0, Some(self.bytes_left().div_ceil(2)))
    }
}

/// The next pair that is not empty.
#[inline]
fn next_pair<T: Copy + Default + AsRef<[u8]>>(
    rest: &mut T,
    split: impl Fn(T) -> Option<(T, T)>,
) -> Option<T> {
    while !rest.as_ref().is_empty() {
        let (pair, after) = split(*rest).unwrap_or((*rest, T::default()));
        *rest = after;
        if !pair.as_ref().is_empty() {
            return Some(pair);
        }
    }
    None
}

fn ampersand(bytes: &[u8]) -> Option<usize> {
    memchr(b'&', bytes)
}

/// Names are so short that a plain loop beats memchr.
fn equals_sign(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|&byte| byte == b'=')
}

/// What stands before and after the ASCII separator found `at`.
#[inline]
fn split_text(text: &str, at: Option<usize>) -> Option<(&str, &str)> {
    let at = at?;
    Some((text.get(..at)?, text.get(at + 1..)?))
}

/// As [`split_text`].
#[inline]
fn split_bytes(bytes: &[u8], at: Option<usize>) -> Option<(&[u8], &[u8])> {
    let at = at?;
    Some((bytes.get(..at)?, bytes.get(at + 1..)?))
}

impl FusedIterator for Params<'_> {}

/// Shows how much is left, never what: values may be secrets or personal data.
impl fmt::Debug for Params<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Params({} bytes)", self.bytes_left())
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
