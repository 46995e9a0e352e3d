//! Days in UTC and quarters of an hour, counted; days and months of a time zone, as spans of Unix
//! milliseconds.

use std::fmt;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

use super::words::words;

words! {
    /// How long something is counted before it begins anew.
    Period {
        /// A calendar day.
        Day = "day",
        /// A calendar month.
        Month = "month",
        /// All of time.
        Total = "total",
    }
}

/// From a moment to another that is not part of it, Unix milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first millisecond.
    pub from_ms: u64,
    /// The first one after.
    pub to_ms: u64,
}

impl Span {
    /// All of time, also for moments that no calendar knows.
    const ENDLESS: Self = Self { from_ms: 0, to_ms: u64::MAX };

    /// Whether a moment is part of it.
    #[must_use]
    pub const fn contains(&self, time_ms: u64) -> bool {
        self.from_ms <= time_ms && time_ms < self.to_ms
    }
}

/// A quarter of an hour in UTC, counted from 1970. Every time zone in use is a whole number of them
/// away from UTC and changes its clocks when one begins, so that its hours and days are made of
/// whole quarters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Quarter(u32);

impl Quarter {
    /// How long one is, milliseconds.
    pub const MS: u64 = 15 * 60 * 1000;

    /// From a count, as stored.
    #[must_use]
    pub const fn new(quarters: u32) -> Self {
        Self(quarters)
    }

    /// The count, as stored.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The one that a moment in Unix milliseconds is part of.
    #[must_use]
    pub fn of_ms(time_ms: u64) -> Self {
        Self(u32::try_from(time_ms / Self::MS).unwrap_or(u32::MAX))
    }

    /// When it begins, Unix milliseconds.
    #[must_use]
    pub fn begins_ms(self) -> u64 {
        u64::from(self.0) * Self::MS
    }

    /// The one after it.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// Milliseconds of a day in UTC.
pub const MS_PER_DAY: u64 = 24 * 60 * 60 * 1000;
const EPOCH: Date = jiff::civil::date(1970, 1, 1);

/// A day in UTC, counted from 1970-01-01.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(u32);

impl Day {
    /// The day of a moment in Unix milliseconds.
    #[must_use]
    pub fn of_ms(time_ms: u64) -> Self {
        Self(u32::try_from(time_ms / MS_PER_DAY).unwrap_or(u32::MAX))
    }

    /// When it begins, Unix milliseconds.
    #[must_use]
    pub fn begins_ms(self) -> u64 {
        u64::from(self.0) * MS_PER_DAY
    }

    /// From a count of days, as stored.
    #[must_use]
    pub const fn new(days: u32) -> Self {
        Self(days)
    }

    /// The count of days, as stored.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The one after it.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// Reads a date such as `2027-01-31`; `None` if it has another form or is before 1970.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let days = date(text)?.duration_since(EPOCH).as_hours() / 24;
        u32::try_from(days).ok().map(Self)
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match EPOCH.checked_add(i64::from(self.0).days()) {
            Ok(date) => write!(f, "{date}"),
            Err(_) => write!(f, "day {}", self.0),
        }
    }
}

/// Reads a date such as `2027-01-31`, in this form alone.
#[must_use]
pub fn date(text: &str) -> Option<Date> {
    text.parse().ok().filter(|_| text.len() == "2027-01-31".len())
}

/// Reads what somebody names as a moment: RFC 3339, or a date, which begins in UTC.
///
/// # Errors
/// What to write instead.
pub fn named_moment(text: &str) -> Result<Timestamp, &'static str> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    let midnight = date(text).and_then(|date| date.to_zoned(TimeZone::UTC).ok());
    let midnight = midnight.map(|midnight| midnight.timestamp());
    midnight.ok_or("neither 2027-01-31 nor 2027-01-31T18:00:00Z")
}

/// A moment of Unix milliseconds; `None` if no calendar knows it.
#[must_use]
pub fn moment(time_ms: u64) -> Option<Timestamp> {
    Timestamp::from_millisecond(i64::try_from(time_ms).ok()?).ok()
}

