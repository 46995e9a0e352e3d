//! Counters: what they say is what clicks and conversions come to, quarter of an hour by quarter of
//! an hour, as far as both are still there.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::ControlFlow;

use super::conversions::each;
use super::{Report, VerifyError};
use crate::click_id::RecordId;
use crate::model::period::Quarter;
use crate::store::counters::Sign;
use crate::store::engine::EngineError;
use crate::store::keys::{self, Place, RecordKey};
use crate::store::records::{
    CapsRecord, ChangeRecord, ClickRecord, Contribution, ConversionRecord, Counted, Counts,
    LateClickRecord, PlaceRecord, RecordError, RefusedRecord, SubRecord,
};
use crate::store::schema::Table;
use crate::store::{Expired, OpenError, Part, ReadError, Sums, SumsError, View, Wanted};

/// Walks over the counters, then over clicks and conversions beside them.
pub fn walk(view: &View<'_>, expired: &Expired, report: &mut Report) -> Result<(), VerifyError> {
    each(view, Table::Counters, &mut |key, value| {
        report.count(Table::Counters.name());
        match decoded(key, value) {
            None => report.fault(Table::Counters, key, "the key is of no kind"),
            Some(Err(error)) => report.fault(Table::Counters, key, error.to_string()),
            Some(Ok(())) => {}
        }
        Ok(())
    })?;
    let sums = match view.sums() {
        // Its row is named already.
        Err(OpenError::DamagedCounters) => return Ok(()),
        sums => sums?,
    };
    let mut from = Quarter::default();
    while let Some(quarter) = next(view, from)? {
        let mut found = Found::default();
        if found.sums(&sums, quarter)? && found.records(view, quarter, expired)? {
            found.compare(quarter, expired, report);
        }
        from = quarter.next();
    }
    Ok(())
}

/// Whether a row decodes; `None` if its key does not say as what.
fn decoded(key: &[u8], value: &[u8]) -> Option<Result<(), RecordError>> {
    Some(if key == keys::COUNTED {
        Counted::decode(value).map(|_| ())
    } else if keys::place_of(key).is_some() {
        PlaceRecord::decode(value).map(|_| ())
    } else if keys::cap_sums_of(key).is_some() {
        CapsRecord::decode(value).map(|_| ())
    } else if keys::sub_of(key).is_some() {
        SubRecord::decode(value).map(|_| ())
    } else if keys::change_of(key).is_some() {
        ChangeRecord::decode(value).map(|_| ())
    } else if keys::late_click_of(key).is_some() {
        LateClickRecord::decode(value).map(|_| ())
    } else if keys::refused_of(key).is_some() {
        RefusedRecord::decode(value).map(|_| ())
    } else {
        return None;
    })
}

