//! Version 1 of the conversion record: without `claims`, and with nothing booked in its history.

use serde::Deserialize;

use super::{ConversionRecord, Earned, HistoryEntry, RecordError, read};
use crate::model::status::Status;

pub(super) const VERSION: u8 = 1;

#[derive(Deserialize)]
struct ConversionV1<'a> {
    click: [u8; 16],
    click_mac: [u8; 8],
    advertiser: &'a str,
    offer: &'a str,
    affiliate: &'a str,
    event: &'a str,
    txn_id: &'a str,
    customer_id: &'a str,
    status: u8,
    amount: Option<i64>,
    amount_currency: Option<[u8; 3]>,
    revenue: i64,
    payout: i64,
    currency: [u8; 3],
    quantity: Option<u64>,
    flags: u32,
    event_time_ms: u64,
    received_ms: u64,
    catalog_version: u64,
    #[serde(borrow)]
    params: Vec<(&'a str, &'a str)>,
    #[serde(borrow)]
    history: Vec<HistoryV1<'a>>,
}

#[derive(Deserialize)]
struct HistoryV1<'a> {
    status: u8,
    time_ms: u64,
    reason: &'a str,
}

/// Reads what follows the version byte.
pub(super) fn decode(bytes: &[u8]) -> Result<ConversionRecord<'_>, RecordError> {
    let old: ConversionV1<'_> = read(bytes)?;
    let earned = Earned::new(old.revenue, old.payout, None);
    let history = old.history.iter().map(|entry| HistoryEntry {
        status: entry.status,
        ..HistoryEntry::new(
            Status::from_code(entry.status).unwrap_or(Status::Pending),
            entry.time_ms,
            None,
            earned,
            entry.reason,
        )
    });
    let history = history.collect();
    Ok(ConversionRecord {
        click: old.click,
        click_mac: old.click_mac,
        advertiser: old.advertiser,
        offer: old.offer,
        affiliate: old.affiliate,
        event: old.event,
        txn_id: old.txn_id,
        customer_id: old.customer_id,
        status: old.status,
        amount: old.amount,
        amount_currency: old.amount_currency,
        revenue: old.revenue,
        payout: old.payout,
        currency: old.currency,
        quantity: old.quantity,
        flags: old.flags,
        event_time_ms: old.event_time_ms,
        received_ms: old.received_ms,
        catalog_version: old.catalog_version,
        params: old.params,
        history,
        claims: 0,
        exchanged: None,
        reversed_amount: 0,
        erased: None,
        deferred: Vec::new(),
    })
}
