//! Conversions that had no exchange rate, priced when it has come.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::decide::Refused;
use super::flow::Postbacks;
use super::passed_over::Left;
use super::price::{Base, Price, Said, in_base, price_again};
use crate::catalog::{Catalog, Event};
use crate::click_id::RecordId;
use crate::limits::{
    FUTURE_TIMESTAMP_MS_MAX, REPRICED_PER_COMMIT_MAX, UNPRICED_KNOWN_MAX, UNPRICED_NAMED_MAX,
};
use crate::model::currency::Currency;
use crate::model::money::Micros;
use crate::model::period::Day;
use crate::model::reasons::{Flag, REPRICED, Refusal};
use crate::rates::Market;
use crate::store::records::{ConversionRecord, Exchanged, HistoryEntry, InBase};
use crate::store::ticket::Outcome;
use crate::store::{ChangeError, StoredConversion};

/// What came of pricing anew.
#[derive(Debug, Default)]
pub struct Repriced {
    /// How many conversions have changed.
    pub changed: usize,
    /// Those that have their rate and are passed over, because the catalog in force cannot price
    /// them: the first of them.
    pub left: Left,
    /// Whether there are more.
    pub are_more: bool,
    /// How many `left` has.
    kept: usize,
    /// How many of them nobody had heard of.
    news: usize,
}

impl Postbacks {
    /// Prices the conversions of these days that are flagged as having had no rate, and `again` those
    /// that were left. Each is held while it is changed, so this takes turns with postbacks. Who has
    /// heard of those that are `known` hears no more of them.
    ///
    /// # Errors
    /// When the store cannot be read or written; what was changed before stays so.
    pub async fn reprice(
        &self,
        days: &BTreeSet<Day>,
        again: &BTreeSet<RecordId>,
        known: &BTreeSet<RecordId>,
        now_ms: impl Fn() -> u64,
    ) -> Result<Repriced, ChangeError> {
        let mut repriced = Repriced::default();
        let again: Vec<_> = again.iter().copied().collect();
        for ids in again.chunks(REPRICED_PER_COMMIT_MAX) {
            let mut rows = Vec::with_capacity(ids.len());
            for id in ids {
                rows.extend(self.store.conversion(*id).await?);
            }
            self.reprice_all(&rows, known, now_ms(), &mut repriced).await?;
        }
        // A conversion is minted when it is reported, at most this long before it happened.
        let first = days.first().map(|day| day.begins_ms());
        let from_ms = first.map(|ms| ms.saturating_sub(FUTURE_TIMESTAMP_MS_MAX));
        let mut cursor = None;
        while let Some(from_ms) = from_ms {
            let wanted = days.clone();
            let filter = Arc::new(move |row: &StoredConversion| {
                row.record().is_ok_and(|record| waits_for(&record, &wanted))
            });
            let limit = REPRICED_PER_COMMIT_MAX;
            let page = self.store.conversions(from_ms, u64::MAX, cursor, limit, filter).await?;
            self.reprice_all(&page.rows, known, now_ms(), &mut repriced).await?;
            if page.next.is_none() {
                break;
            }
            cursor = page.next;
        }
        let unnamed = repriced.news.saturating_sub(UNPRICED_NAMED_MAX);
        if unnamed > 0 {
            tracing::warn!(conversions = unnamed, "so many more cannot be priced");
        }
        Ok(repriced)
    }

