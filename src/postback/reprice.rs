//! Conversions that had no exchange rate, priced when it has come.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::flow::Postbacks;
use super::price::{Base, Price, Said, in_base, price_again};
use crate::catalog::Catalog;
use crate::limits::{FUTURE_TIMESTAMP_MS_MAX, REPRICED_PER_COMMIT_MAX};
use crate::model::currency::Currency;
use crate::model::money::Micros;
use crate::model::period::Day;
use crate::model::reasons::{Flag, REPRICED};
use crate::rates::Market;
use crate::store::records::{ConversionRecord, Exchanged, HistoryEntry};
use crate::store::ticket::Outcome;
use crate::store::{ChangeError, StoredConversion};

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
                // At once: the next one may be claimed by the same, and wait for it.
                self.store.writer().flush();
            }
        }
        for change in &under_way {
            if change.settled().await != Outcome::Durable {
                return Err(ChangeError::NotDurable);
            }
        }
        Ok(under_way.len())
    }
}

fn waits_for(record: &ConversionRecord<'_>, days: &BTreeSet<Day>) -> bool {
    record.waits_for_rate() && days.contains(&Day::of_ms(record.event_time_ms))
}

/// The conversion with its price by the rates there are now; `None` if they change nothing.
fn priced_anew<'a>(
    record: &ConversionRecord<'a>,
    catalog: &Catalog,
    market: &Market,
    now_ms: u64,
) -> Option<ConversionRecord<'a>> {
    if !record.waits_for_rate() {
        return None;
    }
    let mut anew = record.clone();
    let day = Day::of_ms(record.event_time_ms);
    let foreign = record.amount_currency.is_some_and(|other| other != record.currency);
    let known = record.exchanged.as_deref().copied().unwrap_or_default();
    // What was exchanged keeps its rate, and what asked for none its terms. Earlier builds had one
    // flag for both rates.
    let unpriced = record.flags & Flag::RateMissing.bit() != 0;
    let price = if unpriced && foreign && known.amounts.is_none() {
        let event = catalog.offer(record.offer).and_then(|offer| offer.event(record.event));
        let Some(event) = event else {
            warn_of(record, "its offer or event is not in the catalog");
            return None;
        };
        if event.currency.to_bytes() != record.currency && record.was_booked() {
            // What is in the books is in the currency of its day, and stays there.
            return None;
        }
        anew.currency = event.currency.to_bytes();
        anew.catalog_version = catalog.version();
        let price = price_again(event, record, &Said::of_record(record), market);
        price.inspect_err(|_| warn_of(record, TOO_LARGE)).ok()?
    } else {
        // Its amounts stand; only those in the network's currency were missing.
        let currency = Currency::from_bytes(record.currency)?;
        let (payout, revenue) = (Micros::new(record.payout), Micros::new(record.revenue));
        let base = in_base(market, day, currency, payout, revenue);
        let base = match base.inspect_err(|_| warn_of(record, TOO_LARGE)).ok()? {
            Base::Same => None,
            Base::Exchanged(base) => Some(base),
            Base::NoRate => return None,
        };
        let exchanged = Exchanged { base, ..known }.boxed();
        Price { payout, revenue, flags: record.flags & Flag::AmountMissing.bit(), exchanged }
    };
    price.set(&mut anew);
    let same = (anew.flags, &anew.exchanged) == (record.flags, &record.exchanged)
        && (anew.payout, anew.revenue) == (record.payout, record.revenue);
    let status = record.status()?;
    let step = HistoryEntry::new(status, now_ms, None, anew.earned(), REPRICED);
    anew.history.push(step);
    (!same).then_some(anew)
}

const TOO_LARGE: &str = "its amounts would be too large";

/// It keeps its flag, though nothing looks at it before the day's rates are set anew: somebody has
/// to hear of it.
fn warn_of(record: &ConversionRecord<'_>, why: &str) {
    tracing::warn!(
        offer = record.offer,
        event = record.event,
        received_ms = record.received_ms,
        "a conversion cannot be priced by the rates that have come: {why}"
    );
}

#[cfg(test)]
mod tests {
    use super::super::price::tests::market;
    use super::super::transition::money_tests::{catalog, sale};
    use super::super::transition::tests::amount;
    use super::*;
    use crate::store::records::InBase;

    const ABROAD: &str = r#"
        payout = { percent = "10", currency = "EUR" }
        revenue = { percent = "20" }
        trust_revenue = true"#;
    const NETWORK: Currency = Currency::USD;

