// Hot path of offers with fraud rules: no lock but a shard's, no allocation once in use.
//! What is counted for fraud rules: clicks by network and address, conversions by affiliate, and
//! who has converted. All of it is in memory and begins anew with the process; what the rules have
//! found is kept with clicks and conversions.

use std::net::IpAddr;

use xxhash_rust::xxh3::Xxh3;

use super::agents::is_program;
use super::rules::{ConversionRate, Flood, Fraud};
use super::sliding::{Sliding, slice_ms};
use super::table::{Kept, Table};
use crate::click_id::RecordId;
use crate::limits::{WATCHED_ADDRESSES_MAX, WATCHED_AFFILIATES_MAX, WATCHED_CUSTOMERS_MAX};
use crate::model::reasons::Flag;

/// A click that reached its offer.
#[derive(Clone, Copy, Debug)]
pub struct Visit<'a> {
    /// The click, of its offer and of whoever sent it.
    pub click: RecordId,
    /// The visitor's whole address; only a hash of it stays in memory.
    pub ip: IpAddr,
    /// `User-Agent`.
    pub user_agent: &'a str,
    /// When, Unix milliseconds.
    pub now_ms: u64,
}

/// A conversion in the making.
#[derive(Clone, Copy, Debug)]
pub struct Converting<'a> {
    /// Its click.
    pub click: RecordId,
    /// The offer's advertiser.
    pub advertiser: &'a str,
    /// Its event.
    pub event: &'a str,
    /// The advertiser's ID of the customer; empty if none was sent.
    pub customer_id: &'a str,
    /// When it was reported, Unix milliseconds.
    pub now_ms: u64,
    /// Whether that may be long ago, and others be known that came after it.
    pub is_past: bool,
    /// Whether its customer stood for the click.
    pub is_by_customer: bool,
}

impl Converting<'_> {
    /// Whether it has to do with how many clicks convert today.
    const fn is_rated(&self) -> bool {
        !self.is_past && !self.is_by_customer
    }
}

/// The clicks of a network or an address on an offer.
#[derive(Default)]
struct Clicks {
    slice_ms: u64,
    clicks: Sliding<1>,
}

impl Kept for Clicks {
    fn worth(&self, now_ms: u64) -> u64 {
        now_ms.checked_div(self.slice_ms).map_or(0, |slice| self.clicks.sum(0, slice))
    }
}

/// Clicks and conversions of an affiliate on an offer.
#[derive(Default)]
struct Rate {
    slice_ms: u64,
    /// When its first click came.
    since_ms: u64,
    /// When that was minted: later, after a clock that was ahead.
    minted_ms: u64,
    counts: Sliding<2>,
}

const CLICKS: usize = 0;
const CONVERSIONS: usize = 1;

impl Kept for Rate {
    fn worth(&self, now_ms: u64) -> u64 {
        now_ms.checked_div(self.slice_ms).map_or(0, |slice| self.counts.sum(CLICKS, slice))
    }
}

/// A customer's last conversion.
#[derive(Default)]
struct Converted {
    click: [u8; 16],
    at_ms: u64,
}

impl Kept for Converted {
    fn worth(&self, _now_ms: u64) -> u64 {
        self.at_ms
    }
}

/// What a key is of: two kinds never share one.
#[derive(Clone, Copy)]
enum Kind {
    Network = 1,
    Address,
    Affiliate,
    Customer,
}

/// Counts, for all offers that have such rules.
pub struct Watch {
    seed: u64,
    addresses: Table<Clicks>,
    affiliates: Table<Rate>,
    customers: Table<Converted>,
}

