// Hot path: pure. No allocation, no clock, no randomness, no I/O.
//! What a conversion earns, by the event's terms and by what the postback says of money.

use super::decide::Refused;
use crate::catalog::Event;
use crate::model::currency::Currency;
use crate::model::ids::AffiliateNumber;
use crate::model::money::Micros;
use crate::model::reasons::{Flag, Refusal};
use crate::model::rule::Rule;

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

/// What a conversion earns, in the event's currency.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Price {
    /// What the affiliate earns.
    pub payout: Micros,
    /// What the network earns.
    pub revenue: Micros,
    /// What could not be taken into account, as bits of [`Flag`].
    pub flags: u32,
}

/// Prices a conversion. What depends on an amount that was not sent, or was sent in a currency
/// that cannot be exchanged, counts as zero and is flagged: the conversion is never lost for it.
///
/// # Errors
/// [`Refusal::BadAmount`] if a result is too large to be kept.
pub fn price(event: &Event, affiliate: AffiliateNumber, said: &Said) -> Result<Price, Refused> {
    let terms = event.terms_of(affiliate);
    let mut pricing = Pricing { currency: event.currency, said, flags: 0 };
    let payout = pricing.earned(&terms.payout, said.payout.filter(|_| event.trust.payout))?;
    let revenue = pricing.earned(&terms.revenue, said.revenue.filter(|_| event.trust.revenue))?;
    Ok(Price { payout, revenue, flags: pricing.flags })
}

struct Pricing<'a> {
    currency: Currency,
    said: &'a Said,
    flags: u32,
}

impl Pricing<'_> {
    /// What the postback is believed, or else what the rule makes of it.
    fn earned(&mut self, rule: &Rule, believed: Option<Micros>) -> Result<Micros, Refused> {
        if let Some(theirs) = believed {
            return Ok(rule.within(self.exchanged(theirs)));
        }
        let amount = if rule.needs_amount() { self.amount() } else { None };
        rule.apply(amount, self.said.quantity).ok_or(TOO_LARGE)
    }

    fn amount(&mut self) -> Option<Micros> {
        if self.said.amount.is_none() {
            self.flags |= Flag::AmountMissing.bit();
        }
        self.said.amount.map(|amount| self.exchanged(amount))
    }

    /// An amount of the postback in the event's currency; zero if there is no rate.
    fn exchanged(&mut self, amount: Micros) -> Micros {
        if self.said.currency.is_none_or(|currency| currency == self.currency) {
            return amount;
        }
        self.flags |= Flag::RateMissing.bit();
        Micros::ZERO
    }
}

const TOO_LARGE: Refused = Refused {
    reason: Refusal::BadAmount,
    hint: Some("payout or revenue of this amount or quantity would be too large to be kept"),
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{Override, Repeat, Terms, Trust};
    use crate::model::rule::Percent;
    use crate::model::status::Status;

    const NUMBER: AffiliateNumber = AffiliateNumber::NONE;

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
            repeat: Repeat::Once,
            window_ms: None,
            terms: Terms { payout, revenue },
            overrides: Vec::new(),
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
        let expected = Price { payout: amount(payout), revenue: amount(revenue), flags };
        assert_eq!(price(event, NUMBER, &said(text)), Ok(expected), "{text}");
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
        let payout = |n| price(&event, number(n), &said("amount=100")).map(|price| price.payout);
        for (n, expected) in [(0, "10"), (3, "11"), (4, "10"), (5, "12"), (900, "13"), (901, "10")]
        {
            assert_eq!(payout(n), Ok(amount(expected)), "{n}");
        }
    }

    #[test]
    fn what_is_too_large_to_be_kept_is_refused_unless_a_maximum_caps_it() {
        let per_unit = Rule { per_unit: amount("0.01"), ..Rule::default() };
        let text = "quantity=18446744073709551615";
        let refused = price(&event(per_unit, Rule::default()), NUMBER, &said(text));
        assert_eq!(refused, Err(TOO_LARGE));
        let capped = Rule { max: Some(amount("500")), ..per_unit };
        check(&event(capped, Rule::default()), text, ("500", "0", &[]));
    }
}