    async fn reprice_all(
        &self,
        rows: &[StoredConversion],
        known: &BTreeSet<RecordId>,
        now_ms: u64,
        repriced: &mut Repriced,
    ) -> Result<(), ChangeError> {
        let catalog = self.catalog.load_full();
        let mut under_way = Vec::with_capacity(rows.len());
        for row in rows {
            let Some((held, stored)) = self.hold(row.id, &catalog).await? else { continue };
            let record = stored.record()?;
            let (anew, passed_over) = priced_anew(&record, &catalog, &self.market, now_ms);
            if let Some(why) = passed_over {
                repriced.pass_over(stored.id, &record, why, !known.contains(&stored.id));
            }
            if let Some(anew) = anew {
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
        repriced.changed += under_way.len();
        Ok(())
    }
}

impl Repriced {
    /// It keeps its flag, and nothing looks at it before the catalog changes: somebody has to hear
    /// of it, once.
    fn pass_over(&mut self, id: RecordId, record: &ConversionRecord<'_>, why: &str, is_news: bool) {
        let of_day = self.left.entry(Day::of_ms(record.event_time_ms)).or_default();
        if self.kept < UNPRICED_KNOWN_MAX {
            self.kept += usize::from(of_day.insert(id));
        } else {
            self.are_more = true;
        }
        self.news += usize::from(is_news);
        if is_news && self.news <= UNPRICED_NAMED_MAX {
            tracing::warn!(
                conversion = id.to_text().as_str(),
                offer = record.offer,
                event = record.event,
                "a conversion cannot be priced by the rates that have come: {why}"
            );
        }
    }
}

fn waits_for(record: &ConversionRecord<'_>, days: &BTreeSet<Day>) -> bool {
    record.waits_for_rate() && days.contains(&Day::of_ms(record.event_time_ms))
}

/// The conversion with its price by the rates there are now, `None` if they change nothing; and why
/// it has none though its rate is there, if that is so.
fn priced_anew<'a>(
    record: &ConversionRecord<'a>,
    catalog: &Catalog,
    market: &Market,
    now_ms: u64,
) -> (Option<ConversionRecord<'a>>, Option<&'static str>) {
    if !record.waits_for_rate() {
        return (None, None);
    }
    let mut anew = record.clone();
    let known = record.exchanged.as_deref().copied().unwrap_or_default();
    let foreign = record.amount_currency.filter(|other| *other != record.currency);
    // What was exchanged keeps its rate, and what asked for none its terms. Earlier builds had one
    // flag for both rates.
    let is_unpriced = record.flags & Flag::RateMissing.bit() != 0;
    let amounts_in = foreign.filter(|_| is_unpriced && known.amounts.is_none());
    let mut passed_over = None;
    let priced = match amounts_in.map(|currency| (currency, event_of(record, catalog))) {
        Some((currency, Ok(event)))
            if has_rate(record, currency, event.currency.to_bytes(), market) =>
        {
            anew.currency = event.currency.to_bytes();
            anew.catalog_version = catalog.version();
            let price = price_again(event, record, &Said::of_record(record), market);
            let same = anew.currency == record.currency;
            let rate = known.base.filter(|base| same && base.currency == market.base.to_bytes());
            price.and_then(|price| by_pinned_rate(price, rate)).map(Some)
        }
        Some((currency, event)) => {
            if has_rate(record, currency, record.currency, market) {
                passed_over = Some(event.err().unwrap_or(NO_RATE_TO_ITS_EVENT));
            }
            // It keeps its terms. What is known of it can have its worth all the same.
            match known.base {
                None => worth(record, known, market, Flag::RateMissing.bit()),
                Some(_) => Ok(None),
            }
        }
        None => worth(record, known, market, 0),
    };
    match priced {
        Err(_) => return (None, Some("its amounts would be too large")),
        Ok(None) => return (None, passed_over),
        Ok(Some(price)) => price.set(&mut anew),
    }
    let same = (anew.flags, &anew.exchanged) == (record.flags, &record.exchanged)
        && (anew.payout, anew.revenue) == (record.payout, record.revenue);
    let Some(status) = record.status().filter(|_| !same) else { return (None, passed_over) };
    let step = HistoryEntry::new(status, now_ms, None, anew.earned(), REPRICED);
    anew.history.push(step);
    (Some(anew), passed_over)
}

const NO_RATE_TO_ITS_EVENT: &str =
    "its event has another currency by now, to which its day has no rate";

/// The event by whose terms it is priced, or why there is none.
fn event_of<'c>(
    record: &ConversionRecord<'_>,
    catalog: &'c Catalog,
) -> Result<&'c Event, &'static str> {
    let event = catalog.offer(record.offer).and_then(|offer| offer.event(record.event));
    let event = event.ok_or("its offer or event is not in the catalog")?;
    if event.currency.to_bytes() != record.currency && record.was_booked() {
        // What is in the books is in the currency of its day, and stays there.
        return Err("it is in the books in the currency that its event had then");
    }
    Ok(event)
}

