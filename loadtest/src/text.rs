//! Small things every request is made of: inline identifiers, decimal numbers, random bits.

use std::fmt;

/// Longest identifier kept; click IDs have 33 characters, conversion IDs 22.
const SHORT_TEXT_BYTES_MAX: usize = 39;

/// An identifier kept inline, so that a million of them cost no allocation each.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ShortText {
    length: u8,
    bytes: [u8; SHORT_TEXT_BYTES_MAX],
}

impl ShortText {
    /// Copies `text`; `None` if it is empty or longer than any identifier.
    pub fn new(text: &[u8]) -> Option<Self> {
        if text.is_empty() || text.len() > SHORT_TEXT_BYTES_MAX {
            return None;
        }
        let mut bytes = [0; SHORT_TEXT_BYTES_MAX];
        bytes[..text.len()].copy_from_slice(text);
        Some(Self { length: text.len() as u8, bytes })
    }

    /// The identifier's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }

    /// The same identifier with its last character exchanged: of a click ID that hits the MAC.
    pub fn with_last_flipped(mut self) -> Self {
        let last = &mut self.bytes[usize::from(self.length) - 1];
        *last = if *last == b'7' { b'3' } else { b'7' };
        self
    }
}

impl fmt::Display for ShortText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(self.as_bytes()))
    }
}

impl fmt::Debug for ShortText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Appends `number` in decimal.
pub fn push_number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// SplitMix64: fast, seeded, good enough to vary requests.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A sequence that depends on nothing but `seed`.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which must not be zero.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// True in `percent` of a hundred cases.
    pub fn percent(&mut self, percent: u32) -> bool {
        self.next() % 100 < u64::from(percent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flipping_changes_the_last_character_only() {
        for text in [&b"abc7"[..], b"abcd"] {
            let id = ShortText::new(text).expect("short enough");
            let flipped = id.with_last_flipped();
            assert_ne!(flipped, id);
            assert_eq!(flipped.as_bytes()[..3], text[..3]);
        }
    }

    #[test]
    fn identifiers_that_cannot_be_kept_are_refused() {
        assert_eq!(ShortText::new(b""), None);
        assert_eq!(ShortText::new(&[b'x'; 40]), None);
        assert!(ShortText::new(&[b'x'; 39]).is_some());
    }

    #[test]
    fn one_seed_gives_one_sequence() {
        let (mut a, mut b) = (Random::new(7), Random::new(7));
        assert!((0..100).all(|_| a.next() == b.next()));
        assert!(!Random::new(1).percent(0) && Random::new(1).percent(100));
    }
}
