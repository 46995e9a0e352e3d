//! Version 2 of the conversion record: without what has been taken back in part, and with nothing
//! booked in the network's currency.

use serde::Deserialize;

use super::{ConversionRecord, Exchanged, HistoryEntry, RecordError};

pub(super) const VERSION: u8 = 2;

#[derive(Deserialize)]
struct ConversionV2<'a> {
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
    history: Vec<HistoryV2<'a>>,
    claims: u8,
    exchanged: Option<Box<Exchanged>>,
}

#[derive(Deserialize)]
struct HistoryV2<'a> {
    status: u8,
    time_ms: u64,
    event_time_ms: u64,
    booked_revenue: i64,
    booked_payout: i64,
    reason: &'a str,
}

/// Reads what follows the version byte.
pub(super) fn decode(bytes: &[u8]) -> Result<ConversionRecord<'_>, RecordError> {
    read(bytes).map(|(record, _)| record)
}

/// The same, and what comes after it.
pub(super) fn read(bytes: &[u8]) -> Result<(ConversionRecord<'_>, &[u8]), RecordError> {
    let read = postcard::take_from_bytes(bytes);
    let (old, rest): (ConversionV2<'_>, _) = read.map_err(|_| RecordError::Corrupt)?;
    let history = old.history.iter().map(|entry| HistoryEntry {
        status: entry.status,
        time_ms: entry.time_ms,
        event_time_ms: entry.event_time_ms,
        booked_revenue: entry.booked_revenue,
        booked_payout: entry.booked_payout,
        booked_base: None,
        reason: entry.reason,
    });
    let history = history.collect();
    let record = ConversionRecord {
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
        claims: old.claims,
        exchanged: old.exchanged,
        reversed_amount: 0,
        erased: None,
        deferred: Vec::new(),
    };
    Ok((record, rest))
}
