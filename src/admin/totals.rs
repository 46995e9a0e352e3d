//! `GET /api/v1/totals`: what conversions have earned, in the network's currency.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::conversions::{Filters, Selection, selection};
use super::error::ApiError;
use super::question::InQuery;
use super::server::AdminState;
use super::summing::Summing;
use crate::fraud::Worth;
use crate::model::currency::Currency;
use crate::model::money::Sum;
use crate::store::records::{ConversionRecord, RecordError};

/// Sums of conversions in their own currency.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CurrencyTotals)]
struct OwnShape {
    currency: String,
    conversions: u64,
    revenue: String,
    payout: String,
    margin: String,
}

/// Sums over the conversions that one request looks at.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Totals)]
pub struct Shape {
    /// The network's.
    currency: String,
    /// How many were looked at.
    conversions: u64,
    /// Those of them that are not in the sums, or not with all that they earn, for want of a rate.
    unpriced: u64,
    revenue: String,
    payout: String,
    /// Revenue less payout.
    margin: String,
    /// The same conversions, each in its own currency.
    by_currency: Vec<OwnShape>,
    /// Those of them that are not in the sums, in their own currency, as far as they are known.
    not_converted: Vec<OwnShape>,
    /// Where to go on; `null` if there is no more to add.
    next_cursor: Option<String>,
}

#[derive(Default)]
struct Totals {
    conversions: u64,
    unpriced: u64,
    base: Worth,
    by_currency: BTreeMap<[u8; 3], Worth>,
    not_converted: BTreeMap<[u8; 3], Worth>,
}

/// Sums of conversions in the network's currency, by the filters of the listing.
#[utoipa::path(
    get, path = "/totals", operation_id = "get_totals", tag = "money",
    params(Filters),
    responses((status = 200, description = "The sums.", body = Shape)),
)]
pub async fn totals(
    State(state): State<Arc<AdminState>>,
    InQuery(filters): InQuery<Filters>,
) -> Result<Json<Shape>, ApiError> {
    let Selection { minted_ms, cursor, limit, filter } = selection(&state, filters).await?;
    let base = state.rates.base();
    let (totals, sum) =
        Summing::new(filter, move |totals: &mut Totals, record| totals.add(record, base));
    let page = state.store.conversions(minted_ms.start, minted_ms.end, cursor, limit, sum).await?;
    let totals = totals.end()?;
    let text = |sum: Sum| sum.display(base).to_string();
    Ok(Json(Shape {
        currency: base.to_string(),
        conversions: totals.conversions,
        unpriced: totals.unpriced,
        revenue: text(totals.base.revenue),
        payout: text(totals.base.payout),
        margin: text(totals.base.revenue.less(totals.base.payout)),
        by_currency: own(&totals.by_currency)?,
        not_converted: own(&totals.not_converted)?,
        next_cursor: page.next.map(|last| last.to_text().to_string()),
    }))
}

fn own(sums: &BTreeMap<[u8; 3], Worth>) -> Result<Vec<OwnShape>, RecordError> {
    let shape = |(currency, sums): (&[u8; 3], &Worth)| {
        let currency = Currency::from_bytes(*currency).ok_or(RecordError::Corrupt)?;
        let text = |sum: Sum| sum.display(currency).to_string();
        Ok(OwnShape {
            currency: currency.to_string(),
            conversions: sums.conversions,
            revenue: text(sums.revenue),
            payout: text(sums.payout),
            margin: text(sums.revenue.less(sums.payout)),
        })
    };
    sums.iter().map(shape).collect()
}

impl Totals {
    fn add(&mut self, record: &ConversionRecord<'_>, base: Currency) {
        self.conversions += 1;
        let (earned, currency) = (record.earned(), record.currency);
        self.by_currency.entry(currency).or_default().add(earned.revenue, earned.payout);
        let in_base = record.earned_in(base.to_bytes());
        self.unpriced += u64::from(in_base.is_none() || record.waits_for_rate());
        match in_base {
            Some((revenue, payout)) => self.base.add(revenue, payout),
            None => {
                let sums = self.not_converted.entry(currency).or_default();
                sums.add(earned.revenue, earned.payout);
            }
        }
    }
}
