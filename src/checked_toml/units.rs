//! Durations and sizes as people write them: a whole number and a unit.

use std::time::Duration;

use super::report::Complaint;

const DURATION_UNITS_MS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

const SIZE_UNITS: [(&str, u64); 5] =
    [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];

/// Reads `"50ms"`, `"5s"`, `"10m"`, `"48h"` or `"30d"`.
///
/// # Errors
/// When the text has another form or is longer than 64 bits of milliseconds.
pub fn duration(text: &str) -> Result<Duration, Complaint> {
    let millis = scaled(text, &DURATION_UNITS_MS).ok_or_else(|| {
        Complaint::new(format!(
            "{text:?} is not a duration such as \"50ms\", \"5s\", \"10m\", \"48h\" or \"30d\""
        ))
    })?;
    Ok(Duration::from_millis(millis))
}

/// Reads `"512B"`, `"64KiB"`, `"256MiB"`, `"1GiB"` or `"2TiB"`.
///
/// # Errors
/// When the text has another form or more than 64 bits of bytes.
pub fn size(text: &str) -> Result<u64, Complaint> {
    scaled(text, &SIZE_UNITS).ok_or_else(|| {
        Complaint::new(format!("{text:?} is not a size such as \"256MiB\" or \"1GiB\""))
    })
}

fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(known, _)| *known == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}
