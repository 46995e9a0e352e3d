//! The catalog file's schema: an offer's fraud rules.

use super::file::window;
use super::file_caps::listed;
use super::file_money::percent;
use super::snapshot::Event;
use crate::checked_toml::{Complaint, Input, Table, one_of};
use crate::fraud::{ConversionRate, Flood, Fraud};
use crate::limits::{WATCHED_CLICKS_MAX, WATCHED_PERIOD_MS_MAX};
use crate::model::reasons::{Flag, FraudAction};

/// Keys of `fraud`: the rules.
const FRAUD: &[&str] = &[
    "too_fast",
    "too_slow",
    "conversion_rate",
    "click_flood",
    "repeated_ip",
    "bot_user_agent",
    "repeated_customer",
];
const DEFAULT_MIN_MS: u64 = 1000;
const DEFAULT_RATE_CLICKS: u64 = 100;
const DEFAULT_RATE_PERIOD_MS: u64 = 24 * 60 * 60 * 1000;
const DEFAULT_CUSTOMER_PERIOD_MS: u64 = 30 * DEFAULT_RATE_PERIOD_MS;
/// Shortest time over which something is counted, milliseconds.
const PERIOD_MS_MIN: u64 = 1000;

/// An offer's fraud rules; `None` if all are off. `events` are the offer's; mistakes are noted.
pub fn fraud(table: &Table<'_>, events: &[Event]) -> Option<Box<Fraud>> {
    let table = table.table("fraud", FRAUD)?;
    let mut fraud = Fraud::default();
    let mut rule =
        |rule: Flag, keys: &'static [&'static str]| Rule::open(&table, rule, keys, &mut fraud);
    let too_fast = rule(Flag::TooFast, &["action", "min"])
        .and_then(|rule| rule.or_default("min", window, DEFAULT_MIN_MS));
    let too_slow =
        rule(Flag::TooSlow, &["action", "max"]).and_then(|rule| rule.required("max", window));
    let keys = &["action", "min", "max", "clicks", "period", "events"];
    let conversion_rate =
        rule(Flag::ConversionRate, keys).and_then(|rule| conversion_rate(&rule, events));
    let flood = &["action", "clicks", "period"];
    let click_flood = rule(Flag::ClickFlood, flood).and_then(|rule| rule.flood());
    let repeated_ip = rule(Flag::RepeatedIp, flood).and_then(|rule| rule.flood());
    let bot = rule(Flag::BotUserAgent, &["action"]);
    let repeated_customer = rule(Flag::RepeatedCustomer, &["action", "period"])
        .and_then(|rule| rule.or_default("period", period, DEFAULT_CUSTOMER_PERIOD_MS));
    let bot_user_agent = bot.is_some_and(|rule| rule.is_on);
    if let (Some(min), Some(max)) = (too_fast, too_slow)
        && min > max
    {
        table.error("too_slow", "its max is below the min of too_fast");
    }
    let fraud = Fraud {
        too_fast,
        too_slow,
        conversion_rate,
        click_flood,
        repeated_ip,
        bot_user_agent,
        repeated_customer,
        ..fraud
    };
    (!fraud.is_off()).then(|| Box::new(fraud))
}

/// One rule's table.
struct Rule<'t> {
    table: Table<'t>,
    is_on: bool,
}

impl<'t> Rule<'t> {
    /// Opens it if it is there; what it does is noted in `fraud`.
    fn open(
        table: &'t Table<'t>,
        rule: Flag,
        keys: &'static [&'static str],
        fraud: &mut Fraud,
    ) -> Option<Self> {
        let table = table.table(rule.as_str(), keys)?;
        let words = [
            ("off", None),
            (FraudAction::Flag.as_str(), Some(FraudAction::Flag)),
            (FraudAction::Reject.as_str(), Some(FraudAction::Reject)),
        ];
        let action = table.optional("action", |input| one_of(input.text()?, &words));
        let action = action.unwrap_or(Some(FraudAction::Flag));
        if action == Some(FraudAction::Reject) {
            fraud.rejects |= rule.bit();
        }
        Some(Self { table, is_on: action.is_some() })
    }

    /// A value of a rule that is on; it is read either way, so that its mistakes are noted.
    fn or_default<T>(
        &self,
        key: &str,
        read: impl FnOnce(Input<'_>) -> Result<T, Complaint>,
        default: T,
    ) -> Option<T> {
        let value = self.table.optional(key, read).unwrap_or(default);
        self.is_on.then_some(value)
    }

    /// As [`Self::or_default`]; a rule that is on must have it.
    fn required<T>(
        &self,
        key: &str,
        read: impl FnOnce(Input<'_>) -> Result<T, Complaint>,
    ) -> Option<T> {
        if self.is_on { self.table.required(key, read) } else { self.optional(key, read) }
    }

    fn optional<T>(
        &self,
        key: &str,
        read: impl FnOnce(Input<'_>) -> Result<T, Complaint>,
    ) -> Option<T> {
        self.table.optional(key, read).filter(|_| self.is_on)
    }

    fn flood(&self) -> Option<Flood> {
        let clicks = self.required("clicks", clicks);
        let period_ms = self.required("period", period);
        Some(Flood { clicks: clicks?, period_ms: period_ms? })
    }
}

fn conversion_rate(rule: &Rule<'_>, events: &[Event]) -> Option<ConversionRate> {
    let table = &rule.table;
    let (min, max) = (table.optional("min", percent), table.optional("max", percent));
    if rule.is_on && !table.has("min") && !table.has("max") {
        table.error("action", "bounds nothing: give it a min or a max");
    }
    if let (Some(min), Some(max)) = (min, max)
        && min > max
    {
        table.error("max", "is below min");
    }
    let clicks = table.optional("clicks", clicks).unwrap_or(DEFAULT_RATE_CLICKS);
    let period_ms = table.optional("period", period).unwrap_or(DEFAULT_RATE_PERIOD_MS);
    let events = table.optional("events", |input| listed(input, events)).unwrap_or_default();
    rule.is_on.then_some(ConversionRate { min, max, clicks, period_ms, events })
}

fn clicks(input: Input<'_>) -> Result<u64, Complaint> {
    input.integer(1..=WATCHED_CLICKS_MAX)
}

fn period(input: Input<'_>) -> Result<u64, Complaint> {
    let period_ms = window(input)?;
    if !(PERIOD_MS_MIN..=WATCHED_PERIOD_MS_MAX).contains(&period_ms) {
        return Err(Complaint::new("must be from \"1s\" to \"90d\""));
    }
    Ok(period_ms)
}
