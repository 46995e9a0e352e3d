//! One click, one conversion, and everything known about one of them.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use super::affiliates::{self, Departed, Names};
use super::error::ApiError;
use super::inbound::{Inbound, page_key};
use super::ledger;
use super::question::InPath;
use super::server::AdminState;
use super::shapes::{Click, Conversion, Trace, TraceEntry, TracedRecord, rfc3339};
use crate::click_id::{ClickId, RecordId};
use crate::dedup::{Claim, ClaimSet, Receipt};
use crate::limits::{TRACE_CONVERSIONS_MAX, TRACE_INBOUND_MAX, TXN_ID_BYTES_MAX};
use crate::postback::mentions;
use crate::store::postings::postings;
use crate::store::records::InboundRow;
use crate::store::{FoundInbound, StoredConversion};

/// A click's record.
#[utoipa::path(
    get, path = "/clicks/{click_id}", operation_id = "get_click", tag = "records",
    params(("click_id" = String, Path, description = "A click ID, 33 characters.")),
    responses((status = 200, description = "The click.", body = Click)),
)]
pub async fn click(
    State(state): State<Arc<AdminState>>,
    InPath(id): InPath<String>,
) -> Result<Json<Click>, ApiError> {
    let id = parse_click(&state, &id)?;
    let click = stored_click(&state, id, &mut Departed::default()).await?;
    click.map(Json).ok_or_else(|| {
        ApiError::not_found("the click ID is genuine, but its record is not in the store")
    })
}

/// A conversion.
#[utoipa::path(
    get, path = "/conversions/{id}", operation_id = "get_conversion", tag = "records",
    params(("id" = String, Path, description = "A conversion ID, 22 characters.")),
    responses((status = 200, description = "The conversion.", body = Conversion)),
)]
pub async fn conversion(
    State(state): State<Arc<AdminState>>,
    InPath(id): InPath<String>,
) -> Result<Json<Conversion>, ApiError> {
    let parsed = RecordId::parse(id.as_bytes()).ok_or_else(|| {
        ApiError::bad_request(
            "bad_conversion_id",
            "a conversion ID has 22 characters from 0-9, A-Z and a-z",
        )
    })?;
    let stored = state.store.conversion(parsed).await?;
    let stored = stored.ok_or_else(|| ApiError::not_found("no such conversion"))?;
    let names = Names::of_unnamed(&state, std::slice::from_ref(&stored)).await?;
    Ok(Json(Conversion::of(&stored, &names)?))
}

/// Everything known by an ID: clicks, postbacks, conversions and postings in time order.
#[utoipa::path(
    get, path = "/trace/{id}", operation_id = "trace", tag = "records",
    params(("id" = String, Path, description = "A click ID, a conversion ID, a `txn_id` or a customer's ID.")),
    responses((status = 200, description = "All that was found.", body = Trace)),
)]
pub async fn trace(
    State(state): State<Arc<AdminState>>,
    InPath(id): InPath<String>,
) -> Result<Json<Trace>, ApiError> {
    let mut clicks = Vec::new();
    let mut conversions: Vec<StoredConversion> = Vec::new();
    let mut postbacks = FoundInbound::default();
    let mut is_customer = false;
    if let Ok(click) = state.keyring.verify(id.as_bytes()) {
        clicks.push(click);
    } else {
        if let Some(id) = RecordId::parse(id.as_bytes()) {
            conversions.extend(state.store.conversion(id).await?);
        }
        if conversions.is_empty() {
            conversions = by_transaction(&state, &id).await?;
        }
        if conversions.is_empty() {
            conversions = by_customer(&state, &id).await?;
            is_customer = !conversions.is_empty();
        }
        if conversions.is_empty() {
            (conversions, is_customer) = by_name(&state, &id).await?;
        }
        for conversion in &conversions {
            let record = conversion.record()?;
            let click = ClickId::from_parts(RecordId::from_bytes(record.click), record.click_mac);
            if !clicks.contains(&click) {
                clicks.push(click);
            }
        }
    }
    let (mut entries, mut departed) = (Vec::new(), Departed::default());
    for click in clicks {
        if let Some(shape) = stored_click(&state, click, &mut departed).await? {
            let record = TracedRecord::Click(Box::new(shape));
            entries.push(entry("click", click.record().time_ms(), record));
        }
        // What others did by a customer's click is not the customer's.
        if !is_customer {
            let named = state.store.inbound_of_click(click.record());
            postbacks.extend(named.await?);
            conversions.extend(state.store.conversions_of(click.record()).await?.rows);
        }
    }
    // The index of a click may be gone while its customer still converts.
    conversions.sort_unstable_by_key(|conversion| conversion.id);
    conversions.dedup_by_key(|conversion| conversion.id);
    let names = Names::of_unnamed(&state, &conversions).await?;
    for conversion in conversions {
        let record = conversion.record()?;
        let steps_ms = record.steps_by_postback_ms();
        let made = state.store.inbound_of_conversions(vec![(conversion.id, steps_ms)]);
        postbacks.extend(made.await?);
        let shape = TracedRecord::Conversion(Box::new(Conversion::of(&conversion, &names)?));
        entries.push(entry("conversion", conversion.id.time_ms(), shape));
        for posting in postings(conversion.id, &record) {
            let step = record.history.get(usize::from(posting.key.step));
            let time_ms = step.map_or(conversion.id.time_ms(), |step| step.time_ms);
            let record = TracedRecord::Posting(Box::new(ledger::posting(&posting)));
            entries.push(entry("posting", time_ms, record));
        }
    }
    if entries.is_empty() && postbacks.rows.is_empty() {
        postbacks.extend(mentioned(&state, &id).await?);
    }
    for stored in postbacks.rows {
        let time_ms = stored.row()?.head.time_ms;
        let record = TracedRecord::Postback(Box::new(Inbound::of(&stored, &state.keyring)?));
        entries.push(entry("postback", time_ms, record));
    }
    if entries.is_empty() {
        return Err(ApiError::not_found(
            "nothing is known by this ID: neither click, conversion, transaction nor customer; nor do the newest postbacks of the log name it, which can be looked through whole by the parameters txn_id, customer_id and click_id of GET /api/v1/inbound. Older conversions of what has left the catalog are found by txn_id and customer_id of GET /api/v1/conversions",
        ));
    }
    entries.sort_by_key(|(time_ms, _)| *time_ms);
    let entries = entries.into_iter().map(|(_, entry)| entry).collect();
    let damaged = postbacks.damaged.iter().map(page_key).collect();
    Ok(Json(Trace { id, entries, damaged }))
}