    /// What becomes of a sale in euros, sold at rates of `then`, when there are those of `now` and
    /// other terms: payout, revenue, and what is pinned. The rates are of one euro.
    fn repriced(
        text: &str,
        then: &[(&str, &str)],
        now: &[(&str, &str)],
    ) -> Option<(i64, i64, Exchanged)> {
        let before = sale(text, &catalog(1, ABROAD), &market(NETWORK, "EUR", then));
        let anew = catalog(2, &ABROAD.replace("20", "40"));
        let anew = priced_anew(&before, &anew, &market(NETWORK, "EUR", now), 9000)?;
        let last = anew.history.last().expect("a step");
        assert_eq!((last.reason, anew.flags), (REPRICED, 0));
        assert_eq!((last.booked_revenue, last.booked_payout), (anew.revenue, anew.payout));
        Some((anew.payout, anew.revenue, *anew.exchanged.expect("dollars")))
    }

    fn dollars(payout: &str, revenue: &str) -> Exchanged {
        let (payout, revenue) = (amount(payout), amount(revenue));
        let rate = (1_000_000_000, 2_000_000_000);
        let base = InBase { currency: *b"USD", rate, revenue, payout };
        Exchanged { base: Some(base), ..Exchanged::default() }
    }

    #[test]
    fn what_was_exchanged_keeps_its_rate_when_the_one_to_the_networks_currency_comes() {
        let now = [("JPY", "200"), ("USD", "2")];
        let pinned = |yen: u64| Some((yen * 1_000_000_000, 1_000_000_000));
        let check = |text: &str, then: &[(&str, &str)], payout, revenue, expected| {
            let expected = Some((amount(payout), amount(revenue), expected));
            assert_eq!(repriced(text, then, &now), expected, "{text}");
        };
        let (yen, nothing) = (&[("JPY", "100")][..], &[][..]);
        let text = "amount=1500 currency=JPY";
        let kept = Exchanged { amounts: pinned(100), ..dollars("3", "6") };
        check(text, yen, "1.5", "3", kept);
        // By today's rates and terms where there was no rate at all.
        let priced = Exchanged { amounts: pinned(200), ..dollars("1.5", "6") };
        check(text, nothing, "0.75", "3", priced);
        let own = Exchanged { own_revenue: Some(amount("200")), ..dollars("3", "4") };
        let own = Exchanged { amounts: pinned(100), ..own };
        check("amount=1500 revenue=200 currency=JPY", yen, "1.5", "2", own);
    }

    #[test]
    fn terms_that_asked_for_no_rate_stay_as_they_were_when_one_comes() {
        let (then, now) = (ABROAD.replace("percent", "fixed"), ABROAD);
        let market = |rates: &[(&str, &str)]| market(NETWORK, "EUR", rates);
        let before = sale("amount=1500 currency=JPY", &catalog(1, &then), &market(&[]));
        assert_eq!(before.flags, Flag::BaseRateMissing.bit());
        let rates = market(&[("JPY", "100"), ("USD", "2")]);
        let anew = priced_anew(&before, &catalog(2, now), &rates, 9000).expect("a worth");
        assert_eq!((anew.payout, anew.revenue), (amount("10"), amount("20")));
        assert_eq!((anew.flags, anew.exchanged.as_deref()), (0, Some(&dollars("20", "40"))));
    }

    #[test]
    fn what_came_too_late_has_its_revenue_when_a_rate_comes_and_no_payout() {
        let market = |rates: &[(&str, &str)]| market(NETWORK, "EUR", rates);
        let catalog = catalog(1, ABROAD);
        let mut before = sale("amount=1500 currency=JPY", &catalog, &market(&[]));
        before.flags |= Flag::Late.bit();
        let rates = market(&[("JPY", "100"), ("USD", "2")]);
        let anew = priced_anew(&before, &catalog, &rates, 9000).expect("a price");
        assert_eq!((anew.payout, anew.revenue), (0, amount("3")));
        assert_eq!(anew.flags, Flag::Late.bit());
        let base = anew.exchanged.and_then(|exchanged| exchanged.base).expect("dollars");
        assert_eq!((base.payout, base.revenue), (0, amount("6")));
    }

    #[test]
    fn an_own_revenue_stays_known_when_a_rate_comes() {
        let own = Exchanged { own_revenue: Some(amount("9")), ..dollars("6", "18") };
        let expected = Some((amount("3"), amount("9"), own));
        assert_eq!(repriced("amount=30 revenue=9", &[], &[("USD", "2")]), expected);
    }
}
