//! What postbacks that are judged again do to what is earned, or would do.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use super::flow::{PostbackRequest, Received};
use super::reprocess::Again;
use super::reversal::is_open;
use crate::click_id::RecordId;
use crate::dedup::Original;
use crate::limits::{REPROCESS_FORESEEN_MAX, REPROCESS_SUMS_MAX};
use crate::model::ids::AffiliateNumber;
use crate::model::money::{Micros, Sum};
use crate::model::status::Status;
use crate::store::StoredConversion;
use crate::store::records::ConversionRecord;

/// What a conversion earns, and for whom: nothing where it is rejected or reversed.
#[derive(Clone, Copy, Debug)]
struct Worth {
    affiliate: AffiliateNumber,
    currency: [u8; 3],
    revenue: i64,
    payout: i64,
    is_approved: bool,
}

impl Worth {
    fn of(record: &ConversionRecord<'_>) -> Self {
        let (earned, status) = (record.earned(), record.status());
        let earns = status.is_some_and(is_open);
        Self {
            affiliate: record.affiliate_number(),
            currency: record.currency,
            revenue: if earns { earned.revenue } else { 0 },
            payout: if earns { earned.payout } else { 0 },
            is_approved: status == Some(Status::Approved),
        }
    }
}

/// A conversion that a postback makes or changes.
#[derive(Debug)]
struct Effect {
    before: Option<Worth>,
    after: Worth,
    /// The known conversion as it would be, where the postback only asks.
    foreseen: Option<(RecordId, Vec<u8>)>,
}

/// What the postback does that is being judged again, and what those before it would have done.
#[derive(Debug, Default)]
pub struct Effects(Mutex<Noted>);

#[derive(Debug, Default)]
struct Noted {
    /// Of the postback that is being judged.
    latest: Vec<Effect>,
    /// Known conversions as those before it would have changed them, encoded.
    foreseen: BTreeMap<RecordId, Vec<u8>>,
}

impl Effects {
    fn note(
        &self,
        before: Option<&ConversionRecord<'_>>,
        after: &ConversionRecord<'_>,
        foreseen: Option<(RecordId, Vec<u8>)>,
    ) {
        let effect = Effect { before: before.map(Worth::of), after: Worth::of(after), foreseen };
        self.with(|noted| noted.latest.push(effect));
    }

    fn with<T>(&self, what: impl FnOnce(&mut Noted) -> T) -> T {
        what(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether no more can be foreseen.
    pub(super) fn is_full(&self) -> bool {
        self.with(|noted| noted.foreseen.len() >= REPROCESS_FORESEEN_MAX)
    }

    /// Forgets what the postback did that came to nothing.
    pub(super) fn drop_latest(&self) {
        self.with(|noted| noted.latest.clear());
    }

    /// Adds what the postback did, and lets those after it see what it would have changed.
    pub(super) fn settle(&self, gains: &mut Gains) {
        self.with(|noted| {
            for effect in noted.latest.drain(..) {
                gains.add(&effect);
                noted.foreseen.extend(effect.foreseen);
            }
        });
    }
}

impl PostbackRequest<'_> {
    /// A known conversion with its status as the postbacks before this one would have changed it.
    pub(super) fn as_foreseen(&self, known: Original) -> Original {
        let foreseen = |again: &Again<'_>| {
            again.effects.with(|noted| {
                let record = ConversionRecord::decode(noted.foreseen.get(&known.conversion)?);
                record.ok()?.status()
            })
        };
        Original { status: self.again.and_then(foreseen).unwrap_or(known.status), ..known }
    }
}

