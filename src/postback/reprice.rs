//! Conversions that had no exchange rate, priced when it has come.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::flow::Postbacks;
use super::price::{Base, Price, Said, in_base, price_again};
use super::update::ChangeError;
use crate::catalog::Catalog;
use crate::limits::{FUTURE_TIMESTAMP_MS_MAX, REPRICED_PER_COMMIT_MAX};
use crate::model::currency::Currency;
use crate::model::money::Micros;
use crate::model::rate::Day;
use crate::model::reasons::{Flag, REPRICED};
use crate::rates::Market;
use crate::store::StoredConversion;
use crate::store::records::{ConversionRecord, Exchanged, HistoryEntry};
use crate::store::ticket::Outcome;

impl Postbacks {
    /// Prices the conversions of these days that are flagged as having had no rate; returns how
    /// many have changed. Each is held while it is changed, so this takes turns with postbacks.
    ///
    /// # Errors
    /// When the store cannot be read or written; what was changed before stays so.
    pub async fn reprice(
        &self,
        days: &BTreeSet<Day>,
        now_ms: impl Fn() -> u64,
    ) -> Result<usize, ChangeError> {
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
            changed += self.reprice_all(&page.rows, now_ms()).await?;
            if page.next.is_none() {
                return Ok(changed);
            }
            cursor = page.next;
        }
    }

    async fn reprice_all(
        &self,
        rows: &[StoredConversion],
        now_ms: u64,
    ) -> Result<usize, ChangeError> {
        let catalog = self.catalog.load_full();
        let mut under_way = Vec::with_capacity(rows.len());
        for row in rows {
            let Some((held, stored)) = self.hold(row.id, &catalog).await? else { continue };
            let record = stored.record()?;
            if let Some(anew) = priced_anew(&record, &catalog, &self.market, now_ms) {
                under_way.push(self.change(held, stored.id, &record, &anew, None)?);
            }
        }
        self.store.writer().flush();
        for change in &under_way {
            if change.settled().await != Outcome::Durable {
                return Err(ChangeError::NotDurable);
            }
        }
        Ok(under_way.len())
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
    if record.flags & Flag::RateMissing.bit() == 0 {
        return None;
    }
    let mut anew = record.clone();
    let day = Day::of_ms(record.event_time_ms);
    // What came too late earns nothing, at any rate.
    let late = record.flags & Flag::Late.bit() != 0;
    let foreign = !late && record.amount_currency.is_some_and(|other| other != record.currency);
    let price = if foreign {
        let event = catalog.offer(record.offer)?.event(record.event)?;
        if event.currency.to_bytes() != record.currency && record.was_booked() {
            // What is in the books is in the currency of its day, and stays there.
            return None;
        }
        anew.currency = event.currency.to_bytes();
        anew.catalog_version = catalog.version();
        price_again(event, record, &Said::of_record(record), market).ok()?
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
    price.set(&mut anew);
    let same = (anew.flags, &anew.exchanged) == (record.flags, &record.exchanged)
        && (anew.payout, anew.revenue) == (record.payout, record.revenue);
    let status = record.status()?;
    // News is still compared with the time that was said last.
    let said_ms = record.history.last().and_then(HistoryEntry::said_ms);
    let step = HistoryEntry::new(status, now_ms, said_ms, anew.earned(), REPRICED);
    anew.history.push(step);
    (!same).then_some(anew)
}
