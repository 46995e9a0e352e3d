//! Identifiers of the catalog: texts chosen by people, and the numbers that stand for them.

/// Longest catalog ID, bytes.
pub const ID_BYTES_MAX: usize = 64;
/// Highest offer or affiliate number: three bytes in a click ID.
pub const NUMBER_MAX: u32 = (1 << 24) - 1;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u32);

        impl $name {
            /// Stands for none; never assigned.
            pub const NONE: Self = Self(0);

            /// `None` above [`NUMBER_MAX`].
            #[must_use]
            pub const fn new(number: u32) -> Option<Self> {
                if number <= NUMBER_MAX { Some(Self(number)) } else { None }
            }

            /// The number.
            #[must_use]
            pub const fn get(self) -> u32 {
                self.0
            }

            /// Its three bytes in a click ID.
            #[must_use]
            pub const fn to_be_bytes(self) -> [u8; 3] {
                let [_, a, b, c] = self.0.to_be_bytes();
                [a, b, c]
            }

            /// Reads its three bytes.
            #[must_use]
            pub const fn from_be_bytes([a, b, c]: [u8; 3]) -> Self {
                Self(u32::from_be_bytes([0, a, b, c]))
            }
        }
    };
}

number! {
    /// Stands for an offer in a click ID; assigned once, never reused.
    OfferNumber
}

number! {
    /// Stands for an affiliate in a click ID; assigned once, never reused.
    AffiliateNumber
}

/// Whether a text may be the ID of an advertiser, offer, event or affiliate:
/// 1 to 64 characters of `A-Z a-z 0-9 . _ -`.
#[must_use]
pub fn is_id(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=ID_BYTES_MAX).contains(&text.len()) && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_three_bytes() {
        assert_eq!(OfferNumber::new(NUMBER_MAX + 1), None);
        let number = OfferNumber::new(0x0001_0203).expect("24 bits");
        assert_eq!(number.to_be_bytes(), [1, 2, 3]);
        assert_eq!(OfferNumber::from_be_bytes([1, 2, 3]), number);
    }

    #[test]
    fn ids_are_short_and_plain() {
        let check = |text: &str, expected| assert_eq!(is_id(text), expected, "{text:?}");
        check("spring", true);
        check("Pub-7_x.y", true);
        check("", false);
        check("a b", false);
        check("ä", false);
        check(&"x".repeat(64), true);
        check(&"x".repeat(65), false);
    }
}
