//! Changes of conversions that are there already.

use std::sync::Arc;

use super::records::ConversionRecord;
use super::schema::Table;
use super::ticket::Settle;
use super::{Store, SubmitError};
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
}
