//! What the store says of claims that memory does not know.

use super::cache::{Known, Original};
use super::repeats::{ClaimError, Receipt, Repeats};
use crate::click_id::RecordId;
use crate::model::status::Status;
use crate::store::Store;
use crate::store::claim::Claim;

/// The conversion that holds a claim in the store, and whether the text of which the claim is made
/// was erased from it. `named` is the one that memory has for the claim, which may not be filed yet,
/// or not be the newest any more.
pub async fn stored(
    store: &Store,
    claim: &Claim<'_>,
    named: Option<RecordId>,
    receipt: Receipt<'_>,
) -> Result<Option<(Known, bool)>, ClaimError> {
    let repeats = claim.repeats_after_ms();
    if let Some(window_ms) = repeats.filter(|_| receipt.is_past()) {
        let repeats = Repeats::look_up(store, claim, window_ms, receipt).await?;
        return Ok(repeats.same.map(|same| (same, false)));
    }
    // What warming has read may be older than what was filed since.
    let newest = store.find_claim(claim).await?.max(named);
    let Some(conversion) = newest else { return Ok(None) };
    store.health().unless_poisoned()?;
    // None is received after it is minted: this one is over, and so is every older one.
    if !claim.is_held(conversion, receipt.ms()) {
        return Ok(None);
    }
    if claim.is_soft() {
        // It outlives its conversion, and nobody asks for that one's status.
        let original = Original { conversion, status: Status::Pending };
        return Ok(Some((Known { original, is_from_log: false }, false)));
    }
    // One commit wrote both: a claim without its conversion has outlived it, and is as expired.
    let Some(stored) = store.conversion(conversion).await? else { return Ok(None) };
    let record = stored.record()?;
    let is_from_log = record.is_from_log();
    if let Some(window_ms) = repeats.filter(|_| is_from_log)
        && receipt.ms() >= record.received_ms.saturating_add(window_ms)
    {
        // It hides those that were received after it.
        let repeats = Repeats::look_up(store, claim, window_ms, receipt).await?;
        return Ok(repeats.same.map(|same| (same, false)));
    }
    let status = record.status().unwrap_or(Status::Pending);
    let known = Known { original: Original { conversion, status }, is_from_log };
    Ok(Some((known, record.is_erased() && claim.is_of_text())))
}
