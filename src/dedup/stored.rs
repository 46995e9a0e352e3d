//! What the store says of claims that memory does not know.

use super::cache::Original;
use crate::model::status::Status;
use crate::store::claim::Claim;
use crate::store::{ReadError, Store};

/// After a failed write or fsync, what was appended is still readable though it may be gone after
/// the restart: nobody may be told of it. The store is poisoned before such a claim is withdrawn,
/// so whoever takes the claim afterwards and reads sees the poison.
pub fn unless_poisoned(store: &Store) -> Result<(), ReadError> {
    match store.health().poison_reason() {
        Some(_) => Err(ReadError::Poisoned),
        None => Ok(()),
    }
}

/// The conversion that holds a claim in the store, and whether the text of which the claim is made
/// was erased from it.
pub async fn stored(
    store: &Store,
    claim: &Claim<'_>,
    now_ms: u64,
) -> Result<Option<(Original, bool)>, ReadError> {
    let Some(conversion) = store.find_claim(claim).await? else { return Ok(None) };
    unless_poisoned(store)?;
    if !claim.is_held(conversion, now_ms) {
        return Ok(None);
    }
    if claim.is_soft() {
        // It outlives its conversion, and nobody asks for that one's status.
        return Ok(Some((Original { conversion, status: Status::Pending }, false)));
    }
    // One commit wrote both: a claim without its conversion has outlived it, and is as expired.
    let Some(stored) = store.conversion(conversion).await? else { return Ok(None) };
    let record = stored.record()?;
    let status = record.status().unwrap_or(Status::Pending);
    Ok(Some((Original { conversion, status }, record.is_erased() && claim.is_of_text())))
}
