//! `GET /api/v1/fraud`: what fraud rules have hit, and what it is worth.

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
use crate::fraud::{Outcomes, Report, Row, Worth};
use crate::limits::FRAUD_REPORT_TURNS_MAX;
use crate::model::currency::{Currency, code_text};

/// What fraud rules have hit.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = FraudReport)]
pub struct Shape {
    /// How many conversions were looked at.
    conversions: u64,
    /// By currency, each conversion once however many rules have hit it.
    totals: Vec<TotalShape>,
    /// By rule, offer and currency.
    rules: Vec<RowShape>,
    /// What would have needed further rows.
    left_out: u64,
    /// Where to go on; `null` if there is no more to add.
    next_cursor: Option<String>,
}

/// What any rule has hit.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = FraudTotal)]
struct TotalShape {
    currency: String,
    /// Only flagged, and pending or approved: what `reject` would have rejected.
    would_reject: WorthShape,
    /// Rejected by a rule.
    rejected: WorthShape,
    /// Rejected by a rule, approved since.
    reinstated: WorthShape,
    /// Only flagged, and rejected or reversed all the same.
    confirmed: WorthShape,
}

/// What one rule has hit.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = FraudRow)]
struct RowShape {
    /// The flag's word.
    rule: &'static str,
    offer: String,
    currency: String,
    /// As in the totals.
    would_reject: WorthShape,
    /// As in the totals.
    rejected: WorthShape,
    /// As in the totals.
    reinstated: WorthShape,
    /// As in the totals.
    confirmed: WorthShape,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = FraudWorth)]
struct WorthShape {
    conversions: u64,
    revenue: String,
    payout: String,
}

/// What fraud rules have hit and what it is worth, by the filters of the listing.
#[utoipa::path(
    get, path = "/fraud", operation_id = "get_fraud", tag = "money",
    params(Filters),
    responses((status = 200, description = "The sums.", body = Shape)),
)]
pub async fn report(
    State(state): State<Arc<AdminState>>,
    InQuery(filters): InQuery<Filters>,
) -> Result<Json<Shape>, ApiError> {
    let Selection { minted_ms, mut cursor, filter, .. } = selection(&state, filters).await?;
    // Each looks through many conversions on the readers' threads: one after the other.
    let _turn = state.fraud_reports.acquire().await.map_err(ApiError::work_failed)?;
    let (report, sum) = Summing::new(filter, Report::add);
    for _ in 0..FRAUD_REPORT_TURNS_MAX {
        let (from, to) = (minted_ms.start, minted_ms.end);
        let page = state.store.conversions(from, to, cursor, 1, sum.clone()).await?;
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    let report = report.end()?;
    Ok(Json(Shape {
        conversions: report.conversions,
        totals: report.totals().map(|(currency, sums)| total(currency, &sums)).collect(),
        rules: report.rows().map(|row| shape(&row)).collect(),
        left_out: report.left_out,
        next_cursor: cursor.map(|last| last.to_text().to_string()),
    }))
}

fn total(currency: [u8; 3], sums: &Outcomes) -> TotalShape {
    TotalShape {
        currency: code_text(currency),
        would_reject: worth(&sums.would_reject, currency),
        rejected: worth(&sums.rejected, currency),
        reinstated: worth(&sums.reinstated, currency),
        confirmed: worth(&sums.confirmed, currency),
    }
}

fn shape(row: &Row<'_>) -> RowShape {
    let TotalShape { currency, would_reject, rejected, reinstated, confirmed } =
        total(row.currency, &row.outcomes);
    RowShape {
        rule: row.rule.as_str(),
        offer: row.offer.to_owned(),
        currency,
        would_reject,
        rejected,
        reinstated,
        confirmed,
    }
}

fn worth(worth: &Worth, currency: [u8; 3]) -> WorthShape {
    let currency = Currency::to_show(currency);
    WorthShape {
        conversions: worth.conversions,
        revenue: worth.revenue.display(currency).to_string(),
        payout: worth.payout.display(currency).to_string(),
    }
}
