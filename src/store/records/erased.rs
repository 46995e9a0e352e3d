//! What is left of clicks and conversions after what told of a person was erased, and what is kept
//! of an erasure itself.

use serde::{Deserialize, Serialize};

use super::{
    ClickRecord, ConversionRecord, HistoryEntry, RecordError, StoredIp, append, behind, read,
    unknown,
};
use crate::model::reasons::{ERASED, Flag};
use crate::store::claim::{Claim, ClaimSet};
use crate::store::keys::DedupeKey;

const ERASURE_VERSION: u8 = 1;

/// The keys of claims that a conversion's erased texts had made: it still holds them, so that it
/// is recognised by whoever sends the texts again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErasedTexts {
    /// Of its transaction or reversal; `None` if it had no ID.
    pub txn: Option<[u8; 16]>,
    /// Of its customer; `None` if it named none.
    pub customer: Option<[u8; 16]>,
}

/// Reads a conversion of version 5 behind its version byte.
pub(super) fn decode(bytes: &[u8]) -> Result<ConversionRecord<'_>, RecordError> {
    let (mut record, rest): (ConversionRecord<'_>, _) = behind(bytes)?;
    record.erased = Some(Box::new(read(rest)?));
    Ok(record)
}

impl<'a> ClickRecord<'a> {
    /// The click without what tells of its visitor: what is left says that there was a click.
    #[must_use]
    pub fn erased(&self) -> Self {
        Self {
            fallback: self.fallback,
            flags: self.flags | Flag::Erased.bit(),
            ip: StoredIp::None,
            ..Self::default()
        }
    }

    /// Whether that has happened.
    #[must_use]
    pub const fn is_erased(&self) -> bool {
        self.flags & Flag::Erased.bit() != 0
    }
}

impl<'a> ConversionRecord<'a> {
    /// The conversion without what tells of its customer, with a step that says so and books
    /// nothing. Its claims stay, as keys; money, times and what the catalog names stay.
    #[must_use]
    pub fn erased(&self, now_ms: u64) -> Self {
        let mut anew = self.clone();
        let first = ClaimSet::to_change(self).hard().next();
        let first = first.filter(|_| !self.txn_id.is_empty()).map(|claim| claim.store_key().0);
        let customer = Claim::customer_of(self).map(|claim| claim.store_key().0);
        anew.erased = Some(Box::new(ErasedTexts { txn: first, customer }));
        (anew.txn_id, anew.customer_id) = ("", "");
        // What a negative event has taken back is ours, and comes behind what was sent.
        anew.params =
            self.params.last().filter(|_| self.is_negative()).copied().into_iter().collect();
        anew.flags |= Flag::Erased.bit();
        anew.history.extend(self.history.last().map(|last| self.step_of_erasure(last, now_ms)));
        anew
    }

    /// The last step once more.
    fn step_of_erasure(&self, last: &HistoryEntry<'a>, now_ms: u64) -> HistoryEntry<'a> {
        let base = self.exchanged.as_deref().and_then(|exchanged| exchanged.base);
        HistoryEntry {
            time_ms: now_ms,
            event_time_ms: now_ms,
            booked_base: base.and_then(|base| base.of(last.booked_revenue, last.booked_payout)),
            reason: ERASED,
            ..*last
        }
    }

    /// Whether that has happened.
    #[must_use]
    pub const fn is_erased(&self) -> bool {
        self.erased.is_some()
    }

    /// The key of the customer that it names, or named before that was erased.
    #[must_use]
    pub fn customer_key(&self) -> Option<DedupeKey> {
        Claim::customer_of(self).map(|claim| claim.store_key())
    }
}

/// An erasure that is under way: a row of it is there until nothing is left to erase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErasureRecord {
    /// When it was asked for, Unix milliseconds.
    pub asked_ms: u64,
}

coded! { ERASURE_VERSION: ErasureRecord }