/// A line, and when it happened.
fn entry(kind: &'static str, time_ms: u64, record: TracedRecord) -> (u64, TraceEntry) {
    (time_ms, TraceEntry { time: rfc3339(time_ms), kind, record })
}

/// Those of the newest postbacks that name something of which nothing is known: they were refused.
async fn mentioned(state: &AdminState, id: &str) -> Result<FoundInbound, ApiError> {
    let (id, catalog) = (id.to_owned(), state.catalog.load_full());
    let filter = Arc::new(move |row: &InboundRow<'_>| mentions(row, &id, &catalog));
    Ok(state.store.newest_inbound(TRACE_INBOUND_MAX, filter).await?)
}

/// The conversions of a transaction ID under every advertiser and event of the catalog.
async fn by_transaction(
    state: &AdminState,
    txn_id: &str,
) -> Result<Vec<StoredConversion>, ApiError> {
    if txn_id.len() > TXN_ID_BYTES_MAX {
        return Ok(Vec::new());
    }
    let (catalog, now_ms) = (state.catalog.load_full(), state.clock.now_ms());
    let mut conversions: Vec<StoredConversion> = Vec::new();
    for (advertiser, event) in catalog.advertiser_events() {
        for claim in [
            Claim::Transaction { advertiser, event, txn_id },
            Claim::Reversal { advertiser, event, reversal_id: txn_id },
        ] {
            let claims = ClaimSet::new(claim, None);
            let found = state.dedup.find(&state.store, claims, Receipt::Now(now_ms)).await?;
            if let Some(original) = found {
                conversions.extend(state.store.conversion(original.conversion).await?);
            }
        }
    }
    Ok(conversions)
}

/// The conversions of a customer ID under every advertiser of the catalog.
async fn by_customer(
    state: &AdminState,
    customer_id: &str,
) -> Result<Vec<StoredConversion>, ApiError> {
    if customer_id.len() > TXN_ID_BYTES_MAX {
        return Ok(Vec::new());
    }
    let catalog = state.catalog.load_full();
    let advertisers = catalog.advertiser_ids();
    let claim = |advertiser| Claim::Customer { advertiser, customer_id, windows: None };
    let limit = TRACE_CONVERSIONS_MAX;
    Ok(state.store.conversions_of_customers(advertisers.map(claim), limit).await?.rows)
}

/// Those of the newest conversions that have such a transaction ID, or else such a customer, and
/// whether it is the customer's: under what has left the catalog nobody looks for claims.
async fn by_name(state: &AdminState, id: &str) -> Result<(Vec<StoredConversion>, bool), ApiError> {
    let wanted = id.to_owned();
    let filter = Arc::new(move |row: &StoredConversion| {
        row.record().is_ok_and(|it| it.txn_id == wanted || it.customer_id == wanted)
    });
    let mut named = state.store.newest_that(TRACE_CONVERSIONS_MAX, filter).await?;
    let is_its = |row: &StoredConversion| row.record().is_ok_and(|it| it.txn_id == id);
    let is_transaction = named.iter().any(is_its);
    named.retain(|row| !is_transaction || is_its(row));
    Ok((named, !is_transaction))
}

/// A click ID that is genuine.
pub fn parse_click(state: &AdminState, id: &str) -> Result<ClickId, ApiError> {
    state
        .keyring
        .verify(id.as_bytes())
        .map_err(|error| ApiError::bad_request("bad_click_id", error.to_string()))
}

async fn stored_click(
    state: &AdminState,
    id: ClickId,
    departed: &mut Departed,
) -> Result<Option<Click>, ApiError> {
    let Some(stored) = state.store.click(id.record()).await? else { return Ok(None) };
    let (offer, affiliate) = affiliates::of_click(state, id.record(), departed).await?;
    Ok(Some(Click::of(id, &stored, offer, affiliate)?))
}
