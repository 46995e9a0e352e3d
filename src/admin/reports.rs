//! `GET /api/v1/reports` and `/reports/refusals`: sums by time, offer, affiliate and more, as JSON
//! or CSV.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::error::ApiError;
use super::held::{Held, place};
use super::question::InQuery;
use super::report_shapes::{RefusedShape, RowShape, Sums};
use super::server::AdminState;
use crate::catalog::Catalog;
use crate::limits::{REPORT_CLOCK_CHANGE_QUARTERS_MAX, REPORT_DAYS_MAX, REPORT_WAIT_MAX};
use crate::model::dimension::Dimension;
use crate::model::ids::OfferNumber;
use crate::model::period::{self, Quarter};
use crate::report::{self, Context, Only, Question, ReportError};
use crate::store::{ReadError, Store};

/// What a report is about.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Wanted {
    /// By what, separated by commas: `hour`, `day`, `offer`, `affiliate`, `advertiser`, `event`,
    /// `sub1`; `day` if absent, empty for one group.
    group_by: Option<String>,
    /// From the beginning of this day, or from this time on; today if absent.
    from: Option<String>,
    /// Up to this day or time, which is not part of it; tomorrow if absent.
    to: Option<String>,
    /// An offer's ID.
    offer: Option<String>,
    /// An affiliate's ID.
    affiliate: Option<String>,
    /// An advertiser's ID.
    advertiser: Option<String>,
    /// An event's ID.
    event: Option<String>,
    /// The `sub1` of clicks; empty for those without.
    sub1: Option<String>,
    /// `json` or `csv`.
    format: Option<String>,
}

/// What a report of refusals is about.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct WantedOfRefusals {
    /// By what, separated by commas: `hour`, `day`, `offer`, `affiliate`, `advertiser`; `day` if
    /// absent, empty for one group.
    group_by: Option<String>,
    /// From the beginning of this day, or from this time on; today if absent.
    from: Option<String>,
    /// Up to this day or time, which is not part of it; tomorrow if absent.
    to: Option<String>,
    /// An offer's ID.
    offer: Option<String>,
    /// An affiliate's ID.
    affiliate: Option<String>,
    /// An advertiser's ID.
    advertiser: Option<String>,
    /// `json` or `csv`.
    format: Option<String>,
}

impl From<WantedOfRefusals> for Wanted {
    fn from(wanted: WantedOfRefusals) -> Self {
        let WantedOfRefusals { group_by, from, to, offer, affiliate, advertiser, format } = wanted;
        Self { group_by, from, to, offer, affiliate, advertiser, event: None, sub1: None, format }
    }
}

/// A report.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Report)]
pub struct ReportShape {
    /// Its first moment.
    from: String,
    /// The first moment after.
    to: String,
    /// Whose hours and days count.
    time_zone: String,
    rows: Vec<RowShape>,
    /// All rows together, by currency.
    totals: Vec<Sums>,
}

/// Refused postbacks, and clicks that went to a fallback.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Refusals)]
pub struct RefusalsShape {
    /// Its first moment.
    from: String,
    /// The first moment after.
    to: String,
    /// Whose hours and days count.
    time_zone: String,
    rows: Vec<RefusedShape>,
}

/// Clicks, conversions and money by time, offer, affiliate and more.
#[utoipa::path(
    get, path = "/reports", operation_id = "get_report", tag = "reports",
    params(Wanted),
    responses((
        status = 200, description = "The report.",
        content((ReportShape = "application/json"), (String = "text/csv")),
    )),
)]
pub async fn report(
    State(state): State<Arc<AdminState>>,
    InQuery(wanted): InQuery<Wanted>,
) -> Result<Response, ApiError> {
    let asked = Asked::of(&state, wanted)?;
    asked
        .answer(state, |asked, store, question, context, until| {
            let report = report::report(store, question, context, until)?;
            let rows = report.rows.iter().map(RowShape::of);
            Ok(if asked.csv {
                RowShape::csv(&question.by, rows)
            } else {
                let (from, to, time_zone) = asked.frame();
                let totals = report.totals.iter().map(Sums::of).collect();
                json(&ReportShape { from, to, time_zone, rows: rows.collect(), totals })
            })
        })
        .await
}

