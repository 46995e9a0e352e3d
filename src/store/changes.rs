//! Changes of conversions that are there already.

use std::sync::Arc;

use super::bounds::Bounds;
use super::engine::Batch;
use super::origin::Origin;
use super::postings::deferred;
use super::records::ConversionRecord;
use super::schema::Table;
use super::ticket::Settle;
use super::{Arrival, Store, SubmitError, counting, filing};
use crate::click_id::RecordId;

/// A known conversion: its record as it is and as it becomes. Its history grows, and its click, its
/// event, its transaction and its claims, of which its index rows are made, stay; or it is erased,
/// and of the texts among these the keys stay that were made of them. Whoever changes it holds its claims, so that it is settled and nobody else changes it meanwhile.
#[derive(Clone, Copy)]
pub struct ConversionChange<'c> {
    /// Which.
    pub conversion: RecordId,
    /// As it is on disk.
    pub before: &'c ConversionRecord<'c>,
    /// As it becomes.
    pub after: &'c ConversionRecord<'c>,
}

impl Store {
    /// Queues a known conversion's record with what has changed in it, and the postback that
    /// changed it, if one did: both or none.
    ///
    /// # Errors
    /// As [`Store::commit_conversion`].
    pub fn change_conversion(
        &self,
        change: ConversionChange<'_>,
        received: Option<&Arrival<'_>>,
        ticket: Arc<dyn Settle>,
    ) -> Result<(), SubmitError> {
        self.writer.submit_derived(Origin::Postback, ticket, |batch, bounds, arrivals| {
            change.put(batch, bounds);
            received.into_iter().for_each(|received| arrivals.push(received));
        })
    }

    /// Queues a new conversion together with changes of others, and the postback that says so: all
    /// or none.
    ///
    /// # Errors
    /// As [`Store::commit_conversion`].
    pub fn commit_with_changes(
        &self,
        new: (RecordId, &ConversionRecord<'_>),
        changes: &[ConversionChange<'_>],
        received: Option<&Arrival<'_>>,
        ticket: Arc<dyn Settle>,
    ) -> Result<(), SubmitError> {
        self.writer.submit_conversion(new.0, ticket, |batch, bounds, arrivals| {
            filing::put_conversion(batch, new.0, new.1, bounds);
            for change in changes {
                change.put(batch, bounds);
            }
            received.into_iter().for_each(|received| arrivals.push(received));
        })
    }
}

impl ConversionChange<'_> {
    /// Puts the record, and what is derived from the change if no round will do so.
    fn put(&self, batch: &mut Batch, bounds: &Bounds) {
        let Self { conversion, before, after } = *self;
        debug_assert!(after.history.len() > before.history.len(), "a change is a step");
        let after = &*deferred(conversion, after, before.history.len(), bounds.unsealed);
        batch.put(Table::Conversions, conversion.as_bytes(), |out| after.encode(out));
        if after.is_erased() && !before.is_erased() {
            filing::put_erased_claim(batch, conversion, after);
        }
        if conversion.as_bytes() < &bounds.filed {
            filing::put_postings(batch, conversion, after);
        }
        if conversion.as_bytes() < &bounds.counted.conversions {
            counting::put_change(batch, conversion, Some(before), after);
        }
    }
}
