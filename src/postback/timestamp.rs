//! When an event happened, as advertisers write it.

use crate::limits::FUTURE_TIMESTAMP_MS_MAX;

/// Unix seconds end before this number, Unix milliseconds begin: the year 5138, and 1973.
const SECONDS_END: u64 = 100_000_000_000;

/// What is earlier is no time, but a date without dashes, or nothing: the year 2000.
const BEGIN_MS: u64 = 946_684_800_000;

/// Reads Unix seconds, Unix milliseconds or RFC 3339 into Unix milliseconds. `None` for anything
/// else, for times before 2000 and for times more than a day after `now_ms`.
#[must_use]
pub fn parse(text: &str, now_ms: u64) -> Option<u64> {
    let time_ms = if text.bytes().all(|byte| byte.is_ascii_digit()) {
        let number: u64 = text.parse().ok()?;
        if number < SECONDS_END { number.checked_mul(1000)? } else { number }
    } else {
        let time: jiff::Timestamp = text.parse().ok()?;
        u64::try_from(time.as_millisecond()).ok()?
    };
    let end_ms = now_ms.saturating_add(FUTURE_TIMESTAMP_MS_MAX);
    (BEGIN_MS..=end_ms).contains(&time_ms).then_some(time_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_forms_mean_the_same_moment() {
        let now = 1_763_712_000_000;
        let check = |text, expected| assert_eq!(parse(text, now), expected, "{text:?}");
        check("1763712000", Some(now));
        check("1763712000000", Some(now));
        check("2025-11-21T08:00:00Z", Some(now));
        check("2025-11-21T09:00:00.000+01:00", Some(now));
        check("2025-11-21", None);
        check("yesterday", None);
        check("", None);
        check("-5", None);
        check("99999999999999999999", None);
        check("1763799000", None);
        check("1960-01-01T00:00:00Z", None);
        check("20251121", None);
        check("0", None);
        check("1999-12-31T23:59:59Z", None);
        check("2000-01-01T00:00:00Z", Some(BEGIN_MS));
    }
}
