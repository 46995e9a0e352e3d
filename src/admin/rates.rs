//! `GET` and `PUT /api/v1/rates/{date}`: exchange rates of a day.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::{Extension, Json};
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::error::ApiError;
use super::question::InPath;
use super::server::AdminState;
use crate::audit::Author;
use crate::model::currency::Currency;
use crate::model::period::Day;
use crate::model::rate::Rate;
use crate::rates::{BadRates, DayRates};

/// The rates of a day as the API takes and shows them.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Rates)]
pub struct Shape {
    /// ISO 4217 code.
    base: String,
    /// ISO 4217 code, and how much of it one unit of the base buys, a decimal in quotes.
    #[serde(deserialize_with = "named_once")]
    rates: BTreeMap<String, String>,
}

/// A map of which no key is named twice, where a plain one takes the last.
fn named_once<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, String>, D::Error> {
    struct Once;
    impl<'de> Visitor<'de> for Once {
        type Value = BTreeMap<String, String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("rates by currency")
        }

        fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
            let mut rates = BTreeMap::new();
            while let Some((code, rate)) = map.next_entry::<String, String>()? {
                if rates.insert(code.clone(), rate).is_some() {
                    return Err(M::Error::custom(format_args!("{code} is named twice")));
                }
            }
            Ok(rates)
        }
    }
    from.deserialize_map(Once)
}

/// Exchange rates of a day.
#[utoipa::path(
    get, path = "/rates/{date}", operation_id = "get_rates", tag = "money",
    params(("date" = String, Path, format = Date, description = "A day in UTC.")),
    responses((status = 200, description = "The rates.", body = Shape)),
)]
pub async fn get(
    State(state): State<Arc<AdminState>>,
    InPath(date): InPath<String>,
) -> Result<Json<Shape>, ApiError> {
    let rates = state.rates.of(day(&date)?);
    let rates = rates.ok_or_else(|| ApiError::not_found("there are no rates of this day"))?;
    Ok(Json(shape(&rates)))
}

/// Sets the exchange rates of a day; the answer follows when they are on disk.
#[utoipa::path(
    put, path = "/rates/{date}", operation_id = "put_rates", tag = "money",
    params(("date" = String, Path, format = Date, description = "A day in UTC.")),
    request_body = Shape,
    responses((status = 200, description = "The rates as kept.", body = Shape)),
)]
pub async fn put(
    State(state): State<Arc<AdminState>>,
    Extension(by): Extension<Author>,
    InPath(date): InPath<String>,
    body: Result<Json<Shape>, JsonRejection>,
) -> Result<Json<Shape>, ApiError> {
    let day = day(&date)?;
    let Json(body) = body.map_err(|error| ApiError::bad_request("bad_body", error.body_text()))?;
    let rates = day_rates(&body)?;
    let answer = shape(&rates);
    // On its own: a client that hangs up leaves no rates on the disk that are not in force.
    let work = async move { state.rates.put(day, rates, &by, state.clock.now_ms()).await };
    tokio::spawn(work).await.map_err(ApiError::work_failed)??;
    Ok(Json(answer))
}

fn day(text: &str) -> Result<Day, ApiError> {
    let what = || ApiError::bad_request("bad_date", format!("{text:?} is not such as 2027-01-31"));
    Day::parse(text).ok_or_else(what)
}

fn day_rates(body: &Shape) -> Result<DayRates, ApiError> {
    let pair = |(code, rate): (&String, &String)| {
        let currency = currency(code)?;
        let what = |error| ApiError::bad_request("bad_rate", format!("{code}: {rate:?}: {error}"));
        Ok((currency, Rate::parse(rate).map_err(what)?))
    };
    let rates: Vec<_> = body.rates.iter().map(pair).collect::<Result<_, ApiError>>()?;
    let what = |error: BadRates| ApiError::bad_request("bad_rate", error.to_string());
    DayRates::new(currency(&body.base)?, rates).map_err(what)
}

fn currency(code: &str) -> Result<Currency, ApiError> {
    let what = |error| ApiError::bad_request("bad_currency", format!("{code:?} is {error}"));
    Currency::parse(code).map_err(what)
}

fn shape(day: &DayRates) -> Shape {
    let pair = |(currency, rate): &(Currency, Rate)| (currency.to_string(), rate.to_string());
    Shape { base: day.base().to_string(), rates: day.rates().iter().map(pair).collect() }
}
