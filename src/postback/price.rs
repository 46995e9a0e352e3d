// Hot path: pure. No clock, no randomness, no I/O; it allocates only where something is exchanged
// or the postback's own payout or revenue counts.
//! What a conversion earns, by the event's terms and by what the postback says of money.

use std::borrow::Cow;

use super::decide::Refused;
use crate::catalog::{Event, Terms};
use crate::model::currency::Currency;
use crate::model::ids::AffiliateNumber;
use crate::model::money::Micros;
use crate::model::period::Day;
use crate::model::rate::Exchange;
use crate::model::reasons::{Flag, HELD, Refusal};
use crate::model::rule::Rule;
use crate::rates::Market;
use crate::store::records::{ConversionRecord, Exchanged, InBase, PinnedRate};

/// What a postback says of money, well-formed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// What the customer spent.
    pub amount: Option<Micros>,
    /// Currency of all three amounts; the event's if it is not said.
    pub currency: Option<Currency>,
    /// Number of items.
    pub quantity: Option<u64>,
    /// What the affiliate earns, as the advertiser says.
    pub payout: Option<Micros>,
    /// What the network earns, as the advertiser says.
    pub revenue: Option<Micros>,
}

impl Said {
    /// What the postback of a stored conversion said, as far as it is kept: of its own payout and
    /// revenue, what counted.
    #[must_use]
    pub fn of_record(record: &ConversionRecord<'_>) -> Self {
        let own = record.exchanged.as_deref().copied().unwrap_or_default();
        Self {
            amount: record.amount.map(Micros::new),
            currency: record.amount_currency.and_then(Currency::from_bytes),
            quantity: record.quantity,
            payout: own.own_payout.map(Micros::new),
            revenue: own.own_revenue.map(Micros::new),
        }
    }
}

/// What a conversion earns, in the event's currency.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Price {
    /// What the affiliate earns.
    pub payout: Micros,
    /// What the network earns.
    pub revenue: Micros,
    /// What could not be taken into account, as bits of [`Flag`].
    pub flags: u32,
    /// What it took from the postback's own amounts and from other currencies, rates pinned.
    pub exchanged: Option<Box<Exchanged>>,
}

impl Price {
    /// Makes it the price of a stored conversion.
    pub fn set(self, record: &mut ConversionRecord<'_>) {
        record.payout = self.payout.get();
        record.revenue = self.revenue.get();
        record.flags = record.flags & !PRICE_FLAGS | self.flags;
        record.exchanged = self.exchanged;
    }
}

/// The flags that a price brings.
pub const PRICE_FLAGS: u32 =
    Flag::AmountMissing.bit() | Flag::RateMissing.bit() | Flag::BaseRateMissing.bit();

/// Prices a conversion by the rates of its day. What depends on an amount that was not sent, or
/// that cannot be exchanged, counts as zero and is flagged: the conversion is never lost for it.
///
/// # Errors
/// [`Refusal::BadAmount`] if a result is too large to be kept.
pub fn price(
    event: &Event,
    affiliate: AffiliateNumber,
    said: &Said,
    market: &Market,
    day: Day,
) -> Result<Price, Refused> {
    price_by(event.terms_of(affiliate), event, said, market, day)
}

/// Prices a stored conversion anew, by what is said of it now: in the tier in which it was
/// accepted, and without payout if a cap had no room for it or it came too late.
///
/// # Errors
/// As [`price`].
pub fn price_again(
    event: &Event,
    record: &ConversionRecord<'_>,
    said: &Said,
    market: &Market,
) -> Result<Price, Refused> {
    let day = Day::of_ms(record.event_time_ms);
    let mut price = price_by(&terms_again(event, record), event, said, market, day)?;
    if record.is_unpaid() {
        price.forfeit_payout();
    }
    Ok(price)
}

