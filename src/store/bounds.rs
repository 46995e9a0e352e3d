//! Bounds between what is still collected and what is derived from it in bulk.

use super::keys::RecordKey;
use super::records::Counted;
use crate::model::period::Day;

/// Where the conversions submitted so far end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    /// All their keys are below.
    pub below: RecordKey,
    /// How many there are.
    pub submitted: u64,
}

/// What is committed below a bound brings along what is derived from it: no round in bulk will. And
/// what would be posted below one is posted there.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bounds {
    /// Conversions: their index rows and postings.
    pub filed: RecordKey,
    /// Clicks and conversions: what they add to the sums.
    pub counted: Counted,
    /// Days: those before are sealed, or about to be.
    pub unsealed: Day,
}
