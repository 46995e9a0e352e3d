//! Sums over the conversions that one request looks at.

use std::sync::{Arc, Mutex, PoisonError};

use crate::store::records::{ConversionRecord, RecordError};
use crate::store::{ConversionFilter, StoredConversion};

/// What is being summed up.
pub struct Summing<S>(Arc<Mutex<(S, Option<RecordError>)>>);

impl<S: Default + Send + 'static> Summing<S> {
    /// Nothing yet, and the filter of a listing by which conversions are added that `is_wanted`.
    /// Each is where it lies and none is let through, so that no page fills up.
    pub fn new(
        is_wanted: impl Fn(&ConversionRecord<'_>) -> bool + Send + Sync + 'static,
        add: impl Fn(&mut S, &ConversionRecord<'_>) + Send + Sync + 'static,
    ) -> (Self, ConversionFilter) {
        let all = Arc::new(Mutex::default());
        let shared = Arc::clone(&all);
        let each = move |row: &StoredConversion| {
            let mut all = shared.lock().unwrap_or_else(PoisonError::into_inner);
            let (sums, damaged) = &mut *all;
            match row.record() {
                Ok(record) if is_wanted(&record) => add(sums, &record),
                Ok(_) => {}
                Err(error) => *damaged = Some(error),
            }
            false
        };
        (Self(all), Arc::new(each))
    }

    /// The sums.
    ///
    /// # Errors
    /// When a conversion that was looked at does not decode.
    pub fn end(self) -> Result<S, RecordError> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (sums, damaged) = std::mem::take(&mut *all);
        damaged.map_or(Ok(sums), Err)
    }
}
