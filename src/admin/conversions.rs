//! `GET /api/v1/conversions`: a page of conversions, filtered, oldest first.

use std::ops::Range;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::affiliates::{self, Names};
use super::error::ApiError;
use super::question::{InQuery, Moment, cursor, millis, page_rows};
use super::server::AdminState;
use super::shapes::Conversion;
use crate::click_id::RecordId;
use crate::model::status::Status;
use crate::store::records::ConversionRecord;

/// The filters; each narrows further.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Filters {
    /// Minted at or after this time; a date alone begins in UTC.
    #[param(value_type = Option<String>, format = DateTime)]
    from: Option<Moment>,
    /// Minted before this time.
    #[param(value_type = Option<String>, format = DateTime)]
    to: Option<Moment>,
    /// An offer's ID.
    offer: Option<String>,
    /// An affiliate's ID.
    affiliate: Option<String>,
    /// An event's ID.
    event: Option<String>,
    /// `pending`, `approved`, `rejected` or `reversed`.
    status: Option<String>,
    /// The advertiser's ID of the conversion.
    txn_id: Option<String>,
    /// The advertiser's ID of the person.
    customer_id: Option<String>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// Rows of a page, 1 to 1000; 100 if absent.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
}

/// A page.
#[derive(Debug, Serialize, ToSchema)]
pub struct Listing {
    items: Vec<Conversion>,
    /// Where the next page begins; `null` on the last.
    next_cursor: Option<String>,
}

/// The filters, understood.
pub struct Selection {
    /// Minted in this range, Unix milliseconds, its end excluded.
    pub minted_ms: Range<u64>,
    /// Where the last page ended.
    pub cursor: Option<RecordId>,
    /// How many rows a page has.
    pub limit: usize,
    /// What a row must be like.
    pub filter: Box<dyn Fn(&ConversionRecord<'_>) -> bool + Send + Sync>,
}

/// Reads the filters.
///
/// # Errors
/// The first that is not understood.
pub async fn selection(state: &AdminState, filters: Filters) -> Result<Selection, ApiError> {
    let limit = page_rows(filters.limit)?;
    let read_cursor = |text: &str| RecordId::parse(text.as_bytes());
    let cursor = cursor(filters.cursor.as_deref(), read_cursor)?;
    let status = filters.status.as_deref().map(|word| {
        Status::parse(word).ok_or_else(|| {
            ApiError::bad_request("bad_status", "pending, approved, rejected or reversed")
        })
    });
    let status = status.transpose()?;
    let minted_ms = filters.from.map_or(0, millis)..filters.to.map_or(u64::MAX, millis);
    // By the number: one that was not in the catalog when it was counted has no other name.
    let affiliate = match &filters.affiliate {
        None => None,
        Some(id) => Some(affiliates::known(state, id).await?),
    };
    if let Some(id) = &filters.offer {
        affiliates::known_offer(state, id).await?;
    }
    let filter = move |record: &ConversionRecord<'_>| {
        let is = |wanted: &Option<String>, have: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted == have)
        };
        is(&filters.offer, record.offer)
            && affiliate.is_none_or(|wanted| wanted == record.affiliate_number())
            && is(&filters.event, record.event)
            && is(&filters.txn_id, record.txn_id)
            && is(&filters.customer_id, record.customer_id)
            && status.is_none_or(|status| record.status() == Some(status))
    };
    Ok(Selection { minted_ms, cursor, limit, filter: Box::new(filter) })
}

/// A page of conversions, oldest first.
#[utoipa::path(
    get, path = "/conversions", operation_id = "list_conversions", tag = "records",
    params(Filters),
    responses((status = 200, description = "A page.", body = Listing)),
)]
pub async fn list(
    State(state): State<Arc<AdminState>>,
    InQuery(filters): InQuery<Filters>,
) -> Result<Json<Listing>, ApiError> {
    let Selection { minted_ms, cursor, limit, filter } = selection(&state, filters).await?;
    let page = state
        .store
        // A record that does not decode is let through: the page then says that it is damaged.
        .conversions(
            minted_ms.start,
            minted_ms.end,
            cursor,
            limit,
            Arc::new(move |row| row.record().is_ok_and(|r| filter(&r)) || row.record().is_err()),
        )
        .await?;
    let names = Names::of_unnamed(&state, &page.rows).await?;
    let shape = |row| Conversion::of(row, &names);
    Ok(Json(Listing {
        items: page.rows.iter().map(shape).collect::<Result<_, _>>()?,
        next_cursor: page.next.map(|last| last.to_text().to_string()),
    }))
}
