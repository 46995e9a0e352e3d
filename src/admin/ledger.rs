//! Money: `GET /api/v1/balances`, `/ledger` and `/ledger/proofs/{id}`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::affiliates;
use super::error::ApiError;
use super::held::place;
use super::question::{self, InPath, InQuery, page_rows};
use super::server::AdminState;
use crate::click_id::RecordId;
use crate::ledger::{self, Proof, ProveError, Sealed};
use crate::model::currency::{Currency, code_text};
use crate::model::ids::AffiliateNumber;
use crate::model::money::Sum;
use crate::model::period::Day;
use crate::store::keys::PostingKey;
use crate::store::postings::Posting;
use crate::store::records::{Balance, Converted, Entries};

/// Whose balances.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct WhoseBalances {
    /// The affiliate's ID; required.
    affiliate: Option<String>,
}

/// Whose postings, and which of them.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct WhosePostings {
    /// The affiliate's ID; required.
    affiliate: Option<String>,
    /// Where the page before ended.
    cursor: Option<String>,
    /// Rows of a page.
    limit: Option<usize>,
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
    base: TotalShape,
    newest_seal: Option<Sealed>,
}

/// Balances in the network's currency.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TotalBalance)]
struct TotalShape {
    currency: String,
    owed: String,
    accounts: Accounts,
    /// What is not in it for want of a rate, by currency.
    not_converted: Vec<BalanceShape>,
}

/// A posting, as the API shows it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Posting)]
pub struct PostingShape {
    day: String,
    conversion_id: String,
    step: u16,
    currency: String,
    entries: Accounts,
    converted: Vec<ConvertedShape>,
}

/// What a posting converts to the network's currency.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Converted)]
struct ConvertedShape {
    base: String,
    /// Postings of the conversion that are converted with this one, itself among them.
    postings: i64,
    /// What they have posted.
    own: Accounts,
    /// What that is in the network's currency.
    worth: Accounts,
}

/// A page of postings.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Postings)]
pub struct Postings {
    items: Vec<PostingShape>,
    next_cursor: Option<String>,
}

/// What an affiliate's accounts hold now.
#[utoipa::path(
    get, path = "/balances", operation_id = "get_balances", tag = "money",
    params(WhoseBalances),
    responses((status = 200, description = "The balances.", body = BalancesShape)),
)]
pub async fn balances(
    State(state): State<Arc<AdminState>>,
    InQuery(wanted): InQuery<WhoseBalances>,
) -> Result<Json<BalancesShape>, ApiError> {
    let (affiliate, number) = affiliate(&state, wanted.affiliate).await?;
    let (balances, newest_seal) = ledger::balances(&state.store, number).await?;
    let base = state.rates.base().to_bytes();
    let total = balances.total(base);
    Ok(Json(BalancesShape {
        affiliate,
        affiliate_number: number.get(),
        balances: balances.iter().map(balance).collect(),
        base: TotalShape {
            currency: code_text(base),
            owed: text(total.entries.owed(), base),
            accounts: accounts(total.entries, base),
            not_converted: total.not_converted.iter().map(balance).collect(),
        },
        newest_seal,
    }))
}

/// A page of an affiliate's postings, oldest day first.
#[utoipa::path(
    get, path = "/ledger", operation_id = "list_postings", tag = "money",
    params(WhosePostings),
    responses((status = 200, description = "A page.", body = Postings)),
)]
pub async fn postings(
    State(state): State<Arc<AdminState>>,
    InQuery(wanted): InQuery<WhosePostings>,
) -> Result<Json<Postings>, ApiError> {
    let (_, number) = affiliate(&state, wanted.affiliate).await?;
    let limit = page_rows(wanted.limit)?;
    let cursor = question::cursor(wanted.cursor.as_deref(), |text| cursor(number, text))?;
    let page = ledger::page(&state.store, number, cursor, limit).await?;
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
    InPath(id): InPath<String>,
) -> Result<Json<Proof>, ApiError> {
    let wrong = || ApiError::bad_request("bad_conversion_id", "not a conversion ID");
    let id = RecordId::parse(id.as_bytes()).ok_or_else(wrong)?;
    let permit = place(&state.proofs, ApiError::proofs_busy)?;
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

/// Whose money is asked for.
pub async fn affiliate(
    state: &AdminState,
    id: Option<String>,
) -> Result<(String, AffiliateNumber), ApiError> {
    let missing = || ApiError::bad_request("missing_affiliate", "say whose: affiliate=ID");
    let id = id.ok_or_else(missing)?;
    let number = affiliates::known(state, &id).await?;
    Ok((id, number))
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

fn balance(balance: &Balance) -> BalanceShape {
    BalanceShape {
        currency: code_text(balance.currency),
        owed: text(balance.entries.owed(), balance.currency),
        postings: balance.postings,
        accounts: accounts(balance.entries, balance.currency),
    }
}

/// The shape of a posting.
pub fn posting(posting: &Posting) -> PostingShape {
    let currency = posting.record.currency;
    let converted = |converted: &Converted| ConvertedShape {
        base: code_text(converted.base),
        postings: converted.postings,
        own: accounts(converted.own, currency),
        worth: accounts(converted.worth, converted.base),
    };
    PostingShape {
        day: posting.key.day.to_string(),
        conversion_id: posting.key.conversion.to_text().to_string(),
        step: posting.key.step,
        currency: code_text(currency),
        entries: accounts(posting.record.entries, currency),
        converted: posting.record.converted.iter().map(converted).collect(),
    }
}

fn accounts(entries: Entries, currency: [u8; 3]) -> Accounts {
    Accounts {
        advertiser_receivable: text(entries.receivable, currency),
        affiliate_payable: text(entries.payable, currency),
        network_margin: text(entries.margin, currency),
    }
}

/// An amount with its currency's decimals.
pub fn text(micros: i128, currency: [u8; 3]) -> String {
    Sum::new(micros).display(Currency::to_show(currency)).to_string()
}