/// The first quarter of an hour from one on in which there is something.
fn next(view: &View<'_>, from: Quarter) -> Result<Option<Quarter>, EngineError> {
    let mut first: Option<Quarter> = None;
    let mut see = |quarter: Option<Quarter>| {
        first = first.into_iter().chain(quarter).min();
        // A key without a time is no reason to stop.
        if quarter.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    for table in [Table::Clicks, Table::Conversions] {
        let begin = keys::first_at(from.begins_ms());
        view.scan(table, &begin, &keys::KEY_END, &mut |key, _| {
            see(keys::record(key).map(|id| Quarter::of_ms(id.time_ms())))
        })?;
    }
    let (begin, end) = (keys::counters_from(from), keys::counters().1);
    view.scan(Table::Counters, &begin, &end, &mut |key, _| {
        see(keys::place_of(key).map(|place| place.quarter))
    })?;
    let (begin, end) = (keys::sub_counters_from(from), keys::sub_counters_end());
    view.scan(Table::Counters, &begin, &end, &mut |key, _| {
        see(keys::sub_of(key).map(|(place, _)| place.quarter))
    })?;
    Ok(first)
}

/// What a quarter of an hour comes to.
#[derive(Default)]
struct Found {
    counted: HashMap<Place, Counts<'static>>,
    recorded: HashMap<Place, Counts<'static>>,
    /// By `sub1`, where it has sums: the sums, less what the records come to. Without one: what all
    /// others come to.
    subs: HashMap<(Place, Option<Box<str>>), Counts<'static>>,
    /// Places of conversions whose click is not there: what its `sub1` was nobody can tell.
    untold: HashSet<Place>,
}

impl Found {
    /// Takes what the counters say; false if they cannot be read, which is named already.
    fn sums(&mut self, sums: &Sums<'_>, quarter: Quarter) -> Result<bool, VerifyError> {
        let wanted = Wanted { quarters: quarter..quarter.next(), subs: true };
        let read = sums.each(&wanted, &mut |place, part, counts| {
            match part {
                Part::Whole => self.counted.entry(place).or_default().add(counts, Sign::Plus),
                Part::Sub(sub) => {
                    let place = (place, sub.map(Into::into));
                    self.subs.entry(place).or_default().add(counts, Sign::Plus);
                }
            }
            ControlFlow::Continue(())
        });
        match read {
            Ok(()) => Ok(true),
            Err(SumsError::Read(ReadError::Record(_))) => Ok(false),
            Err(SumsError::Read(error)) => Err(error.into()),
            Err(SumsError::Open(error)) => Err(error.into()),
            // More than the server would ever leave uncounted for a report: not looked at.
            Err(SumsError::Behind) => Ok(false),
        }
    }

    /// Adds up the records; false if some do not decode, which is named already.
    fn records(
        &mut self,
        view: &View<'_>,
        quarter: Quarter,
        expired: &Expired,
    ) -> Result<bool, EngineError> {
        let [from, to] = [quarter, quarter.next()].map(|it| keys::first_at(it.begins_ms()));
        let (mut sound, with_subs) = (true, from >= expired.clicks);
        view.scan(Table::Clicks, &from, &to, &mut |key, value| {
            match (keys::record(key), ClickRecord::decode(value)) {
                (Some(id), Ok(record)) => self.click(id, &record),
                _ => sound = false,
            }
            ControlFlow::Continue(())
        })?;
        let mut read = Ok(());
        view.scan(Table::Conversions, &from, &to, &mut |key, value| {
            match (keys::record(key), ConversionRecord::decode(value)) {
                (Some(id), Ok(record)) => {
                    let (place, added) = (Place::of(id), Contribution::of(&record));
                    self.recorded.entry(place).or_default().conversion(&added, Sign::Plus);
                    if with_subs {
                        read = self.conversion_of_sub(view, place, record.click, &added);
                    }
                }
                _ => sound = false,
            }
            if read.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        read.map(|()| sound)
    }

    fn conversion_of_sub(
        &mut self,
        view: &View<'_>,
        place: Place,
        click: RecordKey,
        added: &Contribution<'_>,
    ) -> Result<(), EngineError> {
        let bytes = view.get(Table::Clicks, &click)?;
        match bytes.as_deref().map(ClickRecord::decode) {
            Some(Ok(record)) => {
                if let Some(rest) = self.sub(place, record.subs[0]) {
                    rest.conversion(added, Sign::Minus);
                }
            }
            _ => {
                self.untold.insert(place);
            }
        }
        Ok(())
    }

    fn click(&mut self, id: RecordId, record: &ClickRecord<'_>) {
        let place = Place::of(id);
        self.recorded.entry(place).or_default().click(record.fallback);
        if let Some(rest) = self.sub(place, record.subs[0]) {
            let mut one = Counts::default();
            one.click(record.fallback);
            rest.add(&one, Sign::Minus);
        }
    }

    /// Where a value of `sub1` is counted: by itself if it has sums, else with others. Clicks
    /// without are in the sums of their place alone.
    fn sub(&mut self, place: Place, sub1: &str) -> Option<&mut Counts<'static>> {
        if sub1.is_empty() {
            return None;
        }
        let named = (place, Some(sub1.into()));
        let counted = if self.subs.contains_key(&named) { named } else { (place, None) };
        Some(self.subs.entry(counted).or_default())
    }

    /// Names what differs, of records that retention has left alone.
    fn compare(mut self, quarter: Quarter, expired: &Expired, report: &mut Report) {
        let begin = keys::first_at(quarter.begins_ms());
        let (clicks, conversions) = (begin >= expired.clicks, begin >= expired.conversions);
        let places: BTreeSet<_> =
            self.counted.keys().chain(self.recorded.keys()).copied().collect();
        for place in places {
            let counted = self.counted.remove(&place).unwrap_or_default().sorted();
            let recorded = self.recorded.remove(&place).unwrap_or_default().sorted();
            let of_clicks = |counts: &Counts<'static>| (counts.clicks, counts.fallbacks.clone());
            if clicks && of_clicks(&counted) != of_clicks(&recorded) {
                let fault = "the clicks are not those that are recorded";
                report.fault(Table::Counters, &keys::counter(place), fault);
            }
            if conversions && counted.events != recorded.events {
                let fault = "the sums are not those of the conversions";
                report.fault(Table::Counters, &keys::counter(place), fault);
            }
        }
        let subs: BTreeMap<_, _> = self.subs.iter().filter(|_| clicks).collect();
        for ((place, sub), rest) in subs {
            let key = keys::sub_counter(*place, sub.as_deref());
            let whose = sub.as_ref().map_or("all other values of sub1", |_| "this sub1");
            if rest.clicks != 0 || !rest.fallbacks.is_empty() {
                let fault = format!("the clicks of {whose} are not those that are recorded");
                report.fault(Table::Counters, &key, fault);
            }
            if conversions && !rest.events.is_empty() && !self.untold.contains(place) {
                let fault = format!("the sums of {whose} are not those of the conversions");
                report.fault(Table::Counters, &key, fault);
            }
        }
    }
}
