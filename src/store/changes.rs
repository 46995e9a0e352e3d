//! Changes of conversions that are there already.

use std::sync::Arc;

use super::engine::Batch;
use super::keys::RecordKey;
use super::records::ConversionRecord;
use super::schema::Table;
use super::ticket::Settle;
use super::{Store, SubmitError, filing};
use crate::click_id::RecordId;

impl Store {
    /// Queues a known conversion's record with what has changed in it: anything but its click, its
    /// event, its transaction and its claims, of which its index rows are made. The caller holds
    /// its claims, so that it is settled and nobody else changes it meanwhile.
    ///
    /// # Errors
    /// As [`Store::commit_conversion`].
    pub fn change_conversion(
        &self,
        conversion: RecordId,
        record: &ConversionRecord<'_>,
        ticket: Arc<dyn Settle>,
    ) -> Result<(), SubmitError> {
        self.writer.submit_rewriting(ticket, |batch, closed_below| {
            put_changed(batch, conversion, record, closed_below);
        })
    }

    /// Queues a new conversion together with changes of others: all or none.
    ///
    /// # Errors
    /// As [`Store::commit_conversion`].
    pub fn commit_with_changes(
        &self,
        new: (RecordId, &ConversionRecord<'_>),
        changed: &[(RecordId, ConversionRecord<'_>)],
        ticket: Arc<dyn Settle>,
    ) -> Result<(), SubmitError> {
        self.writer.submit_conversion(new.0, ticket, |batch, closed_below| {
            filing::put_conversion(batch, new.0, new.1, closed_below);
            for (conversion, record) in changed {
                put_changed(batch, *conversion, record, closed_below);
            }
        })
    }
}

/// Puts a known conversion's record, and its postings if no filing round will derive them.
fn put_changed(
    batch: &mut Batch,
    conversion: RecordId,
    record: &ConversionRecord<'_>,
    closed_below: &RecordKey,
) {
    batch.put(Table::Conversions, conversion.as_bytes(), |out| record.encode(out));
    if conversion.as_bytes() < closed_below {
        filing::put_postings(batch, conversion, record);
    }
}