/// The terms of a stored conversion: of the tier that the reason of its first step names, or else
/// the event's for its affiliate.
fn terms_again(event: &Event, record: &ConversionRecord<'_>) -> Terms {
    let reason = record.history.first().map_or("", |first| first.reason);
    let held = reason.strip_prefix(HELD).and_then(|rest| rest.strip_prefix(':'));
    let chosen = held.unwrap_or(reason);
    match event.tiers.iter().find(|tier| *tier.word == *chosen) {
        Some(tier) => Terms { payout: tier.payout, revenue: event.terms.revenue },
        None => *event.terms_of(record.affiliate_number()),
    }
}

/// As [`price`], by other terms than the event's.
///
/// # Errors
/// As [`price`].
#[inline]
pub fn price_by(
    terms: &Terms,
    event: &Event,
    said: &Said,
    market: &Market,
    day: Day,
) -> Result<Price, Refused> {
    if let Some(price) = flat(event, terms, said, market) {
        return Ok(price);
    }
    elaborate(event, terms, said, market, day)
}

impl Price {
    /// The affiliate earns nothing; the network earns what it does.
    pub fn forfeit_payout(&mut self) {
        self.payout = Micros::ZERO;
        if let Some(exchanged) = &mut self.exchanged {
            exchanged.own_payout = None;
            if let Some(base) = &mut exchanged.base {
                base.payout = 0;
            }
            if **exchanged == Exchanged::default() {
                self.exchanged = None;
            }
        }
    }
}

/// The price of nearly all events: fixed, and in the network's currency.
fn flat(event: &Event, terms: &Terms, said: &Said, market: &Market) -> Option<Price> {
    let trusted = event.trust.payout && said.payout.is_some()
        || event.trust.revenue && said.revenue.is_some();
    if trusted || event.currency != market.base {
        return None;
    }
    let (payout, revenue) = (terms.payout.flat()?, terms.revenue.flat()?);
    Some(Price { payout, revenue, ..Price::default() })
}

/// The price of any other. Not in line, so that it does not burden the flat ones.
#[inline(never)]
fn elaborate(
    event: &Event,
    terms: &Terms,
    said: &Said,
    market: &Market,
    day: Day,
) -> Result<Price, Refused> {
    let foreign = said.currency.filter(|currency| *currency != event.currency);
    let exchange = match foreign {
        None => Some(Exchange::NONE),
        Some(currency) => market.exchange(day, currency, event.currency),
    };
    let mut pricing = Pricing { said, exchange, exchanged: false, flags: 0 };
    let own_payout = said.payout.filter(|_| event.trust.payout);
    let own_revenue = said.revenue.filter(|_| event.trust.revenue);
    let payout = pricing.earned(&terms.payout, own_payout)?;
    let revenue = pricing.earned(&terms.revenue, own_revenue)?;
    let mut flags = pricing.flags;
    let base = match in_base(market, day, event.currency, payout, revenue)? {
        Base::Same => None,
        Base::Exchanged(base) => Some(base),
        Base::NoRate => {
            flags |= Flag::BaseRateMissing.bit();
            None
        }
    };
    let exchanged = Exchanged {
        amounts: exchange.filter(|_| pricing.exchanged && foreign.is_some()).map(pinned),
        own_payout: own_payout.map(Micros::get),
        own_revenue: own_revenue.map(Micros::get),
        base,
    };
    Ok(Price { payout, revenue, flags, exchanged: exchanged.boxed() })
}

/// What was earned, as the network counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// It is in the network's currency, or nothing.
    Same,
    /// In the network's currency.
    Exchanged(InBase),
    /// The day has no rate.
    NoRate,
}

/// Exchanges what was earned in `currency` into the network's.
///
/// # Errors
/// [`Refusal::BadAmount`] if a result is too large to be kept.
pub fn in_base(
    market: &Market,
    day: Day,
    currency: Currency,
    payout: Micros,
    revenue: Micros,
) -> Result<Base, Refused> {
    if currency == market.base || (payout, revenue) == (Micros::ZERO, Micros::ZERO) {
        return Ok(Base::Same);
    }
    let Some(exchange) = market.exchange(day, currency, market.base) else {
        return Ok(Base::NoRate);
    };
    Ok(Base::Exchanged(InBase {
        currency: market.base.to_bytes(),
        rate: pinned(exchange),
        revenue: exchange.apply(revenue).ok_or(TOO_LARGE)?.get(),
        payout: exchange.apply(payout).ok_or(TOO_LARGE)?.get(),
    }))
}

