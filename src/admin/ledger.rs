//! Money: `GET /api/v1/balances`, `/ledger`, `/ledger/proofs/{id}` and `/statements`.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::error::ApiError;
use super::server::AdminState;
use crate::click_id::RecordId;
use crate::ledger::{self, Proof, ProveError, Sealed, Statement};
use crate::limits::{PAGE_ROWS_MAX, STATEMENT_DAYS_MAX};
use crate::model::currency::Currency;
use crate::model::ids::AffiliateNumber;
use crate::model::money::Sum;
use crate::model::rate::Day;
use crate::store::keys::PostingKey;
use crate::store::postings::{Balances, Posting};
use crate::store::records::Balance;

const PAGE_ROWS_DEFAULT: usize = 100;

/// Whose money, and which part of it.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Wanted {
    /// The affiliate's ID; required.
    affiliate: Option<String>,
    /// Where the page before ended.
    cursor: Option<String>,
    /// Rows of a page.
    limit: Option<usize>,
    /// First day of a statement, such as 2027-01-01.
    from: Option<String>,
    /// The day after its last.
    to: Option<String>,
    /// `json` or `csv`.
    format: Option<String>,
}

/// The three accounts, as the ledger has them: debits are positive.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LedgerAccounts)]
struct Accounts {
    advertiser_receivable: String,
    affiliate_payable: String,
    network_margin: String,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Balance)]
struct BalanceShape {
    currency: String,
    owed: String,
    postings: u64,
    accounts: Accounts,
}

/// An affiliate's balances.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Balances)]
pub struct BalancesShape {
    affiliate: String,
    affiliate_number: u32,
    balances: Vec<BalanceShape>,
    newest_seal: Option<Sealed>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Posting)]
struct PostingShape {
    day: String,
    conversion_id: String,
    step: u16,
    currency: String,
    entries: Accounts,
}

/// A page of postings.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Postings)]
pub struct Postings {
    items: Vec<PostingShape>,
    next_cursor: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CurrencyAmount)]
struct Amount {
    currency: String,
    amount: String,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = StatementLine)]
struct LineShape {
    day: String,
    currency: String,
    postings: u64,
    amount: String,
    balance: String,
    sealed: bool,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Statement)]
struct StatementShape {
    affiliate: String,
    from: String,
    to: String,
    opening: Vec<Amount>,
    lines: Vec<LineShape>,
    closing: Vec<Amount>,
}

type WantedQuery = Result<Query<Wanted>, QueryRejection>;

/// What an affiliate's accounts hold now.
#[utoipa::path(
    get, path = "/balances", operation_id = "get_balances", tag = "money",
    params(Wanted),
    responses((status = 200, description = "The balances.", body = BalancesShape)),
)]
pub async fn balances(
    State(state): State<Arc<AdminState>>,
    wanted: WantedQuery,
) -> Result<Json<BalancesShape>, ApiError> {
    let wanted = understood(wanted)?;
    let (affiliate, number) = affiliate(&state, &wanted).await?;
    let (balances, newest_seal) = ledger::balances(&state.store, number).await?;
    let shape = |balance: &Balance| BalanceShape {
        currency: code(balance.currency),
        owed: text(balance.payable.wrapping_neg(), balance.currency),
        postings: balance.postings,
        accounts: accounts(balance),
    };
    Ok(Json(BalancesShape {
        affiliate,
        affiliate_number: number.get(),
        balances: balances.iter().map(shape).collect(),
        newest_seal,
    }))
}

