//! The text that a signature signs: all parameters but the signature, in one form and order,
//! however they were sent. `docs/api.md` says it for senders, with examples that a test reads.

use crate::query::{encode_into, encoded_len};

/// Collects parameters.
#[derive(Debug, Default)]
pub struct Canonical(Vec<Vec<u8>>);

impl Canonical {
    /// Adds a parameter, decoded. The caller leaves out the signature.
    pub fn add(&mut self, name: &str, value: &str) {
        let (name, value) = (name.as_bytes(), value.as_bytes());
        let mut pair = Vec::with_capacity(encoded_len(name) + 1 + encoded_len(value));
        encode_into(name, &mut pair);
        pair.push(b'=');
        encode_into(value, &mut pair);
        self.0.push(pair);
    }

    /// `name=value` of each, percent-encoded, in ascending order of these texts, with `&` between.
    #[must_use]
    pub fn into_text(mut self) -> Vec<u8> {
        self.0.sort_unstable();
        self.0.join(&b'&')
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn canonical(pairs: &[(&str, &str)]) -> String {
        let mut all = Canonical::default();
        pairs.iter().for_each(|(name, value)| all.add(name, value));
        String::from_utf8(all.into_text()).expect("ASCII")
    }

    #[test]
    fn pairs_are_encoded_and_sorted_as_texts() {
        let check = |pairs: &[(&str, &str)], expected| assert_eq!(canonical(pairs), expected);
        check(&[], "");
        check(&[("b", "2"), ("a", "1")], "a=1&b=2");
        check(&[("a", "2"), ("a", "1"), ("a", "1")], "a=1&a=1&a=2");
        check(&[("a", "x"), ("a-b", "x")], "a-b=x&a=x");
        check(&[("a", ""), ("", "b")], "=b&a=");
        check(&[("né", "a b+c&d=e/~")], "n%C3%A9=a%20b%2Bc%26d%3De%2F~");
    }

    proptest! {
        /// Two sets of parameters have one text only if they are the same.
        #[test]
        fn different_parameters_have_different_texts(
            mut a in proptest::collection::vec((".{0,4}", "[a&=%-]{0,4}"), 0..5),
            mut b in proptest::collection::vec((".{0,4}", "[a&=%-]{0,4}"), 0..5),
        ) {
            let text = |pairs: &[(String, String)]| {
                let pairs: Vec<_> = pairs.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
                canonical(&pairs)
            };
            let same_text = text(&a) == text(&b);
            a.sort();
            b.sort();
            prop_assert_eq!(same_text, a == b);
            prop_assert_eq!(text(&a), text(&{ a.reverse(); a }));
        }
    }
}
