// Hot path: every redirect. No locks, no panics, no allocation beyond the growth of the caller's
// buffer.

//! Percent-encoding of values that go into a URL.

/// Appends `value` to `out`, with every byte but the unreserved characters of RFC 3986
/// (`A-Z a-z 0-9 - . _ ~`) as `%` and two upper-case hex digits.
///
/// What is appended can end no path segment, pair, query or header line, so it is safe in a
/// path, query or fragment. Two things no encoding can prevent, so templates have to: a value
/// in the host names the host, and a whole path segment filled with `.` or `..` is a dot segment
/// to a browser, even when written `%2E`.
///
/// The caller reserves room, by [`encoded_len`] or a bound of its own.
#[inline]
pub fn encode_into(value: &[u8], out: &mut Vec<u8>) {
    let mut rest = value;
    while !rest.is_empty() {
        let run = rest.iter().take_while(|&&byte| is_unreserved(byte)).count();
        let (plain, others) = rest.split_at(run);
        out.extend_from_slice(plain);
        let run = others.iter().take_while(|&&byte| !is_unreserved(byte)).count();
        let (reserved, after) = others.split_at(run);
        for &byte in reserved {
            out.extend_from_slice(&escape(byte));
        }
        rest = after;
    }
}

/// How many bytes [`encode_into`] appends for `value`: up to three for each byte.
#[must_use]
pub fn encoded_len(value: &[u8]) -> usize {
    let reserved = value.iter().filter(|&&byte| !is_unreserved(byte)).count();
    // A slice of bytes is at most isize::MAX long, and three times that wraps.
    value.len().saturating_add(reserved.saturating_mul(2))
}

#[inline]
fn is_unreserved(byte: u8) -> bool {
    UNRESERVED[usize::from(byte)]
}

#[inline]
fn escape(byte: u8) -> [u8; 3] {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    [b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]
}

/// RFC 3986, section 2.3: the characters that mean the same in every part of a URL.
const UNRESERVED: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] =
            (byte as u8).is_ascii_alphanumeric() || matches!(byte as u8, b'-' | b'.' | b'_' | b'~');
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    fn check(value: &str, expected: &str) {
        let mut out = b"kept".to_vec();
        encode_into(value.as_bytes(), &mut out);
        assert_eq!(out, format!("kept{expected}").into_bytes(), "{value:?}");
        assert_eq!(encoded_len(value.as_bytes()), expected.len(), "length of {value:?}");
    }

    #[test]
    fn unreserved_characters_stay_as_they_are() {
        let unreserved = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";
        check("", "");
        check(unreserved, unreserved);
    }

    #[test]
    fn everything_else_is_escaped_in_upper_case() {
        check(" ", "%20");
        check("+", "%2B");
        check("a&b=c", "a%26b%3Dc");
        check("/../?x#y", "%2F..%2F%3Fx%23y");
        check("https://x.example/", "https%3A%2F%2Fx.example%2F");
        check("{click_id}", "%7Bclick_id%7D");
        check("100%", "100%25");
        check("%41", "%2541");
        check("\"'<>`\\^|*!()", "%22%27%3C%3E%60%5C%5E%7C%2A%21%28%29");
    }

    #[test]
    fn text_beyond_ascii_is_escaped_byte_by_byte() {
        check("ü", "%C3%BC");
        check("日", "%E6%97%A5");
    }

    #[test]
    fn a_value_cannot_split_a_header_line() {
        check("a\r\nSet-Cookie: b", "a%0D%0ASet-Cookie%3A%20b");
        check("\0", "%00");
    }

    #[test]
    fn exactly_sixty_six_bytes_are_left_unescaped() {
        let plain = (0..=u8::MAX).filter(|&byte| encoded_len(&[byte]) == 1);
        assert_eq!(plain.count(), 26 + 26 + 10 + 4);
    }
}
