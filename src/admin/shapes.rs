//! The API's JSON shapes.

use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::affiliates::Names;
use super::error::ApiError;
use super::inbound::Inbound;
use super::ledger::PostingShape;
use crate::catalog::version_text;
use crate::click_id::{ClickId, RecordId};
use crate::model::country::Country;
use crate::model::currency::Currency;
use crate::model::money::Micros;
use crate::model::period::moment;
use crate::model::rate::Rate;
use crate::model::reasons::Flag;
use crate::model::status::Status;
use crate::store::records::{self, ClickRecord, EarnedInBase, PinnedRate, RecordError, StoredIp};
use crate::store::{StoredClick, StoredConversion};

/// A click as the API shows it.
#[derive(Debug, Serialize, ToSchema)]
pub struct Click {
    /// 33 characters.
    click_id: String,
    offer: Option<String>,
    affiliate: Option<String>,
    time: String,
    #[schema(value_type = BTreeMap<String, String>)]
    subs: Map<String, Value>,
    #[schema(value_type = BTreeMap<String, String>)]
    params: Map<String, Value>,
    ip: Option<String>,
    user_agent: Option<String>,
    referrer: Option<String>,
    gdpr: Option<String>,
    gdpr_consent: Option<String>,
    us_privacy: Option<String>,
    country: Option<String>,
    fallback: Option<String>,
    flags: Vec<&'static str>,
}

/// A conversion as the API shows it.
#[derive(Debug, Serialize, ToSchema)]
pub struct Conversion {
    conversion_id: String,
    click_id: String,
    advertiser: String,
    offer: String,
    affiliate: String,
    event: String,
    txn_id: Option<String>,
    customer_id: Option<String>,
    status: Option<&'static str>,
    amount: Option<String>,
    amount_currency: Option<String>,
    reversed_amount: Option<String>,
    revenue: String,
    payout: String,
    currency: String,
    amount_rate: Option<PairOfRates>,
    base: Option<InBase>,
    quantity: Option<u64>,
    flags: Vec<&'static str>,
    event_time: String,
    received_time: String,
    catalog_version: String,
    #[schema(value_type = BTreeMap<String, String>)]
    params: Map<String, Value>,
    history: Vec<History>,
}

/// By what an amount was exchanged: times `to`, by `from`.
#[derive(Debug, Serialize, ToSchema)]
struct PairOfRates {
    from: String,
    to: String,
}

/// What was earned, in the network's currency.
#[derive(Debug, Serialize, ToSchema)]
struct InBase {
    currency: String,
    rate: PairOfRates,
    revenue: String,
    payout: String,
}

/// One step of a conversion's status.
#[derive(Debug, Serialize, ToSchema)]
struct History {
    status: Option<&'static str>,
    /// When it was taken.
    time: String,
    /// When it happened, if its sender has said so.
    event_time: Option<String>,
    reason: String,
}

/// An advertiser's customer as the API shows it.
#[derive(Debug, Serialize, ToSchema)]
pub struct Customer {
    /// Whose customer.
    pub advertiser: String,
    /// The advertiser's own ID of it.
    pub customer_id: String,
    /// The click that it is bound to, if it is.
    pub click_id: Option<String>,
    /// The conversion that bound it.
    pub conversion_id: Option<String>,
    /// The click's offer.
    pub offer: Option<String>,
    /// The click's affiliate.
    pub affiliate: Option<String>,
    /// Since when it is bound.
    pub since: Option<String>,
    /// Until when, or when that ended; absent: for ever.
    pub until: Option<String>,
    /// Its conversions, oldest first, at most 1000.
    pub conversions: Vec<Conversion>,
}

/// Everything known by an ID.
#[derive(Debug, Serialize, ToSchema)]
pub struct Trace {
    /// What was asked for.
    pub id: String,
    /// In time order.
    pub entries: Vec<TraceEntry>,
    /// Keys of pages of the log of postbacks that are damaged, and may have had further entries.
    pub damaged: Vec<String>,
}

/// One line of a trace.
#[derive(Debug, Serialize, ToSchema)]
pub struct TraceEntry {
    /// When.
    pub time: String,
    /// `click`, `conversion`, `posting` or `postback`.
    pub kind: &'static str,
    /// The record.
    pub record: TracedRecord,
}

/// What a trace finds.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum TracedRecord {
    /// A click.
    Click(Box<Click>),
    /// A conversion.
    Conversion(Box<Conversion>),
    /// What a step of a conversion's history has posted to the ledger.
    Posting(Box<PostingShape>),
    /// A postback as received.
    Postback(Box<Inbound>),
}

