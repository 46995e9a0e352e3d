//! Hours and days of a time zone, made of quarters of an hour.

use std::fmt;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::{Offset, TimeZone};

use crate::model::period::{Quarter, moment};

const HOUR_S: i64 = 60 * 60;

/// An hour of the clock on the wall. Where clocks are set back, an hour is there twice, told apart
/// by what the clock is away from UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hour {
    /// When a clock that is as far from UTC shows its beginning, Unix seconds.
    begins_s: i64,
    offset_s: i32,
}

impl fmt::Display for Hour {
    /// RFC 3339, such as `2026-10-25T02:00:00+01:00`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let offset = Offset::from_seconds(self.offset_s).unwrap_or(Offset::UTC);
        let begins = Timestamp::from_second(self.begins_s).unwrap_or_default();
        write!(f, "{}", begins.display_with_offset(offset))
    }
}

/// The hour and the day that a quarter of an hour is part of.
pub struct Buckets<'z> {
    time_zone: &'z TimeZone,
    /// The last answer: sums come in time order.
    last: Option<(Quarter, Hour, Date)>,
}

impl<'z> Buckets<'z> {
    /// Those of a time zone.
    pub const fn new(time_zone: &'z TimeZone) -> Self {
        Self { time_zone, last: None }
    }

    /// The hour and the day.
    pub fn of(&mut self, quarter: Quarter) -> (Hour, Date) {
        match self.last {
            Some((last, hour, day)) if last == quarter => (hour, day),
            _ => {
                let (hour, day) = self.look_up(quarter);
                self.last = Some((quarter, hour, day));
                (hour, day)
            }
        }
    }

    fn look_up(&self, quarter: Quarter) -> (Hour, Date) {
        let moment = moment(quarter.begins_ms()).unwrap_or(Timestamp::MAX);
        let offset = self.time_zone.to_offset(moment);
        let offset_s = offset.seconds();
        let local_s = moment.as_second() + i64::from(offset_s);
        let begins_s = local_s.div_euclid(HOUR_S) * HOUR_S - i64::from(offset_s);
        (Hour { begins_s, offset_s }, offset.to_datetime(moment).date())
    }
}

/// The quarter with which a date begins. A date begins with its first moment, which is not midnight
/// where clocks are set forward then. `None` before 1970 and after the last that there is.
#[must_use]
pub fn day_begins(date: Date, time_zone: &TimeZone) -> Option<Quarter> {
    quarter_at(date.to_zoned(time_zone.clone()).ok()?.timestamp())
}

/// The quarter that a moment is part of; `None` before 1970 and after the last that there is.
#[must_use]
pub fn quarter_at(moment: Timestamp) -> Option<Quarter> {
    let quarter = Quarter::of_ms(u64::try_from(moment.as_millisecond()).ok()?);
    (quarter.get() < u32::MAX).then_some(quarter)
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;
    use proptest::prelude::*;

    use super::*;

    const ZONES: [&str; 8] = [
        "UTC",
        "Europe/Berlin",
        "America/Sao_Paulo",
        "America/Havana",
        "Pacific/Apia",
        "Asia/Kathmandu",
        "Australia/Lord_Howe",
        "Pacific/Chatham",
    ];

    fn zone(name: &str) -> TimeZone {
        TimeZone::get(name).expect("a zone")
    }

    fn quarter(moment: &str) -> Quarter {
        quarter_at(moment.parse().expect("a time")).expect("a quarter")
    }

    fn check(name: &str, moment: &str, expected: (&str, &str)) {
        let zone = zone(name);
        let (hour, day) = Buckets::new(&zone).of(quarter(moment));
        assert_eq!((&*hour.to_string(), &*day.to_string()), expected, "{moment} in {name}");
    }

    #[test]
    fn hours_and_days_are_those_of_the_clock_on_the_wall() {
        check("UTC", "2026-03-29T23:59:59Z", ("2026-03-29T23:00:00+00:00", "2026-03-29"));
        let berlin = |moment, hour, day| check("Europe/Berlin", moment, (hour, day));
        berlin("2026-03-29T00:45:00Z", "2026-03-29T01:00:00+01:00", "2026-03-29");
        berlin("2026-03-29T01:00:00Z", "2026-03-29T03:00:00+02:00", "2026-03-29");
        // The hour that is there twice.
        berlin("2026-10-25T00:15:00Z", "2026-10-25T02:00:00+02:00", "2026-10-25");
        berlin("2026-10-25T01:15:00Z", "2026-10-25T02:00:00+01:00", "2026-10-25");
        berlin("2026-10-25T23:00:00Z", "2026-10-26T00:00:00+01:00", "2026-10-26");
        check(
            "Asia/Kathmandu",
            "2026-01-01T18:15:00Z",
            ("2026-01-02T00:00:00+05:45", "2026-01-02"),
        );
        check(
            "Asia/Kathmandu",
            "2026-01-01T18:00:00Z",
            ("2026-01-01T23:00:00+05:45", "2026-01-01"),
        );
        // Half an hour forward at two o'clock: the hour begins in the middle.
        check(
            "Australia/Lord_Howe",
            "2026-10-03T15:30:00Z",
            ("2026-10-04T02:00:00+11:00", "2026-10-04"),
        );
    }

    #[test]
    fn a_day_begins_with_its_first_moment() {
        let check = |name: &str, day: Date, begins: &str| {
            assert_eq!(day_begins(day, &zone(name)), Some(quarter(begins)), "{day} in {name}");
        };
        check("Europe/Berlin", date(2026, 3, 29), "2026-03-28T23:00:00Z");
        check("America/Sao_Paulo", date(2018, 11, 4), "2018-11-04T03:00:00Z");
        check("Asia/Kathmandu", date(2026, 1, 2), "2026-01-01T18:15:00Z");
        assert_eq!(day_begins(date(1969, 12, 1), &TimeZone::UTC), None);
        assert_eq!(day_begins(Date::MAX, &TimeZone::UTC), None);
    }

    proptest! {
        #[test]
        fn a_moments_quarter_is_in_the_moments_hour_and_day(
            name in 0..ZONES.len(),
            second in 978_307_200_i64..2_208_988_800,
        ) {
            let zone = zone(ZONES[name]);
            let moment = Timestamp::from_second(second).expect("a time");
            let at = quarter_at(moment).expect("a quarter");
            let (hour, day) = Buckets::new(&zone).of(at);
            let local = moment.to_zoned(zone.clone());
            prop_assert_eq!(day, local.date());
            let begins = local.strftime("%Y-%m-%dT%H:00:00%:z").to_string();
            prop_assert_eq!(hour.to_string(), begins);
            let (first, next) = (day_begins(day, &zone), day_begins(day.tomorrow().expect("a day"), &zone));
            prop_assert!(first.expect("a day") <= at && at < next.expect("a day"));
        }
    }
}
