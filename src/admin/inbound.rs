//! Postbacks as received, and refused ones judged again.

use std::sync::Arc;

use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::response::Response;
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};

use super::affiliates::{Names, known_advertiser};
use super::audit;
use super::error::ApiError;
use super::jobs::{Job, accepted, begin, steps};
use super::question::{InQuery, Moment, cursor, millis, page_rows};
use super::server::AdminState;
use super::shapes::{ip_text, present, rfc3339};
use crate::audit::{Author, Listed};
use crate::catalog::version_text;
use crate::click_id::{Keyring, RecordId};
use crate::model::admin::AuditAction;
use crate::model::currency::Currency;
use crate::model::hex::hex;
use crate::model::ids::is_id;
use crate::model::money::Sum;
use crate::model::reasons::{AuthCheck, PostbackResult, Refusal};
use crate::postback::{Gained, Mention, Reprocessed, Selection};
use crate::query::Params;
use crate::store::StoredInbound;
use crate::store::keys::{InboundId, RecordKey, inbound_page};
use crate::store::records::{InboundForm, RecordError, inbound_flags, unpack_auth};

/// A postback as received, as the API shows it.
#[derive(Debug, Serialize, ToSchema)]
pub struct Inbound {
    /// Its place in the log.
    id: String,
    time: String,
    result: Option<&'static str>,
    /// Why it was refused.
    reason: Option<String>,
    method: Option<&'static str>,
    /// `form` or `json`, if it had a body.
    body: Option<&'static str>,
    path: String,
    /// In the order in which they came, secrets left out, personal data masked.
    params: Vec<Param>,
    advertiser: Option<String>,
    /// The click it names, if that is genuine.
    click_id: Option<String>,
    /// The conversion it made, changed or repeated.
    conversion_id: Option<String>,
    ip: Option<String>,
    /// What came of each check of its sender.
    auth: Vec<Check>,
    catalog_version: String,
    /// Personal data was masked.
    masked: bool,
    /// It was too long: the last parameters are missing.
    cut: bool,
    /// It was not well encoded.
    garbled: bool,
    /// It was received before, and judged again now.
    reprocessed: bool,
    /// Parameters, path and address were erased.
    erased: bool,
}

/// A parameter.
#[derive(Debug, Serialize, ToSchema)]
struct Param {
    name: String,
    value: String,
}

/// A check of a sender.
#[derive(Debug, Serialize, ToSchema)]
struct Check {
    check: &'static str,
    result: &'static str,
}

/// A page of postbacks.
#[derive(Debug, Serialize, ToSchema)]
pub struct InboundPage {
    items: Vec<Inbound>,
    /// Keys of pages of the log that are damaged, and were passed over.
    damaged: Vec<String>,
    /// Where the next page begins; `null` on the last.
    next_cursor: Option<String>,
}

/// The filters; each narrows further.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct InboundFilters {
    /// Received at or after this time; a date alone begins in UTC.
    #[param(value_type = Option<String>, format = DateTime)]
    from: Option<Moment>,
    /// Received before this time.
    #[param(value_type = Option<String>, format = DateTime)]
    to: Option<Moment>,
    /// `accepted`, `duplicate`, `updated` or `refused`.
    result: Option<String>,
    /// Why it was refused.
    reason: Option<String>,
    /// An advertiser's ID.
    advertiser: Option<String>,
    /// The transaction that it names, by the parameter names that its sender has today.
    txn_id: Option<String>,
    /// The customer that it names, likewise.
    customer_id: Option<String>,
    /// The click that it names, likewise: the text that was sent, genuine or not.
    click_id: Option<String>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// Rows of a page, 1 to 1000; 100 if absent.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
}

/// A page of postbacks as received, oldest first.
#[utoipa::path(
    get, path = "/inbound", operation_id = "list_inbound", tag = "records",
    params(InboundFilters),
    responses((status = 200, description = "A page.", body = InboundPage)),
)]
pub async fn list(
    State(state): State<Arc<AdminState>>,
    InQuery(filters): InQuery<InboundFilters>,
) -> Result<Json<InboundPage>, ApiError> {
    let limit = page_rows(filters.limit)?;
    let cursor = cursor(filters.cursor.as_deref(), read_cursor)?;
    let result = filters.result.as_deref().map(|word| {
        let known = PostbackResult::parse(word).filter(|it| *it != PostbackResult::Unavailable);
        let message = "accepted, duplicate, updated or refused";
        known.ok_or_else(|| ApiError::bad_request("bad_result", message))
    });
    let (result, reason) = (result.transpose()?, read_reason(filters.reason.as_deref())?);
    let InboundFilters { advertiser, txn_id, customer_id, click_id, .. } = filters;
    if let Some(id) = &advertiser {
        known_advertiser(&state, id).await?;
    }
    let mention = Mention { txn_id, customer_id, click_id };
    let catalog = state.catalog.load_full();
    let listing = state.store.inbound(
        filters.from.map_or(0, millis),
        filters.to.map_or(u64::MAX, millis),
        cursor,
        limit,
        Arc::new(move |row| {
            result.is_none_or(|wanted| row.head.result() == Some(wanted))
                && reason.is_none_or(|wanted| row.head.reason == wanted.as_str())
                && advertiser.as_deref().is_none_or(|wanted| row.head.advertiser == wanted)
                && mention.is_in(row, &catalog)
        }),
    );
    let listing = listing.await?;
    let shape = |row: &StoredInbound| Inbound::of(row, &state.keyring);
    Ok(Json(InboundPage {
        items: listing.rows.iter().map(shape).collect::<Result<_, _>>()?,
        damaged: listing.damaged.iter().map(page_key).collect(),
        next_cursor: listing.next.map(id_text),
    }))
}