/// A page of an affiliate's postings, oldest day first.
#[utoipa::path(
    get, path = "/ledger", operation_id = "list_postings", tag = "money",
    params(Wanted),
    responses((status = 200, description = "A page.", body = Postings)),
)]
pub async fn postings(
    State(state): State<Arc<AdminState>>,
    wanted: WantedQuery,
) -> Result<Json<Postings>, ApiError> {
    let wanted = understood(wanted)?;
    let (_, number) = affiliate(&state, &wanted).await?;
    let limit = wanted.limit.unwrap_or(PAGE_ROWS_DEFAULT);
    if !(1..=PAGE_ROWS_MAX).contains(&limit) {
        return Err(ApiError::bad_request("bad_limit", format!("limit is 1 to {PAGE_ROWS_MAX}")));
    }
    let not_a_cursor = || ApiError::bad_request("bad_cursor", "not a cursor");
    let cursor = wanted.cursor.as_deref().map(|text| cursor(number, text).ok_or_else(not_a_cursor));
    let page = ledger::page(&state.store, number, cursor.transpose()?, limit).await?;
    let next = page.last().filter(|_| page.len() == limit);
    Ok(Json(Postings {
        items: page.iter().map(posting).collect(),
        next_cursor: next.map(|last| cursor_text(&last.key)),
    }))
}

/// Proves that a conversion's postings are in the ledger.
#[utoipa::path(
    get, path = "/ledger/proofs/{id}", operation_id = "get_proof", tag = "money",
    params(("id" = String, Path, description = "A conversion.")),
    responses((status = 200, description = "The proof; see docs/ledger.md.", body = serde_json::Value)),
)]
pub async fn proof(
    State(state): State<Arc<AdminState>>,
    Path(id): Path<String>,
) -> Result<Json<Proof>, ApiError> {
    let wrong = || ApiError::bad_request("bad_conversion_id", "not a conversion ID");
    let id = RecordId::parse(id.as_bytes()).ok_or_else(wrong)?;
    let permit = Arc::clone(&state.proofs).try_acquire_owned();
    let permit = permit.map_err(|_| ApiError::proofs_busy())?;
    let prove = move || {
        let proof = ledger::prove(&state.store.view(), id);
        drop(permit);
        proof
    };
    let proof = tokio::task::spawn_blocking(prove).await.map_err(ApiError::work_failed)?;
    Ok(Json(proof.map_err(|error| match error {
        ProveError::NoConversion => ApiError::not_found("no such conversion"),
        ProveError::Read(error) => error.into(),
        ProveError::Key(_) | ProveError::Missing(_) => ApiError::work_failed(error),
    })?))
}

/// What an affiliate has earned in some days.
#[utoipa::path(
    get, path = "/statements", operation_id = "get_statement", tag = "money",
    params(Wanted),
    responses((
        status = 200, description = "The statement.",
        content((StatementShape = "application/json"), (String = "text/csv")),
    )),
)]
pub async fn statement(
    State(state): State<Arc<AdminState>>,
    wanted: WantedQuery,
) -> Result<Response, ApiError> {
    let wanted = understood(wanted)?;
    let (affiliate, number) = affiliate(&state, &wanted).await?;
    let (from, to) = (day("from", wanted.from.as_deref())?, day("to", wanted.to.as_deref())?);
    if from >= to || to.get() - from.get() > STATEMENT_DAYS_MAX {
        let message = format!("to is 1 to {STATEMENT_DAYS_MAX} days after from");
        return Err(ApiError::bad_request("bad_range", message));
    }
    let statement = ledger::statement(&state.store, number, from..to).await?;
    match wanted.format.as_deref() {
        None | Some("json") => Ok(Json(StatementShape {
            affiliate,
            from: from.to_string(),
            to: to.to_string(),
            opening: amounts(&statement.opening),
            lines: lines(&statement),
            closing: amounts(&statement.closing),
        })
        .into_response()),
        Some("csv") => {
            let kind = [(CONTENT_TYPE, "text/csv; charset=utf-8")];
            Ok((kind, csv(&statement, from, to)).into_response())
        }
        Some(_) => Err(ApiError::bad_request("bad_format", "json or csv")),
    }
}

fn understood(wanted: WantedQuery) -> Result<Wanted, ApiError> {
    let Query(wanted) =
        wanted.map_err(|error| ApiError::bad_request("bad_parameter", error.body_text()))?;
    Ok(wanted)
}