const fn pinned(exchange: Exchange) -> PinnedRate {
    (exchange.from.get(), exchange.to.get())
}

struct Pricing<'a> {
    said: &'a Said,
    /// From the postback's currency to the event's; `None` without a rate.
    exchange: Option<Exchange>,
    /// Whether an amount went through `exchange`.
    exchanged: bool,
    flags: u32,
}

impl Pricing<'_> {
    /// What the postback is believed, or else what the rule makes of it.
    fn earned(&mut self, rule: &Rule, believed: Option<Micros>) -> Result<Micros, Refused> {
        if let Some(theirs) = believed {
            return Ok(rule.within(self.in_events_currency(theirs)?));
        }
        let amount = match self.said.amount {
            Some(amount) if rule.needs_amount() => Some(self.in_events_currency(amount)?),
            None if rule.needs_amount() => {
                self.flags |= Flag::AmountMissing.bit();
                None
            }
            _ => None,
        };
        rule.apply(amount, self.said.quantity).ok_or(TOO_LARGE)
    }

    /// An amount of the postback in the event's currency; zero if there is no rate.
    fn in_events_currency(&mut self, amount: Micros) -> Result<Micros, Refused> {
        let Some(exchange) = self.exchange else {
            self.flags |= Flag::RateMissing.bit();
            return Ok(Micros::ZERO);
        };
        self.exchanged = true;
        if exchange == Exchange::NONE {
            Ok(amount)
        } else {
            exchange.apply(amount).ok_or(TOO_LARGE)
        }
    }
}

