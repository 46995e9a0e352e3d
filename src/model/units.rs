//! Durations and sizes as configuration files write them.

use std::time::Duration;

/// Reads `"50ms"`, `"10s"`, `"5m"`, `"48h"` or `"30d"`.
#[must_use]
pub fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60 * 1000,
        "h" => 60 * 60 * 1000,
        "d" => 24 * 60 * 60 * 1000,
        _ => return None,
    };
    number.checked_mul(millis).map(Duration::from_millis)
}

/// Reads `"512KiB"`, `"256MiB"`, `"4GiB"` or `"100B"`, into bytes.
#[must_use]
pub fn parse_bytes(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    let shift = match unit {
        "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ => return None,
    };
    number.checked_mul(1 << shift)
}

fn split(text: &str) -> Option<(u64, &str)> {
    let end = text.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, unit) = text.split_at(end);
    Some((digits.parse().ok()?, unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_number_and_a_unit() {
        let check = |text, millis: Option<u64>| {
            assert_eq!(parse_duration(text), millis.map(Duration::from_millis), "{text:?}");
        };
        check("50ms", Some(50));
        check("10s", Some(10_000));
        check("5m", Some(300_000));
        check("48h", Some(172_800_000));
        check("30d", Some(2_592_000_000));
        for wrong in [
            "",
            "5",
            "d",
            "-5s",
            "5 s",
            "1.5h",
            "5S",
            "99999999999999999999s",
            "18446744073709551615d",
        ] {
            check(wrong, None);
        }
    }

    #[test]
    fn sizes_have_a_number_and_a_binary_unit() {
        let check = |text, bytes| assert_eq!(parse_bytes(text), bytes, "{text:?}");
        check("100B", Some(100));
        check("256MiB", Some(256 << 20));
        check("4GiB", Some(4 << 30));
        check("4GB", None);
        check("99999999999GiB", None);
    }
}
