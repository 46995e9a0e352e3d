//! Bytes as people see them: two hex digits each.

use std::fmt::Write;

/// The digits, in lower case.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Reads digits of either case; `None` if they are not digits of just so many bytes.
#[must_use]
pub fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    let pairs: &[[u8; 2]; N] = pairs.try_into().ok()?;
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(pairs) {
        let [high, low] = pair.map(|digit| char::from(digit).to_digit(16));
        *byte = u8::try_from(high? << 4 | low?).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_lead_back_and_nothing_else_is_read() {
        assert_eq!(hex(&[0, 0x9f, 0xff]), "009fff");
        assert_eq!(unhex("009FfF"), Some([0, 0x9f, 0xff]));
        assert_eq!(unhex("2a"), Some([42]));
        assert_eq!(unhex(""), Some([]));
        for text in ["", "2", "2a0", "2a00", "2g", "+2", "-2", " 2", "2 ", "é"] {
            assert_eq!(unhex::<1>(text), None, "{text:?}");
        }
    }
}