const TOO_LARGE: Refused = Refused {
    reason: Refusal::BadAmount,
    hint: Some(Cow::Borrowed(
        "payout or revenue of this amount or quantity would be too large to be kept",
    )),
};

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::catalog::{Override, Repeat, Terms, Trust};
    use crate::model::rate::Rate;
    use crate::model::rule::Percent;
    use crate::model::status::Status;
    use crate::rates::{DayRates, Rates};

    const NUMBER: AffiliateNumber = AffiliateNumber::NONE;
    pub const DAY: Day = Day::new(7);

    fn closed() -> Market {
        Market::closed(Currency::USD)
    }

    /// USD buys 0.5 EUR or 150 JPY on [`DAY`].
    pub fn open(network: Currency) -> Market {
        market(network, "USD", &[("EUR", "0.5"), ("JPY", "150")])
    }

    /// What one of `base` buys on [`DAY`].
    pub fn market(network: Currency, base: &str, rates: &[(&str, &str)]) -> Market {
        let currency = |code| Currency::parse(code).expect("a currency");
        let rates =
            rates.iter().map(|(code, rate)| (currency(code), Rate::parse(rate).expect("a rate")));
        let mut table = Rates::default();
        table.set(DAY, DayRates::new(currency(base), rates).expect("a base of one"));
        let market = Market::closed(network);
        market.rates.store(std::sync::Arc::new(table));
        market
    }

    fn amount(text: &str) -> Micros {
        Micros::parse(text).expect("an amount")
    }

    fn share(percent: &str) -> Rule {
        Rule { percent: Percent::parse(percent).expect("a percentage"), ..Rule::default() }
    }

    fn event(payout: Rule, revenue: Rule) -> Event {
        Event {
            id: "sale".into(),
            initial_status: Status::Approved,
            reapprove: false,
            reverses: Vec::new(),
            repeat: Repeat::Once,
            window_ms: None,
            terms: Terms { payout, revenue },
            overrides: Vec::new(),
            tiers: Vec::new(),
            trust: Trust::default(),
            currency: Currency::USD,
        }
    }

    /// `"name=value …"`.
    fn said(text: &str) -> Said {
        let mut said = Said::default();
        for (name, value) in text.split(' ').filter_map(|pair| pair.split_once('=')) {
            match name {
                "amount" => said.amount = Some(amount(value)),
                "currency" => said.currency = Some(Currency::parse(value).expect("a currency")),
                "quantity" => said.quantity = Some(value.parse().expect("a number")),
                "payout" => said.payout = Some(amount(value)),
                _ => said.revenue = Some(amount(value)),
            }
        }
        said
    }

    fn check(event: &Event, text: &str, (payout, revenue, flags): (&str, &str, &[Flag])) {
        let flags = flags.iter().fold(0, |flags, flag| flags | flag.bit());
        let expected = (amount(payout), amount(revenue), flags);
        let price = price(event, NUMBER, &said(text), &closed(), DAY).expect("fits");
        assert_eq!((price.payout, price.revenue, price.flags), expected, "{text}");
        assert_eq!(price.exchanged.and_then(|exchanged| exchanged.amounts), None);
    }

    #[test]
    fn a_fixed_price_asks_for_nothing() {
        let event = event(
            Rule { fixed: amount("15"), ..Rule::default() },
            Rule { fixed: amount("20"), ..Rule::default() },
        );
        for text in ["", "amount=99 currency=EUR", "quantity=7", "payout=1 revenue=1"] {
            check(&event, text, ("15", "20", &[]));
        }
    }

    #[test]
    fn a_share_of_an_amount_that_is_not_known_counts_as_zero_and_is_flagged() {
        let payout = Rule { fixed: amount("2"), ..share("10") };
        let event = event(payout, share("15"));
        check(&event, "amount=100", ("12", "15", &[]));
        check(&event, "amount=100 currency=USD", ("12", "15", &[]));
        check(&event, "", ("2", "0", &[Flag::AmountMissing]));
        check(&event, "currency=EUR", ("2", "0", &[Flag::AmountMissing]));
        check(&event, "amount=100 currency=EUR", ("2", "0", &[Flag::RateMissing]));
    }

    #[test]
    fn a_postbacks_own_amounts_count_only_if_trusted_and_within_the_rules_bounds() {
        let payout = Rule { min: Some(amount("1")), max: Some(amount("30")), ..share("10") };
        let mut event = event(payout, share("15"));
        let text = "amount=100 payout=22 revenue=44";
        check(&event, text, ("10", "15", &[]));
        event.trust.payout = true;
        check(&event, text, ("22", "15", &[]));
        check(&event, "amount=100 payout=31", ("30", "15", &[]));
        check(&event, "amount=100 payout=-5", ("1", "15", &[]));
        check(&event, "amount=100", ("10", "15", &[]));
        check(&event, "payout=22", ("22", "0", &[Flag::AmountMissing]));
        event.trust.revenue = true;
        check(&event, text, ("22", "44", &[]));
        check(&event, "payout=22 revenue=44", ("22", "44", &[]));
        check(&event, "payout=22 revenue=44 currency=EUR", ("1", "0", &[Flag::RateMissing]));
    }

    #[test]
    fn an_affiliate_with_terms_of_its_own_gets_those() {
        let mut event = event(share("10"), share("20"));
        let number = |n| AffiliateNumber::new(n).expect("24 bits");
        let own = |n, percent| Override {
            affiliate: "pub".into(),
            number: number(n),
            terms: Terms { payout: share(percent), revenue: share("20") },
        };
        event.overrides = vec![own(3, "11"), own(5, "12"), own(900, "13")];
        let payout = |n| {
            price(&event, number(n), &said("amount=100"), &closed(), DAY).map(|price| price.payout)
        };
        for (n, expected) in [(0, "10"), (3, "11"), (4, "10"), (5, "12"), (900, "13"), (901, "10")]
        {
            assert_eq!(payout(n), Ok(amount(expected)), "{n}");
        }
    }

    #[test]
    fn what_is_too_large_to_be_kept_is_refused_unless_a_maximum_caps_it() {
        let per_unit = Rule { per_unit: amount("0.01"), ..Rule::default() };
        let text = "quantity=18446744073709551615";
        let refused = price(&event(per_unit, Rule::default()), NUMBER, &said(text), &closed(), DAY);
        assert_eq!(refused, Err(TOO_LARGE));
        let capped = Rule { max: Some(amount("500")), ..per_unit };
        check(&event(capped, Rule::default()), text, ("500", "0", &[]));
    }

    #[test]
    fn other_currencies_are_exchanged_at_the_days_rate_which_is_pinned() {
        let mut event = event(share("10"), share("20"));
        event.trust.revenue = true;
        let (dollars, euros) = (open(Currency::USD), open(Currency::parse("EUR").expect("listed")));
        let (none, price, worth): (&[Flag], &[Flag], &[Flag]) =
            (&[], &[Flag::RateMissing], &[Flag::BaseRateMissing]);
        let check = |market: &Market, day, text: &str, earned: (&str, &str), expected| {
            let price = super::price(&event, NUMBER, &said(text), market, day).expect("fits");
            assert_eq!(
                (price.payout, price.revenue),
                (amount(earned.0), amount(earned.1)),
                "{text}"
            );
            let missing: Vec<_> = Flag::in_bits(price.flags).collect();
            let exchanged = price.exchanged.map(|exchanged| *exchanged);
            assert_eq!((exchanged, &missing[..]), expected, "{text}");
        };
        let billions = |from: u64, to: u64| (from * 1_000_000_000 / 2, to * 1_000_000_000 / 2);
        let yen = Exchanged { amounts: Some(billions(300, 2)), ..Exchanged::default() };
        check(&dollars, DAY, "amount=100", ("10", "20"), (None, none));
        check(&dollars, DAY, "amount=1500 currency=JPY", ("1", "2"), (Some(yen), none));
        let own = Exchanged { own_revenue: Some(450_000_000), ..yen };
        let text = "amount=1500 revenue=450 currency=JPY";
        check(&dollars, DAY, text, ("1", "3"), (Some(own), none));
        let base =
            InBase { currency: *b"EUR", rate: billions(2, 1), revenue: 1_500_000, payout: 500_000 };
        let both = Exchanged { base: Some(base), ..own };
        check(&euros, DAY, text, ("1", "3"), (Some(both), none));
        let at_home = Exchanged { own_revenue: Some(44_000_000), ..Exchanged::default() };
        check(&dollars, DAY, "amount=100 revenue=44", ("10", "44"), (Some(at_home), none));
        check(&dollars, DAY, "amount=100 payout=22", ("10", "20"), (None, none));
        let unpriced = Exchanged { amounts: None, ..own };
        check(&dollars, Day::new(8), text, ("0", "0"), (Some(unpriced), price));
        check(&euros, Day::new(8), "amount=100", ("10", "20"), (None, worth));
        check(&euros, Day::new(8), "amount=0", ("0", "0"), (None, none));
        check(&dollars, DAY, "amount=5 currency=GBP", ("0", "0"), (None, price));
    }
    #[test]
    fn who_forfeits_the_payout_forfeits_an_own_one() {
        let mut event = event(share("10"), share("20"));
        event.trust = Trust { payout: true, revenue: true };
        let left = |text: &str| {
            let mut price = price(&event, NUMBER, &said(text), &closed(), DAY).expect("fits");
            price.forfeit_payout();
            (price.payout, price.revenue, price.exchanged.map(|exchanged| *exchanged))
        };
        let revenue = Exchanged { own_revenue: Some(44_000_000), ..Exchanged::default() };
        assert_eq!(left("amount=100 payout=22"), (Micros::ZERO, amount("20"), None));
        let both = left("amount=100 payout=22 revenue=44");
        assert_eq!(both, (Micros::ZERO, amount("44"), Some(revenue)));
    }
}