impl Watch {
    /// Nothing is counted yet. `seed` is the process's own, so that nobody can choose addresses
    /// that share a place.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            addresses: Table::new(WATCHED_ADDRESSES_MAX),
            affiliates: Table::new(WATCHED_AFFILIATES_MAX),
            customers: Table::new(WATCHED_CUSTOMERS_MAX),
        }
    }

    /// Counts a click; returns the bits of the rules that it breaks.
    pub fn clicked(&self, fraud: &Fraud, visit: &Visit<'_>) -> u32 {
        if let Some(rate) = &fraud.conversion_rate {
            self.count_for_rate(rate, visit);
        }
        let over = |flood: Option<Flood>, kind, rule: Flag| match flood {
            Some(flood) if self.is_over(flood, kind, visit) => rule.bit(),
            _ => 0,
        };
        let program = fraud.bot_user_agent && is_program(visit.user_agent);
        over(fraud.click_flood, Kind::Network, Flag::ClickFlood)
            | over(fraud.repeated_ip, Kind::Address, Flag::RepeatedIp)
            | Flag::BotUserAgent.bit_if(program)
    }

    /// Counts a click of a network or address; whether it is one too many.
    fn is_over(&self, flood: Flood, kind: Kind, visit: &Visit<'_>) -> bool {
        let (mut octets, length) = match (visit.ip.to_canonical(), kind) {
            (IpAddr::V4(v4), Kind::Network) => (v4.to_ipv6_mapped().octets(), 15),
            (IpAddr::V4(v4), _) => (v4.to_ipv6_mapped().octets(), 16),
            (IpAddr::V6(v6), Kind::Network) => (v6.octets(), 6),
            // A host is free to take any address of its /64.
            (IpAddr::V6(v6), _) => (v6.octets(), 8),
        };
        octets[length..].fill(0);
        let key = self.key(kind, &[&visit.click.offer().get().to_be_bytes(), &octets]);
        let slice_ms = slice_ms(flood.period_ms);
        let clicks = self.addresses.with(key, visit.now_ms, |own| {
            if own.slice_ms != slice_ms {
                // New, or the catalog counts over another time now.
                *own = Clicks { slice_ms, ..Clicks::default() };
            }
            own.clicks.add(0, visit.now_ms / slice_ms);
            own.clicks.sum(0, visit.now_ms / slice_ms)
        });
        clicks > flood.clicks
    }

    fn count_for_rate(&self, rate: &ConversionRate, visit: &Visit<'_>) {
        let &Visit { click, now_ms, .. } = visit;
        let slice_ms = slice_ms(rate.period_ms);
        let slice = now_ms / slice_ms;
        self.affiliates.with(self.pair(click), now_ms, |own| {
            if own.slice_ms != slice_ms || own.counts.is_ahead_of(slice) {
                let (since_ms, minted_ms) = (now_ms, click.time_ms());
                *own = Rate { slice_ms, since_ms, minted_ms, ..Rate::default() };
            }
            own.counts.add(CLICKS, slice);
        });
    }

    /// The bits of the rules that a conversion would break. Counts nothing.
    #[must_use]
    pub fn suspects(&self, fraud: &Fraud, converting: &Converting<'_>) -> u32 {
        let rate = fraud.conversion_rate.as_ref().filter(|_| converting.is_rated());
        let rate = rate.is_some_and(|rate| self.is_off(rate, converting));
        let period = fraud.repeated_customer;
        let repeated = period.is_some_and(|period_ms| self.has_repeated(period_ms, converting));
        Flag::ConversionRate.bit_if(rate) | Flag::RepeatedCustomer.bit_if(repeated)
    }

    /// Whether the affiliate's rate is out of range with this conversion.
    fn is_off(&self, rate: &ConversionRate, converting: &Converting<'_>) -> bool {
        let (click, now_ms) = (converting.click, converting.now_ms);
        if !rate.counts(converting.event) {
            return false;
        }
        let slice_ms = slice_ms(rate.period_ms);
        let broken = self.affiliates.known(self.pair(click), |own| {
            let sum = |which| own.counts.sum(which, now_ms / slice_ms);
            let conversions = sum(CONVERSIONS) + u64::from(own.has_seen(click));
            let counted_ms = now_ms.saturating_sub(own.since_ms);
            own.slice_ms == slice_ms && rate.is_broken_by(conversions, sum(CLICKS), counted_ms)
        });
        broken.unwrap_or(false)
    }

    /// Whether the customer has converted through another click.
    fn has_repeated(&self, period_ms: u64, converting: &Converting<'_>) -> bool {
        let Some(key) = self.customer(converting) else { return false };
        let repeated = self.customers.known(key, |last| {
            let other = last.click != *converting.click.as_bytes();
            other && last.is_within(period_ms, converting)
        });
        repeated.unwrap_or(false)
    }

    /// Counts a new conversion.
    pub fn converted(&self, fraud: &Fraud, converting: &Converting<'_>) {
        let rate = fraud.conversion_rate.as_ref().filter(|rate| rate.counts(converting.event));
        if let Some(rate) = rate.filter(|_| converting.is_rated()) {
            self.count_conversion(rate, converting);
        }
        if let Some(period_ms) = fraud.repeated_customer {
            self.remember_customer(period_ms, converting);
        }
    }

    fn count_conversion(&self, rate: &ConversionRate, converting: &Converting<'_>) {
        let (click, now_ms) = (converting.click, converting.now_ms);
        let slice_ms = slice_ms(rate.period_ms);
        let slice = now_ms / slice_ms;
        // Whose clicks are not counted has no conversions that count.
        let _ = self.affiliates.known(self.pair(click), |own| {
            let has_clicks = own.slice_ms == slice_ms && !own.counts.is_ahead_of(slice);
            if has_clicks && own.has_seen(click) {
                own.counts.add(CONVERSIONS, slice);
            }
        });
    }

    /// Remembers who converted, unless a later conversion of the same customer is known.
    fn remember_customer(&self, period_ms: u64, converting: &Converting<'_>) {
        let Some(key) = self.customer(converting) else { return };
        self.customers.with(key, converting.now_ms, |last| {
            let is_later = last.at_ms > converting.now_ms;
            // So much later than now, it was counted under a clock that was ahead.
            if !is_later || !converting.is_past && !last.is_within(period_ms, converting) {
                *last = Converted { click: *converting.click.as_bytes(), at_ms: converting.now_ms };
            }
        });
    }

    fn pair(&self, click: RecordId) -> u64 {
        let (offer, affiliate) = (click.offer(), click.affiliate());
        let (offer, affiliate) = (offer.get().to_be_bytes(), affiliate.get().to_be_bytes());
        self.key(Kind::Affiliate, &[&offer, &affiliate])
    }

    fn customer(&self, converting: &Converting<'_>) -> Option<u64> {
        let Converting { advertiser, event, customer_id, .. } = converting;
        let parts: [&[u8]; 5] =
            [advertiser.as_bytes(), b"\0", event.as_bytes(), b"\0", customer_id.as_bytes()];
        // Catalog IDs have no such byte.
        (!customer_id.is_empty()).then(|| self.key(Kind::Customer, &parts))
    }

    fn key(&self, kind: Kind, parts: &[&[u8]]) -> u64 {
        let mut hasher = Xxh3::with_seed(self.seed);
        hasher.update(&[kind as u8]);
        parts.iter().for_each(|part| hasher.update(part));
        hasher.digest()
    }
}

impl Converted {
    /// Whether it was less than a period before another one. If nothing can have come after that,
    /// the clock was set back, and by less than the period.
    const fn is_within(&self, period_ms: u64, converting: &Converting<'_>) -> bool {
        let is_before = self.at_ms <= converting.now_ms;
        (is_before || !converting.is_past) && self.at_ms.abs_diff(converting.now_ms) < period_ms
    }
}

impl Rate {
    /// Whether a click is counted: only its conversions count, or a restart would leave many
    /// conversions and few clicks.
    fn has_seen(&self, click: RecordId) -> bool {
        self.slice_ms != 0 && click.time_ms() >= self.minted_ms
    }
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