impl Received<'_> {
    fn effects(&self) -> Option<&Effects> {
        self.as_received.request.again.map(|again| again.effects)
    }

    /// Notes a new conversion that is in the writer's hands, or would be.
    pub(super) fn made(&self, conversion: &ConversionRecord<'_>) {
        if let Some(effects) = self.effects() {
            effects.note(None, conversion, None);
        }
    }

    /// Notes a change of a conversion that is in the writer's hands, or would be.
    pub(super) fn changed(&self, before: &ConversionRecord<'_>, after: &ConversionRecord<'_>) {
        if let Some(effects) = self.effects() {
            effects.note(Some(before), after, None);
        }
    }

    /// The currency of what it would take back first.
    pub(super) fn currency_taken_back(&self) -> Option<[u8; 3]> {
        let first = |noted: &mut Noted| Some(noted.latest.first()?.before?.currency);
        self.effects()?.with(first)
    }

    /// Notes a change of a known conversion that is not made.
    pub(super) fn would_change(
        &self,
        known: &StoredConversion,
        before: &ConversionRecord<'_>,
        after: &ConversionRecord<'_>,
    ) {
        if let Some(effects) = self.effects() {
            let mut without_params = after.clone();
            without_params.params.clear();
            let mut bytes = Vec::new();
            without_params.encode(&mut bytes);
            effects.note(Some(before), after, Some((known.id, bytes)));
        }
    }

    /// Whether the postbacks before this one would have changed a known conversion.
    pub(super) fn would_have_changed(&self, known: RecordId) -> bool {
        let has = |effects: &Effects| effects.with(|noted| noted.foreseen.contains_key(&known));
        self.effects().is_some_and(has)
    }

    /// A known conversion as the postbacks before this one would have changed it.
    pub(super) fn foreseen(&self, known: StoredConversion) -> StoredConversion {
        let changed =
            |effects: &Effects| effects.with(|noted| noted.foreseen.get(&known.id).cloned());
        match self.effects().and_then(changed) {
            Some(bytes) => StoredConversion::new(known.id, bytes),
            None => known,
        }
    }
}

/// What an affiliate's conversions in a currency come to: new ones, and changes of known ones.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gained {
    /// How many are new.
    pub conversions: u64,
    /// What the network earns, or loses, by all that is pending or approved.
    pub revenue: Sum,
    /// What the affiliate earns, or loses, by all that is pending or approved.
    pub payout: Sum,
    /// Of the revenue, what is approved.
    pub approved_revenue: Sum,
    /// Of the payout, what is approved: what the balance has more, or less.
    pub approved_payout: Sum,
}

impl Gained {
    fn count(&mut self, worth: Worth, change: impl Fn(&mut Sum, Micros)) {
        let (revenue, payout) = (Micros::new(worth.revenue), Micros::new(worth.payout));
        change(&mut self.revenue, revenue);
        change(&mut self.payout, payout);
        if worth.is_approved {
            change(&mut self.approved_revenue, revenue);
            change(&mut self.approved_payout, payout);
        }
    }
}

/// What postbacks have earned or lost, by affiliate and currency.
#[derive(Debug, Default)]
pub struct Gains {
    rows: BTreeMap<(AffiliateNumber, [u8; 3]), Gained>,
    left_out: u64,
}

impl Gains {
    /// Each affiliate's, in each currency.
    pub fn rows(&self) -> impl Iterator<Item = (AffiliateNumber, [u8; 3], &Gained)> {
        self.rows.iter().map(|((affiliate, currency), gained)| (*affiliate, *currency, gained))
    }

    /// New conversions and changes whose affiliate found no room there.
    #[must_use]
    pub const fn left_out(&self) -> u64 {
        self.left_out
    }

    fn add(&mut self, effect: &Effect) {
        let after = effect.after;
        if let Some(row) = self.row(after) {
            row.conversions += u64::from(effect.before.is_none());
            row.count(after, Sum::add);
        }
        if let Some(before) = effect.before
            && let Some(row) = self.row(before)
        {
            row.count(before, Sum::subtract);
        }
    }

    fn row(&mut self, worth: Worth) -> Option<&mut Gained> {
        let key = (worth.affiliate, worth.currency);
        if self.rows.len() >= REPROCESS_SUMS_MAX && !self.rows.contains_key(&key) {
            self.left_out += 1;
            return None;
        }
        Some(self.rows.entry(key).or_default())
    }
}
