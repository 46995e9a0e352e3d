//! The conversion record as it was written before version 4: with nothing booked in the network's
//! currency.

use serde::Deserialize;

use super::{ConversionRecord, Earned, HistoryEntry, RecordError, behind, read};
use crate::model::status::Status;

/// Status, time and reason.
type StepV1<'a> = (u8, u64, &'a str);
/// Status, time, when it happened, booked revenue, booked payout, and reason.
type StepV2<'a> = (u8, u64, u64, i64, i64, &'a str);

/// All of version 1, and what later ones begin with.
#[derive(Deserialize)]
struct First<'a, Step> {
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
    history: Vec<Step>,
}

/// Reads version 1 behind its version byte: without `claims`, and with nothing booked in its
/// history.
pub(super) fn decode_v1(bytes: &[u8]) -> Result<ConversionRecord<'_>, RecordError> {
    let old: First<'_, StepV1<'_>> = read(bytes)?;
    let earned = Earned::new(old.revenue, old.payout, None);
    Ok(old.record(|(status, time_ms, reason)| {
        let known = Status::from_code(status).unwrap_or(Status::Pending);
        HistoryEntry { status, ..HistoryEntry::new(known, time_ms, None, earned, reason) }
    }))
}

/// Reads version 2 behind its version byte: without what has been taken back in part.
pub(super) fn decode_v2(bytes: &[u8]) -> Result<ConversionRecord<'_>, RecordError> {
    second(bytes).map(|(record, _)| record)
}

/// Reads version 3 behind its version byte: version 2, and then how much of the amount has been
/// taken back in part.
pub(super) fn decode_v3(bytes: &[u8]) -> Result<ConversionRecord<'_>, RecordError> {
    let (record, rest) = second(bytes)?;
    Ok(ConversionRecord { reversed_amount: read(rest)?, ..record })
}

fn second(bytes: &[u8]) -> Result<(ConversionRecord<'_>, &[u8]), RecordError> {
    let (old, rest): (First<'_, StepV2<'_>>, _) = behind(bytes)?;
    let ((claims, exchanged), rest) = behind(rest)?;
    let record =
        old.record(|(status, time_ms, event_time_ms, booked_revenue, booked_payout, reason)| {
            HistoryEntry {
                status,
                time_ms,
                event_time_ms,
                booked_revenue,
                booked_payout,
                booked_base: None,
                reason,
            }
        });
    Ok((ConversionRecord { claims, exchanged, ..record }, rest))
}

impl<'a, Step> First<'a, Step> {
    fn record(self, step: impl Fn(Step) -> HistoryEntry<'a>) -> ConversionRecord<'a> {
        ConversionRecord {
            click: self.click,
            click_mac: self.click_mac,
            advertiser: self.advertiser,
            offer: self.offer,
            affiliate: self.affiliate,
            event: self.event,
            txn_id: self.txn_id,
            customer_id: self.customer_id,
            status: self.status,
            amount: self.amount,
            amount_currency: self.amount_currency,
            revenue: self.revenue,
            payout: self.payout,
            currency: self.currency,
            quantity: self.quantity,
            flags: self.flags,
            event_time_ms: self.event_time_ms,
            received_ms: self.received_ms,
            catalog_version: self.catalog_version,
            params: self.params,
            history: self.history.into_iter().map(step).collect(),
            claims: 0,
            exchanged: None,
            reversed_amount: 0,
            erased: None,
            deferred: Vec::new(),
        }
    }
}