/// Whether its day has the rate between these currencies.
fn has_rate(record: &ConversionRecord<'_>, from: [u8; 3], to: [u8; 3], market: &Market) -> bool {
    let currencies = [from, to].map(Currency::from_bytes);
    let [Some(from), Some(to)] = currencies else { return false };
    market.exchange(Day::of_ms(record.event_time_ms), from, to).is_some()
}

/// A price, in the network's currency by the rate of what was exchanged before, if anything was.
fn by_pinned_rate(mut price: Price, before: Option<InBase>) -> Result<Price, Refused> {
    let Some(before) = before else { return Ok(price) };
    let (revenue, payout) = (price.revenue.get(), price.payout.get());
    let too_large = Refused::from(Refusal::BadAmount);
    let earned = before.of(revenue, payout).ok_or(too_large)?;
    let base = InBase { revenue: earned.revenue, payout: earned.payout, ..before };
    let exchanged = price.exchanged.as_deref().copied().unwrap_or_default();
    price.exchanged = Exchanged { base: Some(base), ..exchanged }.boxed();
    price.flags &= !Flag::BaseRateMissing.bit();
    Ok(price)
}

/// Its amounts as they stand, with what they are in the network's currency, which was missing;
/// `None` if there is no rate to it. Of its flags these stay.
fn worth(
    record: &ConversionRecord<'_>,
    known: Exchanged,
    market: &Market,
    flags: u32,
) -> Result<Option<Price>, Refused> {
    let Some(currency) = Currency::from_bytes(record.currency) else { return Ok(None) };
    let (payout, revenue) = (Micros::new(record.payout), Micros::new(record.revenue));
    let day = Day::of_ms(record.event_time_ms);
    let base = match in_base(market, day, currency, payout, revenue)? {
        Base::Same => None,
        Base::Exchanged(base) => Some(base),
        Base::NoRate => return Ok(None),
    };
    let flags = record.flags & (Flag::AmountMissing.bit() | flags);
    let exchanged = Exchanged { base, ..known }.boxed();
    Ok(Some(Price { payout, revenue, flags, exchanged }))
}

#[cfg(test)]
mod tests {
    use super::super::price::tests::market;
    use super::super::transition::money_tests::{catalog, sale};
    use super::super::transition::tests::amount;
    use super::*;
    use crate::model::status::Status;

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
        let (anew, _) = priced_anew(&before, &anew, &market(NETWORK, "EUR", now), 9000);
        let anew = anew?;
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
    fn what_waits_for_its_rate_keeps_its_terms_until_that_very_rate_comes() {
        let market = |rates: &[(&str, &str)]| market(NETWORK, "EUR", rates);
        let hybrid = ABROAD.replace("percent = \"10\"", "fixed = \"4\", percent = \"10\"");
        let mut before = sale("amount=1500 currency=JPY", &catalog(1, &hybrid), &market(&[]));
        // A third of it was taken back meanwhile.
        before.reversed_amount = amount("500");
        let share = catalog(2, &hybrid.replace('4', "6").replace("20", "40"));
        let fixed = catalog(3, &ABROAD.replace("percent", "fixed"));
        for now in [&share, &fixed] {
            assert_eq!(priced_anew(&before, now, &market(&[("GBP", "1")]), 9000), (None, None));
            // One of the two rates.
            let dollars_alone = market(&[("USD", "2")]);
            let worth = priced_anew(&before, now, &dollars_alone, 9000).0.expect("a worth");
            assert_eq!((worth.flags, worth.catalog_version), (Flag::RateMissing.bit(), 1));
            assert_eq!((worth.payout, worth.revenue), (amount("4"), 0));
            assert_eq!(worth.exchanged.as_deref(), Some(&dollars("8", "0")));
            let last = worth.history.last().expect("a step");
            assert_eq!((last.booked_payout, last.booked_revenue), (2_666_667, 0));
            assert_eq!(priced_anew(&worth, now, &dollars_alone, 9001), (None, None), "once");
        }
        // The other one: these terms count, and stay when the first one comes.
        let priced = priced_anew(&before, &share, &market(&[("JPY", "100")]), 9000).0;
        let priced = priced.expect("a price");
        assert_eq!((priced.flags, priced.catalog_version), (Flag::BaseRateMissing.bit(), 2));
        assert_eq!((priced.payout, priced.revenue), (amount("7.5"), amount("6")));
        let both = market(&[("JPY", "200"), ("USD", "2")]);
        let worth = priced_anew(&priced, &fixed, &both, 9001).0.expect("a worth");
        assert_eq!((worth.flags, worth.catalog_version), (0, 2));
        let yen = Some((100_000_000_000, 1_000_000_000));
        let expected = Exchanged { amounts: yen, ..dollars("15", "12") };
        assert_eq!(worth.exchanged.as_deref(), Some(&expected));
        let last = worth.history.last().and_then(|last| last.booked_base).expect("dollars");
        assert_eq!((last.payout, last.revenue), (amount("10"), amount("8")));
    }

