//! Base62 of numbers of fixed width, most significant digit first: text sorts as the bytes do.

use std::fmt;

pub(super) const DIGITS: &[u8; 62] =
    b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Value of each base62 digit; 255 for every other byte.
const VALUES: [u8; 256] = {
    let mut values = [255u8; 256];
    let mut i = 0;
    while i < 62 {
        values[DIGITS[i] as usize] = i as u8;
        i += 1;
    }
    values
};

/// As many digits as 64 bits hold of any value.
const CHUNK_CHARS: usize = 10;
/// All bits that the value of a digit may have.
const DIGIT_BITS: u8 = 63;

/// A short ASCII text on the stack.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Text<const N: usize>(pub(super) [u8; N]);

impl<const N: usize> Text<N> {
    /// The characters, all ASCII.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The characters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// Base62 of a number, padded to `N` digits; 11 hold any.
    #[must_use]
    pub fn of_u64(number: u64) -> Self {
        Self::encode([(number >> 32) as u32, number as u32])
    }

    /// Base62 of a big-endian number given in 32-bit limbs, padded to `N` digits.
    ///
    /// Five digits a pass: 62^5 is below 2^30, so that a remainder and the next limb fit 64 bits
    /// and every division is by a constant.
    pub(super) fn encode<const L: usize>(mut limbs: [u32; L]) -> Self {
        const CHUNK: u64 = 62u64.pow(5);
        let mut out = [b'0'; N];
        let mut end = N;
        let mut first = 0;
        while end > 0 {
            let mut remainder: u64 = 0;
            for limb in &mut limbs[first..] {
                let value = remainder << 32 | u64::from(*limb);
                *limb = (value / CHUNK) as u32;
                remainder = value % CHUNK;
            }
            while first < L && limbs[first] == 0 {
                first += 1;
            }
            let start = end.saturating_sub(5);
            for place in out[start..end].iter_mut().rev() {
                *place = DIGITS[(remainder % 62) as usize];
                remainder /= 62;
            }
            end = start;
        }
        Self(out)
    }
}

impl<const N: usize> fmt::Display for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl<const N: usize> fmt::Debug for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The reverse of [`Text::encode`]; `None` for other lengths, other characters or overflow.
pub(super) fn decode<const L: usize>(text: &[u8], chars: usize) -> Option<[u64; L]> {
    if text.len() != chars {
        return None;
    }
    let (head, tail) = text.as_rchunks::<CHUNK_CHARS>();
    let mut limbs = [0u64; L];
    append(&mut limbs, head)?;
    for chunk in tail {
        append(&mut limbs, chunk)?;
    }
    Some(limbs)
}

/// Appends at most [`CHUNK_CHARS`] digits to a number; `None` if some are none, or on overflow.
#[inline]
fn append<const L: usize>(limbs: &mut [u64; L], digits: &[u8]) -> Option<()> {
    let (mut value, mut scale, mut all) = (0u64, 1u64, 0);
    for &byte in digits {
        let digit = VALUES[byte as usize];
        all |= digit;
        value = value.wrapping_mul(62).wrapping_add(u64::from(digit));
        scale *= 62;
    }
    if all > DIGIT_BITS {
        return None;
    }
    let mut carry = u128::from(value);
    for limb in limbs.iter_mut().rev() {
        let product = u128::from(*limb) * u128::from(scale) + carry;
        *limb = product as u64;
        carry = product >> 64;
    }
    (carry == 0).then_some(())
}

/// Four big-endian bytes of an identifier.
pub(super) fn limb(bytes: &[u8], from: usize) -> u32 {
    u32::from_be_bytes([bytes[from], bytes[from + 1], bytes[from + 2], bytes[from + 3]])
}