/// Where days and months begin.
#[derive(Clone, Debug)]
pub struct Calendar {
    time_zone: TimeZone,
}

impl Calendar {
    /// The calendar of a time zone.
    #[must_use]
    pub const fn new(time_zone: TimeZone) -> Self {
        Self { time_zone }
    }

    /// The day or month that a moment is part of, or all of time. A day begins with its first moment, which is
    /// not midnight where clocks are set forward then.
    #[must_use]
    pub fn span(&self, period: Period, time_ms: u64) -> Span {
        self.known_span(period, time_ms).unwrap_or(Span::ENDLESS)
    }

    fn known_span(&self, period: Period, time_ms: u64) -> Option<Span> {
        let date = self.time_zone.to_datetime(moment(time_ms)?).date();
        let (first, next) = match period {
            Period::Day => (date, date.tomorrow().ok()?),
            Period::Month => (date.first_of_month(), date.last_of_month().tomorrow().ok()?),
            Period::Total => return Some(Span::ENDLESS),
        };
        Some(Span { from_ms: self.begin_ms(first)?, to_ms: self.begin_ms(next)? })
    }

    fn begin_ms(&self, date: Date) -> Option<u64> {
        let begin = date.to_zoned(self.time_zone.clone()).ok()?;
        u64::try_from(begin.timestamp().as_millisecond()).ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ZONES: [&str; 7] = [
        "UTC",
        "Europe/Berlin",
        "America/Sao_Paulo",
        "Asia/Beirut",
        "America/Havana",
        "Pacific/Apia",
        "Asia/Kathmandu",
    ];

    fn calendar(zone: &str) -> Calendar {
        Calendar::new(TimeZone::get(zone).expect("a zone"))
    }

    fn ms(moment: &str) -> u64 {
        let moment: Timestamp = moment.parse().expect("a time");
        u64::try_from(moment.as_millisecond()).expect("after 1970")
    }

    fn check(zone: &str, period: Period, moment: &str, expected: (&str, &str)) {
        let span = calendar(zone).span(period, ms(moment));
        let expected = Span { from_ms: ms(expected.0), to_ms: ms(expected.1) };
        assert_eq!(span, expected, "the {period} of {moment} in {zone}");
        assert!(span.contains(ms(moment)));
    }

    #[test]
    fn a_day_lasts_from_the_first_moment_of_its_date_to_the_next_ones() {
        let day = |zone: &str, moment: &str, from: &str, to: &str| {
            check(zone, Period::Day, moment, (from, to));
        };
        day("UTC", "2026-03-29T23:59:59.999Z", "2026-03-29T00:00:00Z", "2026-03-30T00:00:00Z");
        // 23 hours, then 25: clocks change in the night.
        let berlin = "Europe/Berlin";
        day(berlin, "2026-03-29T12:00:00Z", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z");
        day(berlin, "2026-10-25T12:00:00Z", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z");
        day(berlin, "2026-10-25T23:00:00Z", "2026-10-25T23:00:00Z", "2026-10-26T23:00:00Z");
        let paulo = "America/Sao_Paulo";
        day(paulo, "2026-03-29T02:59:59Z", "2026-03-28T03:00:00Z", "2026-03-29T03:00:00Z");
        // Clocks went forward at midnight, so the day began at one o'clock; later back at midnight,
        // so the hour before it was there twice.
        day(paulo, "2018-11-04T12:00:00Z", "2018-11-04T03:00:00Z", "2018-11-05T02:00:00Z");
        day(paulo, "2018-02-18T02:30:00Z", "2018-02-17T02:00:00Z", "2018-02-18T03:00:00Z");
        let beirut = "Asia/Beirut";
        day(beirut, "2026-03-29T12:00:00Z", "2026-03-28T22:00:00Z", "2026-03-29T21:00:00Z");
        day(beirut, "2026-10-24T21:30:00Z", "2026-10-23T21:00:00Z", "2026-10-24T22:00:00Z");
        // At one o'clock back to midnight: the day has two first hours and begins with the first.
        let havana = "America/Havana";
        day(havana, "2026-11-01T05:30:00Z", "2026-11-01T04:00:00Z", "2026-11-02T05:00:00Z");
        // A date that an island on the date line never had.
        let apia = "Pacific/Apia";
        day(apia, "2011-12-30T09:59:59Z", "2011-12-29T10:00:00Z", "2011-12-30T10:00:00Z");
        day(apia, "2011-12-30T10:00:00Z", "2011-12-30T10:00:00Z", "2011-12-31T10:00:00Z");
    }

    #[test]
    fn a_month_lasts_from_its_first_day_to_the_next_ones() {
        let month = |zone: &str, moment: &str, from: &str, to: &str| {
            check(zone, Period::Month, moment, (from, to));
        };
        month("UTC", "2028-02-29T23:00:00Z", "2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z");
        let berlin = "Europe/Berlin";
        month(berlin, "2026-03-31T21:59:59Z", "2026-02-28T23:00:00Z", "2026-03-31T22:00:00Z");
        month(berlin, "2026-10-01T00:00:00Z", "2026-09-30T22:00:00Z", "2026-10-31T23:00:00Z");
        month(berlin, "2026-12-31T23:00:00Z", "2026-12-31T23:00:00Z", "2027-01-31T23:00:00Z");
        let beirut = "Asia/Beirut";
        month(beirut, "2026-03-15T00:00:00Z", "2026-02-28T22:00:00Z", "2026-03-31T21:00:00Z");
    }

    #[test]
    fn days_are_utc_dates() {
        let check = |text: &str, expected: Option<u32>| {
            assert_eq!(Day::parse(text).map(Day::get), expected, "{text}");
        };
        check("1970-01-01", Some(0));
        check("2026-11-25", Some(20_782));
        check("1969-12-31", None);
        check("2026-02-30", None);
        check("2026-11-25T10:00:00", None);
        check("20261125", None);
        check("today", None);
        assert_eq!(Day::new(20_782).to_string(), "2026-11-25");
        assert_eq!(Day::of_ms(86_400_000 * 5 - 1).get(), 4);
        assert_eq!(Day::of_ms(86_400_000 * 5), Day::new(5));
        assert_eq!(Day::new(5).begins_ms(), 86_400_000 * 5);
        assert_eq!(Day::of_ms(u64::MAX).get(), u32::MAX);
    }

    #[test]
    fn moments_that_no_calendar_knows_are_in_a_period_all_the_same() {
        for time_ms in [0, u64::MAX, 253_402_300_799_999, (1 << 48) - 1] {
            let span = calendar("America/Sao_Paulo").span(Period::Month, time_ms);
            assert!(span.contains(time_ms) || time_ms == u64::MAX, "{time_ms}: {span:?}");
        }
    }

    proptest! {
        #[test]
        fn periods_follow_each_other_without_gap_or_overlap(
            zone in 0..ZONES.len(),
            time_ms in ms("2001-01-01T00:00:00Z")..ms("2040-01-01T00:00:00Z"),
        ) {
            let calendar = calendar(ZONES[zone]);
            let day = calendar.span(Period::Day, time_ms);
            let month = calendar.span(Period::Month, time_ms);
            prop_assert!(day.contains(time_ms) && month.contains(time_ms));
            prop_assert!(month.from_ms <= day.from_ms && day.to_ms <= month.to_ms);
            for (period, span) in [(Period::Day, day), (Period::Month, month)] {
                for inside in [span.from_ms, span.to_ms - 1] {
                    prop_assert_eq!(calendar.span(period, inside), span);
                }
                prop_assert_eq!(calendar.span(period, span.to_ms).from_ms, span.to_ms);
                prop_assert_eq!(calendar.span(period, span.from_ms - 1).to_ms, span.from_ms);
            }
        }
    }
}
