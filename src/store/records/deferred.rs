//! Steps whose day was sealed when they came: they are posted to a later one.

use serde::{Deserialize, Serialize};

use super::{ConversionRecord, RecordError, behind, read};

/// A step that is posted no earlier than on a day, and with it those after it, because what comes
/// before that day may have been sealed when the step came: by a clock that was ahead, or before
/// the clock was set back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deferred {
    /// Which of the history's steps, from 0.
    pub step: u16,
    /// The day, counted from 1970-01-01.
    pub day: u32,
}

/// Reads a conversion of version 6 behind its version byte: as version 4, and then what is erased,
/// if anything, and what is deferred.
pub(super) fn decode(bytes: &[u8]) -> Result<ConversionRecord<'_>, RecordError> {
    let (mut record, rest): (ConversionRecord<'_>, _) = behind(bytes)?;
    (record.erased, record.deferred) = read(rest)?;
    Ok(record)
}
