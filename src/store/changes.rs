//! Changes of conversions that are there already.

use std::sync::Arc;

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
        self.writer.submit(ticket, |batch| {
            batch.put(Table::Conversions, conversion.as_bytes(), |out| record.encode(out));
        })
    }

    /// Queues a new conversion together with the change of another one: both or neither.
    ///
    /// # Errors
    /// As [`Store::commit_conversion`].
    pub fn commit_with_change(
        &self,
        new: (RecordId, &ConversionRecord<'_>),
        changed: (RecordId, &ConversionRecord<'_>),
        ticket: Arc<dyn Settle>,
    ) -> Result<(), SubmitError> {
        self.writer.submit_conversion(new.0, ticket, |batch, with_rows| {
            for (id, record) in [new, changed] {
                batch.put(Table::Conversions, id.as_bytes(), |out| record.encode(out));
            }
            if with_rows {
                filing::put_rows(batch, new.0, new.1);
            }
        })
    }
}