/// A page's key as `verify` names it.
pub fn page_key(page: &RecordKey) -> String {
    hex(&inbound_page(page))
}

impl Inbound {
    /// The shape of a row of the log.
    pub fn of(stored: &StoredInbound, keyring: &Keyring) -> Result<Self, ApiError> {
        let row = stored.row()?;
        let form = InboundForm::from_code(row.head.form).ok_or(RecordError::Corrupt)?;
        let params: Vec<_> = Params::new(row.text.as_bytes())
            .map(|param| Param {
                name: param.name.decode_lossy().into_owned(),
                value: param.value.decode_lossy().into_owned(),
            })
            .collect();
        // What made a conversion says so by its click ID alone.
        let named = || params.iter().find_map(|it| keyring.verify(it.value.as_bytes()).ok());
        let click = row.head.click.map(|click| keyring.sign(RecordId::from_bytes(click)));
        let click_id = click.or_else(named).map(|click| click.to_text().to_string());
        let checks = AuthCheck::ALL.iter().zip(unpack_auth(row.head.auth));
        let has = |flag| row.flags & flag != 0;
        Ok(Self {
            id: id_text(stored.id),
            time: rfc3339(row.head.time_ms),
            result: row.head.result().map(PostbackResult::as_str),
            reason: present(row.head.reason),
            method: match form {
                InboundForm::Get => Some("GET"),
                InboundForm::Post | InboundForm::Form | InboundForm::Json => Some("POST"),
                InboundForm::Other => None,
            },
            body: match form {
                InboundForm::Form => Some("form"),
                InboundForm::Json => Some("json"),
                InboundForm::Get | InboundForm::Post | InboundForm::Other => None,
            },
            path: row.head.path.to_owned(),
            params,
            advertiser: present(row.head.advertiser),
            click_id,
            conversion_id: row
                .head
                .conversion
                .map(|id| RecordId::from_bytes(id).to_text().to_string()),
            ip: ip_text(row.head.ip),
            auth: checks
                .filter_map(|(check, result)| {
                    Some(Check { check: check.as_str(), result: result?.as_str() })
                })
                .collect(),
            catalog_version: version_text(row.head.catalog_version),
            masked: has(inbound_flags::MASKED),
            cut: has(inbound_flags::CUT),
            garbled: has(inbound_flags::GARBLED),
            reprocessed: has(inbound_flags::AGAIN),
            erased: has(inbound_flags::ERASED),
        })
    }
}

/// Which refused postbacks are judged again.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Reprocess {
    /// Received at or after this time; a date alone begins in UTC.
    #[schema(value_type = String, format = DateTime)]
    from: Moment,
    /// Received before this time; now if absent.
    #[schema(value_type = Option<String>, format = DateTime)]
    to: Option<Moment>,
    /// Only those that spoke for this advertiser.
    advertiser: Option<String>,
    /// Only those refused for this reason.
    reason: Option<String>,
    /// `next_cursor` of the job before.
    cursor: Option<String>,
    /// For real; else the job says what would come of it.
    #[serde(default)]
    apply: bool,
}

