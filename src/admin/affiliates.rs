//! Affiliates by ID and by number, and offers of clicks, in the catalog still or not.

use std::collections::HashMap;
use std::sync::Arc;

use super::error::ApiError;
use super::server::AdminState;
use crate::click_id::RecordId;
use crate::limits::REPROCESS_REST;
use crate::model::ids::AffiliateNumber;
use crate::store::engine::EngineError;
use crate::store::keys::Numbered;
use crate::store::records::InboundRow;
use crate::store::{InboundFilter, ReadError, StoredConversion};

/// The number of an affiliate that is asked for.
///
/// # Errors
/// When there was never one: a slip of the pen is not answered as if nothing had happened.
pub async fn known(state: &AdminState, id: &str) -> Result<AffiliateNumber, ApiError> {
    let (id, filed_below) = (id.to_owned(), state.store.filed_below());
    let number = state.store.read_view(filed_below, move |view| view.affiliate_number(&id)).await?;
    number.map_err(ReadError::from)?.ok_or_else(|| ApiError::never_was("an affiliate"))
}

/// Refuses an offer that was never in the catalog.
pub async fn known_offer(state: &AdminState, id: &str) -> Result<(), ApiError> {
    let (id, filed_below) = (id.to_owned(), state.store.filed_below());
    let number = state.store.read_view(filed_below, move |view| view.offer_number(&id)).await?;
    number.map_err(ReadError::from)?.map(|_| ()).ok_or_else(|| ApiError::never_was("an offer"))
}

/// Whether an advertiser is in the catalog, has or had an offer, or is named by one of the newest
/// postbacks of the log: no other is kept.
pub async fn is_known_advertiser(state: &AdminState, id: &str) -> Result<bool, ApiError> {
    if state.catalog.load().has_or_had_advertiser(id) {
        return Ok(true);
    }
    let wanted = id.to_owned();
    let is_its = move |row: &InboundRow<'_>| row.head.advertiser == wanted;
    Ok(!state.store.newest_inbound(1, Arc::new(is_its)).await?.rows.is_empty())
}

/// Whether any postback of the log names an advertiser, however old: all of it is looked through, as
/// it is for an erasure.
pub async fn is_in_log(state: &AdminState, id: &str) -> Result<bool, ApiError> {
    let wanted = id.to_owned();
    let is_its: InboundFilter = Arc::new(move |row: &InboundRow<'_>| row.head.advertiser == wanted);
    let mut after = None;
    loop {
        let page = state.store.inbound(0, u64::MAX, after, 1, Arc::clone(&is_its)).await?;
        after = page.next;
        if after.is_none() || !page.rows.is_empty() {
            return Ok(!page.rows.is_empty());
        }
        tokio::time::sleep(REPROCESS_REST).await;
    }
}

/// Refuses any other advertiser.
pub async fn known_advertiser(state: &AdminState, id: &str) -> Result<(), ApiError> {
    let is_known = is_known_advertiser(state, id).await?;
    if is_known { Ok(()) } else { Err(ApiError::never_was("an advertiser")) }
}

/// What has left the catalog and was looked up already: a trace has many clicks of one affiliate.
#[derive(Default)]
pub struct Departed(HashMap<(Numbered, u32), Option<String>>);

/// What a click's offer and affiliate are called; `None` where it has none.
pub async fn of_click(
    state: &AdminState,
    click: RecordId,
    departed: &mut Departed,
) -> Result<(Option<String>, Option<String>), ApiError> {
    let (offer, affiliate) = (click.offer(), click.affiliate());
    let catalog = state.catalog.load_full();
    let listed = catalog.offer_by_number(offer).map(|offer| offer.id.to_string());
    let offer = name(state, Numbered::Offer, offer.get(), listed, departed).await?;
    let listed = catalog.affiliate_by_number(affiliate).map(|affiliate| affiliate.id.to_string());
    Ok((offer, name(state, Numbered::Affiliate, affiliate.get(), listed, departed).await?))
}

async fn name(
    state: &AdminState,
    of: Numbered,
    number: u32,
    listed: Option<String>,
    departed: &mut Departed,
) -> Result<Option<String>, ApiError> {
    // Number 0 is nobody's.
    if listed.is_some() || number == 0 {
        return Ok(listed);
    }
    if let Some(known) = departed.0.get(&(of, number)) {
        return Ok(known.clone());
    }
    let name = named(state, of, HashMap::from([(number, None)])).await?.remove(&number).flatten();
    departed.0.insert((of, number), name.clone());
    Ok(name)
}

/// Says of numbers whose they are, or were.
async fn named(
    state: &AdminState,
    of: Numbered,
    mut names: HashMap<u32, Option<String>>,
) -> Result<HashMap<u32, Option<String>>, ApiError> {
    if names.is_empty() {
        return Ok(names);
    }
    let store = Arc::clone(&state.store);
    // All that ever had a number are walked over: nothing for the readers, whom postbacks need.
    let look = move || {
        store.view().names(of, &mut names)?;
        Ok::<_, EngineError>(names)
    };
    let names = tokio::task::spawn_blocking(look).await.map_err(ApiError::work_failed)?;
    Ok(names.map_err(ReadError::from)?)
}

/// What affiliates are called.
#[derive(Default)]
pub struct Names(HashMap<u32, Option<String>>);

impl Names {
    /// Of those whose numbers are given.
    pub async fn of(
        state: &AdminState,
        numbers: impl Iterator<Item = AffiliateNumber>,
    ) -> Result<Self, ApiError> {
        let names = numbers.map(|number| (number.get(), None)).collect();
        Ok(Self(named(state, Numbered::Affiliate, names).await?))
    }

    /// Of those that were not in the catalog when their conversions were counted: such a record
    /// has no name.
    pub async fn of_unnamed(
        state: &AdminState,
        conversions: &[StoredConversion],
    ) -> Result<Self, ApiError> {
        let unnamed = conversions.iter().filter_map(|it| it.record().ok());
        let unnamed = unnamed.filter(|record| record.affiliate.is_empty());
        Self::of(state, unnamed.map(|record| record.affiliate_number())).await
    }

    /// What one of them is called; `None` if the store does not know.
    pub fn get(&self, number: AffiliateNumber) -> Option<&str> {
        self.0.get(&number.get())?.as_deref()
    }
}
