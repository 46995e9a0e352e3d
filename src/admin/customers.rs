//! What a customer is bound to, and what it did.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use super::affiliates::{self, Departed, Names, known_advertiser};
use super::error::ApiError;
use super::question::InPath;
use super::server::AdminState;
use super::shapes::{Conversion, Customer, rfc3339};
use crate::dedup::{Claim, CustomerWindows};
use crate::limits::{TRACE_CONVERSIONS_MAX, TXN_ID_BYTES_MAX};
use crate::model::ids::ID_BYTES_MAX;

/// An advertiser's customer: the click it is bound to, and its conversions.
#[utoipa::path(
    get, path = "/customers/{advertiser}/{customer_id}", operation_id = "get_customer",
    tag = "records",
    params(
        ("advertiser" = String, Path, description = "An advertiser's ID."),
        ("customer_id" = String, Path, description = "The advertiser's own ID of the customer."),
    ),
    responses((status = 200, description = "The customer.", body = Customer)),
)]
pub async fn customer(
    State(state): State<Arc<AdminState>>,
    InPath((advertiser, customer_id)): InPath<(String, String)>,
) -> Result<Json<Customer>, ApiError> {
    let unknown = || ApiError::not_found("the advertiser has no such customer");
    if advertiser.len() > ID_BYTES_MAX || customer_id.len() > TXN_ID_BYTES_MAX {
        return Err(unknown());
    }
    let (advertiser, customer_id) = (&*advertiser, &*customer_id);
    let (catalog, now_ms) = (state.catalog.load_full(), state.clock.now_ms());
    let claim = Claim::Customer { advertiser, customer_id, windows: Some(&*catalog) };
    let binding = state.dedup.binding(&state.store, &claim, now_ms).await?;
    let limit = TRACE_CONVERSIONS_MAX;
    let conversions = state.store.conversions_of_customers([claim].into_iter(), limit).await?.rows;
    if binding.is_none() && conversions.is_empty() {
        known_advertiser(&state, advertiser).await?;
        return Err(unknown());
    }
    let bound_ms = binding.map(|binding| binding.conversion.time_ms());
    let window_ms =
        binding.and_then(|binding| catalog.customer_window_ms(binding.conversion.offer()));
    let until = bound_ms.zip(window_ms).map(|(from, window)| from.saturating_add(window));
    let click = binding.map(|binding| binding.click);
    let (offer, affiliate) = match click {
        Some(click) => affiliates::of_click(&state, click, &mut Departed::default()).await?,
        None => (None, None),
    };
    let names = Names::of_unnamed(&state, &conversions).await?;
    let shape = |row| Conversion::of(row, &names);
    Ok(Json(Customer {
        advertiser: advertiser.to_owned(),
        customer_id: customer_id.to_owned(),
        click_id: click.map(|click| state.keyring.sign(click).to_text().to_string()),
        conversion_id: binding.map(|binding| binding.conversion.to_text().to_string()),
        offer,
        affiliate,
        since: bound_ms.map(rfc3339),
        until: until.map(rfc3339),
        conversions: conversions.iter().map(shape).collect::<Result<_, _>>()?,
    }))
}