async fn affiliate(
    state: &AdminState,
    wanted: &Wanted,
) -> Result<(String, AffiliateNumber), ApiError> {
    let missing = || ApiError::bad_request("missing_affiliate", "say whose: affiliate=ID");
    let id = wanted.affiliate.clone().ok_or_else(missing)?;
    let looked_for = id.clone();
    let filed_below = state.store.filed_below();
    let number =
        state.store.read_view(filed_below, move |view| view.affiliate_number(&looked_for)).await?;
    let number = number.map_err(crate::store::ReadError::from)?;
    let unknown = || ApiError::not_found("there was never an affiliate with this ID");
    Ok((id, number.ok_or_else(unknown)?))
}

fn day(name: &str, text: Option<&str>) -> Result<Day, ApiError> {
    let what = || ApiError::bad_request("bad_date", format!("{name} is a day such as 2027-01-31"));
    text.and_then(Day::parse).ok_or_else(what)
}

/// `day.conversion.step`, which names a place in the ledger beside the affiliate.
fn cursor_text(key: &PostingKey) -> String {
    format!("{}.{}.{}", key.day.get(), key.conversion.to_text(), key.step)
}

fn cursor(affiliate: AffiliateNumber, text: &str) -> Option<PostingKey> {
    let mut parts = text.splitn(3, '.');
    let day = Day::new(parts.next()?.parse().ok()?);
    let conversion = RecordId::parse(parts.next()?.as_bytes())?;
    Some(PostingKey { affiliate, day, conversion, step: parts.next()?.parse().ok()? })
}

fn posting(posting: &Posting) -> PostingShape {
    let mut balances = Balances::default();
    balances.add(&posting.record);
    PostingShape {
        day: posting.key.day.to_string(),
        conversion_id: posting.key.conversion.to_text().to_string(),
        step: posting.key.step,
        currency: code(posting.record.currency),
        entries: accounts(&balances.of(posting.record.currency)),
    }
}

fn accounts(balance: &Balance) -> Accounts {
    Accounts {
        advertiser_receivable: text(balance.receivable, balance.currency),
        affiliate_payable: text(balance.payable, balance.currency),
        network_margin: text(balance.margin, balance.currency),
    }
}

fn amounts(balances: &Balances) -> Vec<Amount> {
    let amount = |balance: &Balance| Amount {
        currency: code(balance.currency),
        amount: text(balance.payable.wrapping_neg(), balance.currency),
    };
    balances.iter().map(amount).collect()
}

/// A statement's days by currency, each with what the affiliate was owed at its end.
fn lines(statement: &Statement) -> Vec<LineShape> {
    let mut running = statement.opening.clone();
    let mut lines = Vec::new();
    for line in &statement.lines {
        running.add_all(&line.posted);
        lines.extend(line.posted.iter().map(|posted| LineShape {
            day: line.day.to_string(),
            currency: code(posted.currency),
            postings: posted.postings,
            amount: text(posted.payable.wrapping_neg(), posted.currency),
            balance: text(running.of(posted.currency).payable.wrapping_neg(), posted.currency),
            sealed: line.sealed,
        }));
    }
    lines
}

fn csv(statement: &Statement, from: Day, to: Day) -> String {
    let mut out = "kind,day,currency,postings,amount,balance,sealed\n".to_owned();
    let bound = |out: &mut String, kind: &str, day: Day, balances: &Balances| {
        for Amount { currency, amount } in amounts(balances) {
            let _ = writeln!(out, "{kind},{day},{currency},,,{amount},");
        }
    };
    bound(&mut out, "opening", from, &statement.opening);
    for LineShape { day, currency, postings, amount, balance, sealed } in lines(statement) {
        let _ = writeln!(out, "posted,{day},{currency},{postings},{amount},{balance},{sealed}");
    }
    bound(&mut out, "closing", to, &statement.closing);
    out
}

fn code(currency: [u8; 3]) -> String {
    String::from_utf8_lossy(&currency).into_owned()
}

/// An amount with its currency's decimals.
fn text(micros: i128, currency: [u8; 3]) -> String {
    let currency = Currency::from_bytes(currency).unwrap_or(Currency::USD);
    Sum::new(micros).display(currency).to_string()
}