    #[test]
    fn what_an_earlier_build_flagged_for_the_other_rate_has_its_worth_when_that_comes() {
        let market = |rates: &[(&str, &str)]| market(NETWORK, "EUR", rates);
        let fixed = ABROAD.replace("percent", "fixed");
        let mut before = sale("amount=1500 currency=JPY", &catalog(1, &fixed), &market(&[]));
        before.flags = Flag::RateMissing.bit();
        let now = catalog(2, &fixed.replace("10", "11"));
        let worth = priced_anew(&before, &now, &market(&[("USD", "2")]), 9000).0;
        let worth = worth.expect("a worth");
        assert_eq!((worth.payout, worth.revenue), (amount("10"), amount("20")));
        assert_eq!(worth.exchanged.as_deref(), Some(&dollars("20", "40")));
    }

    #[test]
    fn a_rate_to_the_currency_that_its_event_had_is_named_where_the_one_of_today_has_none() {
        let market = |rates: &[(&str, &str)]| market(NETWORK, "EUR", rates);
        let mut before = sale("amount=1500 currency=JPY", &catalog(1, ABROAD), &market(&[]));
        before.status = Status::Pending.code();
        before.history[0].status = before.status;
        let pounds = catalog(2, &ABROAD.replace("EUR", "GBP"));
        let (anew, passed_over) = priced_anew(&before, &pounds, &market(&[("JPY", "100")]), 9000);
        assert_eq!((anew, passed_over), (None, Some(NO_RATE_TO_ITS_EVENT)));
        let rates = market(&[("JPY", "100"), ("GBP", "0.5")]);
        let (anew, passed_over) = priced_anew(&before, &pounds, &rates, 9000);
        let anew = anew.expect("a price");
        assert_eq!((anew.payout, &anew.currency, passed_over), (amount("0.75"), b"GBP", None));
    }

    #[test]
    fn terms_that_asked_for_no_rate_stay_as_they_were_when_one_comes() {
        let (then, now) = (ABROAD.replace("percent", "fixed"), ABROAD);
        let market = |rates: &[(&str, &str)]| market(NETWORK, "EUR", rates);
        let before = sale("amount=1500 currency=JPY", &catalog(1, &then), &market(&[]));
        assert_eq!(before.flags, Flag::BaseRateMissing.bit());
        let rates = market(&[("JPY", "100"), ("USD", "2")]);
        let anew = priced_anew(&before, &catalog(2, now), &rates, 9000).0.expect("a worth");
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
        let anew = priced_anew(&before, &catalog, &rates, 9000).0.expect("a price");
        assert_eq!((anew.payout, anew.revenue), (0, amount("3")));
        assert_eq!(anew.flags, Flag::Late.bit());
        let base = anew.exchanged.and_then(|exchanged| exchanged.base).expect("dollars");
        assert_eq!((base.payout, base.revenue), (0, amount("6")));
    }

