//! `GET /api/v1/totals`: what conversions have earned, in the network's currency.

use std::sync::{Arc, Mutex, PoisonError};

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use serde::Serialize;
use utoipa::ToSchema;

use super::conversions::{Filters, Selection, selection};
use super::error::ApiError;
use super::server::AdminState;
use crate::model::currency::Currency;
use crate::model::money::{Micros, Sum};
use crate::store::records::{ConversionRecord, RecordError};

/// Sums over the conversions that one request looks at.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Totals)]
pub struct Shape {
    /// The network's.
    currency: String,
    /// How many were looked at.
    conversions: u64,
    /// Those of them that are not in the sums, for want of a rate.
    unpriced: u64,
    revenue: String,
    payout: String,
    /// Revenue less payout.
    margin: String,
    /// Where to go on; `null` if there is no more to add.
    next_cursor: Option<String>,
}

#[derive(Clone, Copy, Default)]
struct Totals {
    conversions: u64,
    unpriced: u64,
    revenue: Sum,
    payout: Sum,
    damaged: Option<RecordError>,
}

/// Sums of conversions in the network's currency, by the filters of the listing.
#[utoipa::path(
    get, path = "/totals", operation_id = "get_totals", tag = "money",
    params(Filters),
    responses((status = 200, description = "The sums.", body = Shape)),
)]
pub async fn totals(
    State(state): State<Arc<AdminState>>,
    filters: Result<Query<Filters>, QueryRejection>,
) -> Result<Json<Shape>, ApiError> {
    let Selection { minted_ms, cursor, limit, filter } = selection(filters)?;
    let base = state.rates.base();
    let totals = Arc::new(Mutex::new(Totals::default()));
    let shared = Arc::clone(&totals);
    // Each row is summed where it lies and none is let through, so that no page fills up.
    let sum = Arc::new(move |row: &crate::store::StoredConversion| {
        let mut totals = shared.lock().unwrap_or_else(PoisonError::into_inner);
        match row.record() {
            Ok(record) if filter(&record) => totals.add(&record, base),
            Ok(_) => {}
            Err(error) => totals.damaged = Some(error),
        }
        false
    });
    let page = state.store.conversions(minted_ms.start, minted_ms.end, cursor, limit, sum).await?;
    let totals = *totals.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(error) = totals.damaged {
        return Err(error.into());
    }
    let text = |sum: Sum| sum.display(base).to_string();
    Ok(Json(Shape {
        currency: base.to_string(),
        conversions: totals.conversions,
        unpriced: totals.unpriced,
        revenue: text(totals.revenue),
        payout: text(totals.payout),
        margin: text(totals.revenue.less(totals.payout)),
        next_cursor: page.next.map(|last| last.to_text().to_string()),
    }))
}

impl Totals {
    fn add(&mut self, record: &ConversionRecord<'_>, base: Currency) {
        self.conversions += 1;
        match record.earned_in(base.to_bytes()) {
            Some((revenue, payout)) => {
                self.revenue.add(Micros::new(revenue));
                self.payout.add(Micros::new(payout));
            }
            None => self.unpriced += 1,
        }
    }
}
