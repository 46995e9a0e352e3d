//! Conversions that had no exchange rate, priced when it has come.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::flow::Postbacks;
use super::price::{Base, Price, Said, in_base, price_by};
use crate::caps::{Counted, Tier};
use crate::catalog::{Catalog, Event, Terms};
use crate::click_id::RecordId;
use crate::limits::{FUTURE_TIMESTAMP_MS_MAX, REPRICED_PER_COMMIT_MAX};
use crate::model::currency::Currency;
use crate::model::money::Micros;
use crate::model::rate::Day;
use crate::model::reasons::Flag;
use crate::rates::Market;
use crate::store::records::{ConversionRecord, Exchanged, HistoryEntry};
use crate::store::{ChangeError, ReadError, StoredConversion};

/// What pricing sets anew.
const PRICE_FLAGS: u32 = Flag::AmountMissing.bit() | Flag::RateMissing.bit();

/// Why conversions were not priced anew; those before the failure were.
#[derive(Debug, thiserror::Error)]
pub enum RepriceError {
    /// The store could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The store did not take the change.
    #[error(transparent)]
    Change(#[from] ChangeError),
}

impl Postbacks {
    /// Prices the conversions of these days that are flagged as having had no rate; returns how
    /// many have changed. Only one task may do so at a time: it reads, and then writes.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub async fn reprice(&self, days: &BTreeSet<Day>, now_ms: u64) -> Result<usize, RepriceError> {
        let Some(first) = days.first() else { return Ok(0) };
        // A conversion is minted when it is reported, at most this long before it happened.
        let from_ms = first.begins_ms().saturating_sub(FUTURE_TIMESTAMP_MS_MAX);
        let (mut cursor, mut changed) = (None, 0);
        loop {
            let wanted = days.clone();
            let filter = Arc::new(move |row: &StoredConversion| {
                row.record().is_ok_and(|record| waits_for(&record, &wanted))
            });
            let limit = REPRICED_PER_COMMIT_MAX;
            let page = self.store.conversions(from_ms, u64::MAX, cursor, limit, filter).await?;
            let catalog = self.catalog.load_full();
            let _nobody_counts = self.meters.hold_still().await;
            let mut repriced = Vec::with_capacity(page.rows.len());
            for row in &page.rows {
                let record = row.record().map_err(ReadError::from)?;
                let anew = priced_anew(&record, &catalog, &self.market, now_ms);
                repriced.extend(anew.map(|anew| (row.id, anew)));
            }
            if !repriced.is_empty() {
                self.store.replace_conversions(&repriced).await?;
                self.count_anew(&page.rows, &repriced);
            }
            changed += repriced.len();
            if page.next.is_none() {
                return Ok(changed);
            }
            cursor = page.next;
        }
    }
}

impl Postbacks {
    /// Tells the meters of the offers what their conversions pay now.
    fn count_anew(&self, before: &[StoredConversion], after: &[(RecordId, ConversionRecord<'_>)]) {
        for row in before {
            let Some(meter) = self.meters.of(row.id.offer()) else { continue };
            let after = after.iter().find(|(id, _)| *id == row.id);
            let after = after.and_then(|(id, record)| Counted::of(*id, record));
            let before = row.record().ok();
            let before = before.as_ref().and_then(|record| Counted::of(row.id, record));
            if let (Some(before), Some(after)) = (before, after) {
                meter.change(&before, &after);
            }
        }
    }
}

fn waits_for(record: &ConversionRecord<'_>, days: &BTreeSet<Day>) -> bool {
    record.flags & Flag::RateMissing.bit() != 0 && days.contains(&Day::of_ms(record.event_time_ms))
}

/// The conversion with its price by the rates there are now; `None` if they change nothing.
fn priced_anew<'a>(
    record: &ConversionRecord<'a>,
    catalog: &Catalog,
    market: &Market,
    now_ms: u64,
) -> Option<ConversionRecord<'a>> {
    let mut anew = record.clone();
    let day = Day::of_ms(record.event_time_ms);
    // What came too late earns nothing, at any rate.
    let late = record.flags & Flag::Late.bit() != 0;
    let foreign = !late && record.amount_currency.is_some_and(|other| other != record.currency);
    let mut price = if foreign {
        let event = catalog.offer(record.offer)?.event(record.event)?;
        anew.currency = event.currency.to_bytes();
        anew.catalog_version = catalog.version();
        let affiliate = RecordId::from_bytes(record.click).affiliate();
        let tier = tier_of_record(event, record);
        let terms = tier.map_or_else(
            || *event.terms_of(affiliate),
            |tier| Terms { payout: tier.payout, revenue: event.terms.revenue },
        );
        price_by(&terms, event, &said(record), market, day).ok()?
    } else {
        // Its own amounts stand; only those in the network's currency were missing.
        let currency = Currency::from_bytes(record.currency)?;
        let (payout, revenue) = (Micros::new(record.payout), Micros::new(record.revenue));
        let exchanged = match in_base(market, day, currency, payout, revenue).ok()? {
            Base::Same => None,
            Base::Exchanged(base) => {
                Some(Box::new(Exchanged { base: Some(base), ..Exchanged::default() }))
            }
            Base::NoRate => return None,
        };
        Price { payout, revenue, flags: record.flags & Flag::AmountMissing.bit(), exchanged }
    };
    if record.flags & Flag::OverCap.bit() != 0 {
        price.forfeit_payout();
    }
    anew.payout = price.payout.get();
    anew.revenue = price.revenue.get();
    anew.flags = record.flags & !PRICE_FLAGS | price.flags;
    anew.exchanged = price.exchanged;
    let same = (anew.flags, &anew.exchanged) == (record.flags, &record.exchanged)
        && (anew.payout, anew.revenue) == (record.payout, record.revenue);
    let status = record.status()?;
    let step = HistoryEntry::new(status, now_ms, record.event_time_ms, anew.earned(), "repriced");
    anew.history.push(step);
    (!same).then_some(anew)
}

/// The tier in which a conversion was accepted, by the word of its first step.
fn tier_of_record<'c>(event: &'c Event, record: &ConversionRecord<'_>) -> Option<&'c Tier> {
    let word = record.history.first()?.reason;
    event.tiers.iter().find(|tier| *tier.word == *word)
}

/// What the postback said of money, as far as it counts.
fn said(record: &ConversionRecord<'_>) -> Said {
    let own = record.exchanged.as_deref().copied().unwrap_or_default();
    Said {
        amount: record.amount.map(Micros::new),
        currency: record.amount_currency.and_then(Currency::from_bytes),
        quantity: record.quantity,
        payout: own.own_payout.map(Micros::new),
        revenue: own.own_revenue.map(Micros::new),
    }
}