impl Click {
    /// The shape of a stored click; names are the catalog's, if they are still in it.
    pub fn of(
        id: ClickId,
        stored: &StoredClick,
        offer: Option<String>,
        affiliate: Option<String>,
    ) -> Result<Self, ApiError> {
        let ClickRecord {
            subs,
            passed,
            ip,
            user_agent,
            referrer,
            gdpr,
            gdpr_consent,
            us_privacy,
            fallback,
            country,
            flags,
        } = stored.record()?;
        let subs = subs.iter().enumerate().filter(|(_, sub)| !sub.is_empty());
        Ok(Self {
            click_id: id.to_text().to_string(),
            offer,
            affiliate,
            time: rfc3339(id.record().time_ms()),
            subs: subs.map(|(place, sub)| (format!("sub{}", place + 1), (*sub).into())).collect(),
            params: object(&passed),
            ip: ip_text(ip),
            user_agent: present(user_agent),
            referrer: present(referrer),
            gdpr: present(gdpr),
            gdpr_consent: present(gdpr_consent),
            us_privacy: present(us_privacy),
            country: country.and_then(Country::from_bytes).map(|country| country.to_string()),
            fallback: present(fallback),
            flags: Flag::in_bits(flags).map(Flag::as_str).collect(),
        })
    }
}

impl Conversion {
    /// The shape of a stored conversion; `names` has its affiliate's, if the record has none.
    pub fn of(stored: &StoredConversion, names: &Names) -> Result<Self, ApiError> {
        let record = stored.record()?;
        let currency = Currency::from_bytes(record.currency).ok_or(RecordError::Corrupt)?;
        let amount_currency = record.amount_currency.and_then(Currency::from_bytes);
        let earned = record.earned();
        let exchanged = record.exchanged.as_deref().copied().unwrap_or_default();
        let step = |entry: &crate::store::records::HistoryEntry<'_>| History {
            status: Status::from_code(entry.status).map(Status::as_str),
            time: rfc3339(entry.time_ms),
            event_time: entry.said_ms().map(rfc3339),
            reason: entry.reason.to_owned(),
        };
        let click = ClickId::from_parts(RecordId::from_bytes(record.click), record.click_mac);
        Ok(Self {
            conversion_id: stored.id.to_text().to_string(),
            click_id: click.to_text().to_string(),
            advertiser: record.advertiser.to_owned(),
            offer: record.offer.to_owned(),
            affiliate: match record.affiliate {
                "" => names.get(record.affiliate_number()).unwrap_or_default().to_owned(),
                named => named.to_owned(),
            },
            event: record.event.to_owned(),
            txn_id: present(record.txn_id),
            customer_id: present(record.customer_id),
            status: record.status().map(Status::as_str),
            amount: record.amount.map(|amount| {
                Micros::new(amount).display(amount_currency.unwrap_or(currency)).to_string()
            }),
            amount_currency: amount_currency.map(|currency| currency.as_str().to_owned()),
            reversed_amount: (record.reversed_amount != 0).then(|| {
                let reversed = Micros::new(record.reversed_amount);
                reversed.display(amount_currency.unwrap_or(currency)).to_string()
            }),
            revenue: Micros::new(earned.revenue).display(currency).to_string(),
            payout: Micros::new(earned.payout).display(currency).to_string(),
            currency: currency.as_str().to_owned(),
            amount_rate: exchanged.amounts.map(pair_of_rates).transpose()?,
            base: exchanged.base.zip(earned.base).map(in_base).transpose()?,
            quantity: record.quantity,
            flags: record.flags().map(|flag| flag.as_str()).collect(),
            event_time: rfc3339(record.event_time_ms),
            received_time: rfc3339(record.received_ms),
            catalog_version: version_text(record.catalog_version),
            params: object(&record.params),
            history: record.history.iter().map(step).collect(),
        })
    }
}

fn pair_of_rates((from, to): PinnedRate) -> Result<PairOfRates, RecordError> {
    let text = |rate| Rate::new(rate).map(|rate| rate.to_string()).ok_or(RecordError::Corrupt);
    Ok(PairOfRates { from: text(from)?, to: text(to)? })
}

fn in_base((priced, earned): (records::InBase, EarnedInBase)) -> Result<InBase, RecordError> {
    let currency = Currency::from_bytes(earned.currency).ok_or(RecordError::Corrupt)?;
    Ok(InBase {
        currency: currency.as_str().to_owned(),
        rate: pair_of_rates(priced.rate)?,
        revenue: Micros::new(earned.revenue).display(currency).to_string(),
        payout: Micros::new(earned.payout).display(currency).to_string(),
    })
}

/// RFC 3339 in UTC with milliseconds.
pub fn rfc3339(time_ms: u64) -> String {
    moment(time_ms).map_or_else(|| time_ms.to_string(), |time| format!("{time:.3}"))
}

pub fn present(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn object(pairs: &[(&str, &str)]) -> Map<String, Value> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect()
}

pub fn ip_text(ip: StoredIp) -> Option<String> {
    match ip {
        StoredIp::None => None,
        StoredIp::V4(octets) => Some(std::net::Ipv4Addr::from(octets).to_string()),
        StoredIp::V6(octets) => Some(std::net::Ipv6Addr::from(octets).to_string()),
        StoredIp::Hashed(hash) => Some(format!("hash:{:016x}", u64::from_be_bytes(hash))),
    }
}
