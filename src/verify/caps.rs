//! Sums for caps: what they say is what conversions come to, 32 days by 32 days, as far as retention
//! has left them.

use std::collections::{BTreeSet, HashMap};
use std::ops::ControlFlow;

use super::{Report, VerifyError};
use crate::model::ids::OfferNumber;
use crate::model::period::Quarter;
use crate::store::counters::Sign;
use crate::store::engine::EngineError;
use crate::store::keys::{self, Place, RecordKey};
use crate::store::records::{CapsRecord, ChangeRecord, Contribution, ConversionRecord};
use crate::store::schema::Table;
use crate::store::{Expired, OpenError, View};

/// Walks over the sums, with what is still to be added to them, beside the conversions.
pub fn walk(view: &View<'_>, expired: &Expired, report: &mut Report) -> Result<(), VerifyError> {
    let below = match view.counted_for_caps() {
        // Its row is named already.
        Err(OpenError::DamagedCounters) => return Ok(()),
        below => below?,
    };
    let mut from = Some(Quarter::default());
    while let Some(first) = from.map(|from| next(view, from, &below)).transpose()?.flatten() {
        let mut found = Found::default();
        let (from_key, to) = range(&first, &below);
        // What does not decode is named already.
        if found.sums(view, &first)? & found.records(view, &from_key, &to)? {
            found.compare(from_key >= expired.conversions, report);
        }
        from = first.after_caps();
    }
    Ok(())
}

/// The keys of conversions that the rows of a time count.
fn range(first: &Place, below: &RecordKey) -> (RecordKey, RecordKey) {
    let from = keys::first_at(first.quarter.begins_ms());
    let to = first.after_caps().map_or(*below, |after| keys::first_at(after.begins_ms()));
    (from, to.min(*below).max(from))
}

/// The first time of 32 days, from one on, in which there is something.
fn next(view: &View<'_>, from: Quarter, below: &RecordKey) -> Result<Option<Place>, EngineError> {
    let mut first: Option<Place> = None;
    let mut see = |place: Option<Place>| {
        let earlier = |place: &Place| first.is_none_or(|first| place.quarter < first.quarter);
        first = place.filter(earlier).or(first);
        // A key without a time is no reason to stop.
        if place.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let begin = keys::first_at(from.begins_ms());
    if begin < *below {
        view.scan(Table::Conversions, &begin, below, &mut |key, _| {
            see(keys::record(key).map(Place::of_caps))
        })?;
    }
    let begin = keys::cap_sums_from(from, OfferNumber::NONE);
    view.scan(Table::Counters, &begin, &keys::cap_sums_end(), &mut |key, _| {
        see(keys::cap_sums_of(key))
    })?;
    Ok(first)
}

/// What caps have counted in 32 days, less what the conversions come to.
#[derive(Default)]
struct Found(HashMap<Place, CapsRecord<'static>>);

impl Found {
    /// Takes what the rows say; false if some do not decode.
    fn sums(&mut self, view: &View<'_>, first: &Place) -> Result<bool, EngineError> {
        let begin = keys::cap_sums_from(first.quarter, OfferNumber::NONE);
        let after = first.after_caps().map(|after| keys::cap_sums_from(after, OfferNumber::NONE));
        let end = keys::cap_sums_end();
        let end = after.as_ref().map_or(&end[..], |after| &after[..]);
        let mut sound = true;
        view.scan(Table::Counters, &begin, end, &mut |key, value| {
            match (keys::cap_sums_of(key), CapsRecord::decode(value)) {
                (Some(place), Ok(sums)) => self.0.entry(place).or_default().add(&sums),
                _ => sound = false,
            }
            ControlFlow::Continue(())
        })?;
        Ok(sound)
    }

    /// Takes away the conversions of a range, and adds the changes that are still to be added to the
    /// rows; false if some do not decode.
    fn records(
        &mut self,
        view: &View<'_>,
        from: &RecordKey,
        to: &RecordKey,
    ) -> Result<bool, EngineError> {
        let mut sound = true;
        if from >= to {
            return Ok(sound);
        }
        view.scan(Table::Conversions, from, to, &mut |key, value| {
            match (keys::record(key), ConversionRecord::decode(value)) {
                (Some(id), Ok(record)) => {
                    let rest = self.0.entry(Place::of_caps(id)).or_default();
                    rest.conversion(&Contribution::of(&record), Sign::Minus);
                }
                _ => sound = false,
            }
            ControlFlow::Continue(())
        })?;
        let (from, to) = (keys::changes_from(from), keys::changes_from(to));
        view.scan(Table::Counters, &from, &to, &mut |key, value| {
            match (keys::change_of(key), ChangeRecord::decode(value)) {
                (Some((id, _)), Ok(change)) => {
                    change.in_caps(self.0.entry(Place::of_caps(id)).or_default(), Sign::Plus);
                }
                _ => sound = false,
            }
            ControlFlow::Continue(())
        })?;
        Ok(sound)
    }

    /// Names what differs; where retention has begun to let go, only what counts fewer conversions
    /// than there are.
    fn compare(self, whole: bool, report: &mut Report) {
        let differs = |rest: &CapsRecord<'_>| match whole {
            true => !rest.sums.is_empty(),
            false => rest.sums.iter().any(|sum| sum.conversions < 0),
        };
        let wrong: BTreeSet<_> =
            self.0.iter().filter(|(_, rest)| differs(rest)).map(|(place, _)| *place).collect();
        for place in wrong {
            let fault = "what caps have counted is not what the conversions come to";
            report.fault(Table::Counters, &keys::cap_sums(place), fault);
        }
    }
}