    #[test]
    fn what_the_catalog_cannot_price_has_its_worth_and_another_catalog_prices_it() {
        let market = |rates: &[(&str, &str)]| market(NETWORK, "EUR", rates);
        let hybrid = ABROAD.replace("percent = \"10\"", "fixed = \"4\", percent = \"10\"");
        let before = || sale("amount=1500 currency=JPY", &catalog(1, &hybrid), &market(&[]));
        let (rate_missing, both) =
            (Flag::RateMissing.bit(), Flag::RateMissing.bit() | Flag::BaseRateMissing.bit());
        assert_eq!(before().flags, both);
        let gone = {
            let mut before = before();
            before.event = "lead";
            before
        };
        let now = catalog(2, &hybrid.replace("EUR", "USD"));
        for (before, why) in [(gone, "not in the catalog"), (before(), "in the books")] {
            // Its own rate has not come, so nothing is to be warned of.
            let (worth, passed_over) = priced_anew(&before, &now, &market(&[("USD", "2")]), 9000);
            let worth = worth.expect("a worth");
            assert_eq!((worth.flags, passed_over), (rate_missing, None));
            assert_eq!((worth.payout, &worth.currency), (amount("4"), b"EUR"));
            assert_eq!(worth.exchanged.as_deref(), Some(&dollars("8", "0")));
            let last = worth.history.last().expect("a step");
            assert_eq!(
                (last.reason, last.booked_base.map(|base| base.payout)),
                (REPRICED, Some(amount("8")))
            );
            let rates = market(&[("JPY", "100"), ("USD", "3")]);
            let (again, passed_over) = priced_anew(&worth, &now, &rates, 9000);
            assert_eq!(again, None, "what was exchanged keeps its rate");
            assert!(passed_over.is_some_and(|reason| reason.contains(why)), "{passed_over:?}");
            let repaired = ConversionRecord { event: "sale", ..worth };
            let (priced, passed_over) = priced_anew(&repaired, &catalog(3, &hybrid), &rates, 9000);
            let priced = priced.expect("a price");
            assert_eq!((priced.flags, passed_over), (0, None));
            assert_eq!((priced.payout, priced.revenue), (amount("5.5"), amount("3")));
        }
    }

    #[test]
    fn what_was_exchanged_before_the_amounts_rate_came_keeps_its_rate() {
        let market = |rates: &[(&str, &str)]| market(NETWORK, "EUR", rates);
        let hybrid = ABROAD.replace("percent = \"10\"", "fixed = \"4\", percent = \"10\"");
        let catalog = catalog(1, &hybrid);
        let before = sale("amount=1500 currency=JPY", &catalog, &market(&[("USD", "2")]));
        assert_eq!(before.flags, Flag::RateMissing.bit());
        assert_eq!(before.exchanged.as_deref(), Some(&dollars("8", "0")));
        // The day again, with another dollar beside the yen.
        let rates = market(&[("JPY", "100"), ("USD", "3")]);
        let anew = priced_anew(&before, &catalog, &rates, 9000).0.expect("a price");
        assert_eq!((anew.flags, anew.payout, anew.revenue), (0, amount("5.5"), amount("3")));
        let yen = Some((100_000_000_000, 1_000_000_000));
        let kept = Exchanged { amounts: yen, ..dollars("11", "6") };
        assert_eq!(anew.exchanged.as_deref(), Some(&kept));
        let booked = anew.history.last().and_then(|last| last.booked_base).expect("dollars");
        assert_eq!((booked.payout, booked.revenue), (amount("11"), amount("6")));
    }

    #[test]
    fn an_own_revenue_stays_known_when_a_rate_comes() {
        let own = Exchanged { own_revenue: Some(amount("9")), ..dollars("6", "18") };
        let expected = Some((amount("3"), amount("9"), own));
        assert_eq!(repriced("amount=30 revenue=9", &[], &[("USD", "2")]), expected);
    }
}