/// Refused postbacks, and clicks that went to a fallback, by reason.
#[utoipa::path(
    get, path = "/reports/refusals", operation_id = "get_refusals", tag = "reports",
    params(WantedOfRefusals),
    responses((
        status = 200, description = "The report.",
        content((RefusalsShape = "application/json"), (String = "text/csv")),
    )),
)]
pub async fn refusals(
    State(state): State<Arc<AdminState>>,
    InQuery(wanted): InQuery<WantedOfRefusals>,
) -> Result<Response, ApiError> {
    let asked = Asked::of(&state, wanted.into())?;
    if asked.by.iter().any(|by| matches!(by, Dimension::Event | Dimension::Sub1)) {
        let message = "refusals are told apart by hour, day, offer, affiliate, advertiser";
        return Err(ApiError::bad_request("bad_group", message));
    }
    asked
        .answer(state, |asked, store, question, context, until| {
            let rows = report::refusals(store, question, context, until)?;
            let rows = rows.iter().map(RefusedShape::of);
            Ok(if asked.csv {
                RefusedShape::csv(&question.by, rows)
            } else {
                let (from, to, time_zone) = asked.frame();
                json(&RefusalsShape { from, to, time_zone, rows: rows.collect() })
            })
        })
        .await
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("texts and numbers have a JSON form")
}

/// A question whose words were understood, but not looked up.
struct Asked {
    by: Vec<Dimension>,
    quarters: Range<Quarter>,
    csv: bool,
    time_zone: TimeZone,
    wanted: Wanted,
}

impl Asked {
    fn of(state: &AdminState, wanted: Wanted) -> Result<Self, ApiError> {
        let csv = match wanted.format.as_deref() {
            None | Some("json") => false,
            Some("csv") => true,
            Some(_) => return Err(ApiError::bad_request("bad_format", "json or csv")),
        };
        let by = dimensions(wanted.group_by.as_deref().unwrap_or("day"))?;
        let time_zone = state.time_zone.clone();
        let now = period::moment(state.clock.now_ms()).unwrap_or(Timestamp::MAX);
        let today = now.to_zoned(time_zone.clone()).date();
        let tomorrow = today.tomorrow().unwrap_or(today);
        let from = moment("from", wanted.from.as_deref(), today, &time_zone)?;
        let to = moment("to", wanted.to.as_deref(), tomorrow, &time_zone)?;
        let quarters_max = REPORT_DAYS_MAX * 24 * 4 + REPORT_CLOCK_CHANGE_QUARTERS_MAX;
        if from >= to || i64::from(to.get() - from.get()) > quarters_max {
            let message = format!("to is later than from, by at most {REPORT_DAYS_MAX} days");
            return Err(ApiError::bad_request("bad_range", message));
        }
        Ok(Self { by, quarters: from..to, csv, time_zone, wanted })
    }

    /// Looks names up, makes the report on a thread that may block, and answers.
    async fn answer(
        self,
        state: Arc<AdminState>,
        make: impl FnOnce(
            &Self,
            &Store,
            &Question,
            &Context<'_>,
            Instant,
        ) -> Result<String, ReportError>
        + Send
        + 'static,
    ) -> Result<Response, ApiError> {
        let permit = place(&state.reports, ApiError::reports_busy)?;
        let kind = if self.csv { "text/csv; charset=utf-8" } else { "application/json" };
        let work = move || {
            let question = self.question(&state.store)?;
            // The catalog itself is not held meanwhile: a new one's caps wait until nobody reads the
            // one before.
            let owners = self.owners(&state.catalog.load())?;
            let context = Context {
                time_zone: &self.time_zone,
                base: state.rates.base().to_bytes(),
                advertiser_of: &|number| owners.get(&number).cloned(),
            };
            let until = Instant::now() + REPORT_WAIT_MAX;
            let text = make(&self, &state.store, &question, &context, until)?;
            Ok::<_, ApiError>(Held::new(text, permit))
        };
        let body = tokio::task::spawn_blocking(work).await.map_err(ApiError::work_failed)??;
        Ok(([(CONTENT_TYPE, kind)], Body::new(body)).into_response())
    }