/// Judges refused postbacks again by the catalog in force.
#[utoipa::path(
    post, path = "/reprocess", operation_id = "post_reprocess", tag = "records",
    request_body = Reprocess,
    responses((status = 202, description = "It has begun; `Location` is the job.", body = Job)),
)]
pub async fn reprocess(
    State(state): State<Arc<AdminState>>,
    Extension(by): Extension<Author>,
    asked: Result<Json<Reprocess>, JsonRejection>,
) -> Result<Response, ApiError> {
    let Json(asked) =
        asked.map_err(|error| ApiError::bad_request("bad_parameter", error.body_text()))?;
    if let Some(id) = &asked.advertiser {
        if !is_id(id) {
            return Err(ApiError::bad_request("bad_parameter", "not an advertiser's ID"));
        }
        known_advertiser(&state, id).await?;
    }
    let selection = Selection {
        from_ms: millis(asked.from),
        to_ms: asked.to.map_or_else(|| state.clock.now_ms(), millis),
        reason: read_reason(asked.reason.as_deref())?,
        advertiser: asked.advertiser,
        after: cursor(asked.cursor.as_deref(), read_cursor)?,
        apply: asked.apply,
    };
    let details = json!({
        "from": rfc3339(selection.from_ms),
        "to": rfc3339(selection.to_ms),
        "advertiser": &selection.advertiser,
        "reason": selection.reason.map(Refusal::as_str),
    });
    let work = move |state: &AdminState| {
        steps(async {
            if !selection.apply {
                let (result, ended) = judged_again(state, &selection).await;
                return ended.map(|()| result);
            }
            audit::keep_first(state, &by, AuditAction::Reprocess, &details).await?;
            let (result, ended) = judged_again(state, &selection).await;
            let details = outcome(&result, ended.as_ref().err());
            audit::keep_last(state, &by, AuditAction::ReprocessDone, &details).await;
            ended.map(|()| result)
        })
    };
    let (job, _) = begin(&state, "reprocess", work)?;
    Ok(accepted(job))
}

/// What came of the postbacks, as far as it went.
async fn judged_again(state: &AdminState, selection: &Selection) -> (Value, Result<(), String>) {
    let now_ms = || state.clock.now_ms();
    let may_go_on = || !state.drain.has_begun();
    let mut judged = Reprocessed::default();
    let ended = state.postbacks.reprocess(selection, &mut judged, now_ms, may_go_on).await;
    // What was done is told, named or not.
    let names = Names::of(state, judged.gains.rows().map(|(affiliate, ..)| affiliate)).await;
    let result = result(selection.apply, &judged, &names.unwrap_or_default());
    (result, ended.map_err(|error| error.to_string()))
}

/// What the audit log says of a job's result: as many affiliates as it has room for.
fn outcome(result: &Value, error: Option<&String>) -> Value {
    let mut affiliates = Listed::default();
    result["affiliates"]
        .as_array()
        .into_iter()
        .flatten()
        .cloned()
        .for_each(|it| affiliates.push(it));
    let (listed, not_listed) = affiliates.into_parts();
    let mut details = result.clone();
    details["affiliates"] = listed.into();
    details["affiliates_left_out"] = not_listed.into();
    details["error"] = error.cloned().into();
    details
}

fn result(applied: bool, judged: &Reprocessed, names: &Names) -> Value {
    let named = |(affiliate, currency, gained): (_, [u8; 3], &Gained)| {
        (names.get(affiliate), currency, *gained)
    };
    let mut gained: Vec<_> = judged.gains.rows().map(named).collect();
    gained.sort_by_key(|(affiliate, currency, _)| (*affiliate, *currency));
    let affiliates = gained.into_iter().map(|(affiliate, currency, gained)| {
        let currency = Currency::to_show(currency);
        let shown = |sum: Sum| sum.display(currency).to_string();
        serde_json::json!({
            "affiliate": affiliate,
            "currency": currency.as_str(),
            "conversions": gained.conversions,
            "revenue": shown(gained.revenue),
            "payout": shown(gained.payout),
            "approved_revenue": shown(gained.approved_revenue),
            "approved_payout": shown(gained.approved_payout),
        })
    });
    serde_json::json!({
        "applied": applied,
        "postbacks": judged.postbacks,
        "damaged": judged.damaged,
        "accepted": judged.accepted,
        "updated": judged.updated,
        "duplicate": judged.duplicate,
        "refused": judged.refused,
        "not_judged": judged.unfit,
        "affiliates": affiliates.collect::<Vec<_>>(),
        "left_out": judged.gains.left_out(),
        "stopped": judged.stopped,
        "next_cursor": judged.next.map(id_text),
    })
}

fn read_reason(word: Option<&str>) -> Result<Option<Refusal>, ApiError> {
    let known = |word| {
        let unknown = || ApiError::bad_request("bad_reason", "no reason for a refusal");
        Refusal::parse(word).ok_or_else(unknown)
    };
    word.map(known).transpose()
}

/// A page's 22 characters, a dash, and the row's number.
fn id_text(id: InboundId) -> String {
    format!("{}-{}", RecordId::from_bytes(id.page).to_text(), id.row)
}

fn read_cursor(text: &str) -> Option<InboundId> {
    let (page, row) = text.split_once('-')?;
    let page = RecordId::parse(page.as_bytes())?;
    Some(InboundId { page: *page.as_bytes(), row: row.parse().ok()? })
}
