//! Times that people write: a moment, or a date that stands for its day.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use super::report::Complaint;
use super::tree::Value;
use super::value::Input;

/// When something ends: a moment, or a date whose whole day is still in. Text or TOML's own types.
///
/// # Errors
/// When it is neither.
pub fn end_ms(input: Input<'_>, time_zone: &TimeZone) -> Result<u64, Complaint> {
    moment_ms(input, time_zone, |date| date.tomorrow())
}

/// When something begins: a moment, or a date whose whole day is in.
///
/// # Errors
/// When it is neither.
pub fn start_ms(input: Input<'_>, time_zone: &TimeZone) -> Result<u64, Complaint> {
    moment_ms(input, time_zone, Ok)
}

/// A moment, or the beginning of the day that stands for a date.
fn moment_ms(
    input: Input<'_>,
    time_zone: &TimeZone,
    day: impl FnOnce(Date) -> Result<Date, jiff::Error>,
) -> Result<u64, Complaint> {
    let text = match input {
        Input::File(Value::Datetime(moment)) => moment.clone(),
        other => other.text()?.to_owned(),
    };
    let hint =
        "is neither a date such as \"2027-01-31\" nor a time such as \"2027-01-31T18:00:00Z\"";
    let wrong = || Complaint::new(format!("{text:?} {hint}"));
    let moment = match text.parse::<Date>() {
        Ok(date) if text.len() == "2027-01-31".len() => {
            let begins = day(date).and_then(|day| day.to_zoned(time_zone.clone()));
            begins.as_ref().map(Zoned::timestamp).map_err(|_| wrong())?
        }
        _ => text.parse::<Timestamp>().map_err(|_| wrong())?,
    };
    u64::try_from(moment.as_millisecond()).map_err(|_| wrong())
}