    fn question(&self, store: &Store) -> Result<Question, ApiError> {
        let view = store.view();
        let read = |error| ApiError::from(ReadError::from(error));
        let unknown = ApiError::never_was;
        let Wanted { offer, affiliate, advertiser, event, sub1, .. } = self.wanted.clone();
        let offer = offer
            .map(|id| view.offer_number(&id).map_err(read)?.ok_or_else(|| unknown("an offer")));
        let affiliate = affiliate.map(|id| {
            view.affiliate_number(&id).map_err(read)?.ok_or_else(|| unknown("an affiliate"))
        });
        let (offer, affiliate) = (offer.transpose()?, affiliate.transpose()?);
        let only = Only { offer, affiliate, advertiser, event, sub1 };
        Ok(Question { quarters: self.quarters.clone(), by: self.by.clone(), only })
    }

    /// The advertiser of each offer, by its number, also of those that have left the catalog, where
    /// the question is about advertisers.
    fn owners(&self, catalog: &Catalog) -> Result<HashMap<OfferNumber, Arc<str>>, ApiError> {
        let advertiser = self.wanted.advertiser.as_deref();
        if advertiser.is_none() && !self.by.contains(&Dimension::Advertiser) {
            return Ok(HashMap::new());
        }
        if advertiser.is_some_and(|id| !catalog.has_or_had_advertiser(id)) {
            return Err(ApiError::never_was("an advertiser"));
        }
        Ok(catalog.owners().map(|(number, owner)| (number, Arc::clone(owner))).collect())
    }

    /// From, to, time zone.
    fn frame(&self) -> (String, String, String) {
        let text = |quarter: Quarter| {
            let moment = period::moment(quarter.begins_ms()).unwrap_or(Timestamp::MAX);
            moment.display_with_offset(self.time_zone.to_offset(moment)).to_string()
        };
        let time_zone = self.time_zone.iana_name().unwrap_or("UTC").to_owned();
        (text(self.quarters.start), text(self.quarters.end), time_zone)
    }
}

fn dimensions(text: &str) -> Result<Vec<Dimension>, ApiError> {
    let mut by = Vec::new();
    for word in text.split(',').filter(|word| !word.is_empty()) {
        match Dimension::parse(word) {
            Some(dimension) if !by.contains(&dimension) => by.push(dimension),
            _ => {
                let mut message = "group_by has each at most once:".to_owned();
                for dimension in Dimension::ALL {
                    let _ = write!(message, " {dimension}");
                }
                return Err(ApiError::bad_request("bad_group", message));
            }
        }
    }
    Ok(by)
}

/// A day's beginning, or a moment in whole quarters of an hour.
fn moment(
    name: &str,
    text: Option<&str>,
    absent: Date,
    time_zone: &TimeZone,
) -> Result<Quarter, ApiError> {
    let wrong = || {
        let example =
            "such as 2027-01-31, or a time such as 2027-01-31T08:15:00Z in whole quarters";
        ApiError::bad_request("bad_date", format!("{name} is a day {example} of an hour"))
    };
    let Some(text) = text else { return report::day_begins(absent, time_zone).ok_or_else(wrong) };
    if let Ok(moment) = text.parse::<Timestamp>() {
        let quarter = report::quarter_at(moment).ok_or_else(wrong)?;
        let is_whole = i128::from(quarter.begins_ms()) * 1_000_000 == moment.as_nanosecond();
        return if is_whole { Ok(quarter) } else { Err(wrong()) };
    }
    let date = period::date(text).ok_or_else(wrong)?;
    report::day_begins(date, time_zone).ok_or_else(wrong)
}
