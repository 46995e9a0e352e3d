//! `GET /api/v1/statements`: what an affiliate has earned in some days, line by line, in the
//! currencies of its conversions and in the network's.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::error::ApiError;
use super::ledger::{affiliate, text};
use super::question::InQuery;
use super::server::AdminState;
use crate::ledger::{self, Statement};
use crate::limits::STATEMENT_DAYS_MAX;
use crate::model::currency::code_text;
use crate::model::period::Day;
use crate::store::postings::Balances;
use crate::store::records::Balance;

/// Whose statement, and of which days.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Wanted {
    /// The affiliate's ID; required.
    affiliate: Option<String>,
    /// The first day, such as 2027-01-01; required.
    from: Option<String>,
    /// The day after the last; required.
    to: Option<String>,
    /// `json` or `csv`.
    format: Option<String>,
}

/// What an affiliate is owed in one currency at one end of a statement.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CurrencyAmount)]
struct Amount {
    currency: String,
    amount: String,
    /// What of it is in the network's currency, in that.
    base_amount: String,
    /// What of it is not, for want of a rate.
    not_converted: String,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = StatementLine)]
struct Line {
    day: String,
    currency: String,
    postings: u64,
    amount: String,
    balance: String,
    sealed: bool,
    /// What is owed more by this line, in the network's currency.
    base_amount: String,
    /// What is owed after this line, all currencies together, in the network's.
    base_balance: String,
    /// What this line adds to what is not converted for want of a rate, or takes from it.
    not_converted: String,
}

/// What is owed in the network's currency, all currencies together.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = StatementTotal)]
struct Total {
    currency: String,
    opening: String,
    closing: String,
    /// What is not in `closing` for want of a rate.
    not_converted: Vec<NotConverted>,
}

#[derive(Debug, Serialize, ToSchema)]
struct NotConverted {
    currency: String,
    postings: u64,
    amount: String,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Statement)]
struct Shape {
    affiliate: String,
    from: String,
    to: String,
    opening: Vec<Amount>,
    lines: Vec<Line>,
    closing: Vec<Amount>,
    base: Total,
}

/// What an affiliate has earned in some days.
#[utoipa::path(
    get, path = "/statements", operation_id = "get_statement", tag = "money",
    params(Wanted),
    responses((
        status = 200, description = "The statement.",
        content((Shape = "application/json"), (String = "text/csv")),
    )),
)]
pub async fn statement(
    State(state): State<Arc<AdminState>>,
    InQuery(wanted): InQuery<Wanted>,
) -> Result<Response, ApiError> {
    let (affiliate, number) = affiliate(&state, wanted.affiliate).await?;
    let (from, to) = (day("from", wanted.from.as_deref())?, day("to", wanted.to.as_deref())?);
    if from >= to || to.get() - from.get() > STATEMENT_DAYS_MAX {
        let message = format!("to is 1 to {STATEMENT_DAYS_MAX} days after from");
        return Err(ApiError::bad_request("bad_range", message));
    }
    let statement = ledger::statement(&state.store, number, from..to).await?;
    let base = state.rates.base().to_bytes();
    match wanted.format.as_deref() {
        None | Some("json") => {
            Ok(Json(shape(&statement, base, affiliate, from, to)).into_response())
        }
        Some("csv") => {
            let kind = [(CONTENT_TYPE, "text/csv; charset=utf-8")];
            let shape = shape(&statement, base, affiliate, from, to);
            Ok((kind, csv(&shape)).into_response())
        }
        Some(_) => Err(ApiError::bad_request("bad_format", "json or csv")),
    }
}

fn day(name: &str, text: Option<&str>) -> Result<Day, ApiError> {
    let what = || ApiError::bad_request("bad_date", format!("{name} is a day such as 2027-01-31"));
    text.and_then(Day::parse).ok_or_else(what)
}

fn shape(statement: &Statement, base: [u8; 3], affiliate: String, from: Day, to: Day) -> Shape {
    let closing = statement.closing.total(base);
    let not_converted = |rest: &Balance| NotConverted {
        currency: code_text(rest.currency),
        postings: rest.postings,
        amount: text(rest.entries.owed(), rest.currency),
    };
    Shape {
        affiliate,
        from: from.to_string(),
        to: to.to_string(),
        opening: amounts(&statement.opening, base),
        lines: lines(statement, base),
        closing: amounts(&statement.closing, base),
        base: Total {
            currency: code_text(base),
            opening: text(statement.opening.total(base).entries.owed(), base),
            closing: text(closing.entries.owed(), base),
            not_converted: closing.not_converted.iter().map(not_converted).collect(),
        },
    }
}

fn amounts(balances: &Balances, base: [u8; 3]) -> Vec<Amount> {
    let amount = |balance: &Balance| {
        let (worth, rest) = balances.in_base(balance.currency, base);
        Amount {
            currency: code_text(balance.currency),
            amount: text(balance.entries.owed(), balance.currency),
            base_amount: text(worth.owed(), base),
            not_converted: text(rest.entries.owed(), balance.currency),
        }
    };
    balances.iter().map(amount).collect()
}

/// A statement's days by currency, each with what the affiliate was owed at its end.
fn lines(statement: &Statement, base: [u8; 3]) -> Vec<Line> {
    let mut running = statement.opening.clone();
    let mut total = running.total(base).entries;
    let mut lines = Vec::new();
    for line in &statement.lines {
        running.add_all(&line.posted);
        for posted in line.posted.iter() {
            let currency = posted.currency;
            let (worth, rest) = line.posted.in_base(currency, base);
            total = total.plus(worth);
            lines.push(Line {
                day: line.day.to_string(),
                currency: code_text(currency),
                postings: posted.postings,
                amount: text(posted.entries.owed(), currency),
                balance: text(running.of(currency).entries.owed(), currency),
                sealed: line.sealed,
                base_amount: text(worth.owed(), base),
                base_balance: text(total.owed(), base),
                not_converted: text(rest.entries.owed(), currency),
            });
        }
    }
    lines
}

fn csv(statement: &Shape) -> String {
    let mut out = "kind,day,currency,postings,amount,balance,sealed,\
                   base_currency,base_amount,base_balance,not_converted\n"
        .to_owned();
    let base = &statement.base.currency;
    let bound = |out: &mut String, kind: &str, day: &str, amounts: &[Amount], total: &str| {
        for Amount { currency, amount, base_amount, not_converted } in amounts {
            let _ = writeln!(
                out,
                "{kind},{day},{currency},,,{amount},,{base},{base_amount},{total},{not_converted}"
            );
        }
    };
    let Shape { from, to, opening, closing, .. } = statement;
    bound(&mut out, "opening", from, opening, &statement.base.opening);
    for line in &statement.lines {
        let Line { day, currency, postings, amount, balance, sealed, .. } = line;
        let Line { base_amount, base_balance, not_converted, .. } = line;
        let _ = writeln!(
            out,
            "posted,{day},{currency},{postings},{amount},{balance},{sealed},\
             {base},{base_amount},{base_balance},{not_converted}"
        );
    }
    bound(&mut out, "closing", to, closing, &statement.base.closing);
    out
}
