//! Rows of the sums, as they are stored before something is added to them.

use std::collections::BTreeMap;

use super::counters::Sign;
use super::engine::{Engine, EngineError};
use super::keys::{self, Place};
use super::records::{Counts, PlaceRecord, RecordError, SubRecord};
use super::schema::Table;
use crate::limits::SUBS_PER_PLACE_MAX;

/// A value of `sub1`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Sub {
    /// It is.
    Named(Box<str>),
    /// It is not known, because the click's record is not there.
    Other,
}

impl Sub {
    /// Clicks without `sub1` have no sums of their own: they are what others leave of the place's.
    pub(super) fn of(sub1: &str) -> Option<Self> {
        (!sub1.is_empty()).then(|| Self::Named(sub1.into()))
    }
}

/// What is added for one value of `sub1`, or for those that have no row of their own.
pub struct SubCounts {
    /// The value.
    pub sub: Option<Box<str>>,
    /// The row as it is.
    pub(super) stored: Option<Vec<u8>>,
    /// What is added.
    pub counts: Counts<'static>,
}

/// Which rows the values of `sub1` add to: their own while there is room for them, once and for
/// all; so a row has all that there ever was of its value.
pub(super) fn by_row(
    engine: &dyn Engine,
    place: Place,
    subs: BTreeMap<Sub, Counts<'static>>,
    named: &mut u32,
) -> Result<Vec<SubCounts>, EngineError> {
    let mut rows = Vec::with_capacity(subs.len());
    let mut others: Option<Counts<'static>> = None;
    for (sub, counts) in subs {
        if let Sub::Named(sub) = sub {
            let stored = engine.value(Table::Counters, &keys::sub_counter(place, Some(&sub)))?;
            if stored.is_some() || *named < SUBS_PER_PLACE_MAX {
                *named += u32::from(stored.is_none());
                rows.push(SubCounts { sub: Some(sub), stored, counts });
                continue;
            }
        }
        others.get_or_insert_default().add(&counts, Sign::Plus);
    }
    if let Some(counts) = others {
        let stored = engine.value(Table::Counters, &keys::sub_counter(place, None))?;
        rows.push(SubCounts { sub: None, stored, counts });
    }
    Ok(rows)
}

/// A place's row, and how many values of `sub1` it has.
pub(super) fn stored_place(
    engine: &dyn Engine,
    place: Place,
) -> Result<(Option<Vec<u8>>, u32), EngineError> {
    let stored = engine.value(Table::Counters, &keys::counter(place))?;
    let named = stored.as_deref().and_then(|bytes| Some(PlaceRecord::decode(bytes).ok()?.subs));
    Ok((stored, named.unwrap_or_default()))
}

pub(super) fn place_counts(bytes: &[u8]) -> Result<Counts<'_>, RecordError> {
    Ok(PlaceRecord::decode(bytes)?.counts)
}

pub(super) fn sub_counts(bytes: &[u8]) -> Result<Counts<'_>, RecordError> {
    Ok(SubRecord::decode(bytes)?.counts)
}

/// What is stored, with what is added. Sums that are damaged begin anew; those that a later release
/// has written must not.
pub(super) fn sum<'s>(
    stored: Option<Result<Counts<'s>, RecordError>>,
    added: &Counts<'_>,
) -> Result<Counts<'s>, RecordError> {
    let mut counts = match stored {
        Some(Err(error)) if error.is_newer() => return Err(error),
        Some(Err(error)) => {
            tracing::error!(%error, "sums that cannot be read begin anew");
            Counts::default()
        }
        Some(Ok(counts)) => counts,
        None => Counts::default(),
    };
    counts.add(added, Sign::Plus);
    Ok(counts)
}
