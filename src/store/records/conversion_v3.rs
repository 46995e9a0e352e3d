//! Version 3 of the conversion record: with nothing booked in the network's currency. It is
//! version 2, and then how much of the amount has been taken back in part.

use super::{ConversionRecord, RecordError, conversion_v2, read};

pub(super) const VERSION: u8 = 3;

/// Reads what follows the version byte.
pub(super) fn decode(bytes: &[u8]) -> Result<ConversionRecord<'_>, RecordError> {
    let (mut record, rest) = conversion_v2::read(bytes)?;
    record.reversed_amount = read(rest)?;
    Ok(record)
}
