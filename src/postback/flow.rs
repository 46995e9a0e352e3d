// Hot path: one allocation per new conversion beside the answer's.
//! One postback from parameters to answer. The acknowledgement comes after the disk's.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::body::{Body, each_json_member};
use super::decide::{Refused, Verdict, decide};
use super::mapping::Fields;
use crate::catalog::{Catalog, Offer};
use crate::click_id::{ClickId, Keyring, Minter, RecordId};
use crate::dedup::{Acquired, ClaimSet, Deduplicator, Original};
use crate::metrics::Metrics;
use crate::model::fields::Field;
use crate::model::reasons::{Flag, PostbackResult, Refusal, Unavailability};
use crate::model::status::Status;
use crate::store::records::{ConversionRecord, HistoryEntry};
use crate::store::ticket::{Outcome, Waiting};
use crate::store::{ReadError, Store, SubmitError};

/// What the sender is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A new conversion, on disk; or, in a dry run, what would be one.
    Accepted {
        /// The conversion; `None` in a dry run.
        conversion: Option<RecordId>,
        /// Its click.
        click: ClickId,
        /// Its status.
        status: Status,
    },
    /// The conversion was there already.
    Duplicate {
        /// The original.
        original: Original,
        /// The click that this postback names.
        click: ClickId,
        /// Whether it was a dry run.
        dry_run: bool,
    },
    /// Will never succeed as sent.
    Refused(Refused),
    /// Nothing was kept; try again.
    Unavailable(Unavailability),
}

impl Answer {
    /// The result's word.
    #[must_use]
    pub const fn result(&self) -> PostbackResult {
        match self {
            Self::Accepted { .. } => PostbackResult::Accepted,
            Self::Duplicate { .. } => PostbackResult::Duplicate,
            Self::Refused(_) => PostbackResult::Refused,
            Self::Unavailable(_) => PostbackResult::Unavailable,
        }
    }
}

impl From<Refused> for Answer {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

impl From<Refusal> for Answer {
    fn from(reason: Refusal) -> Self {
        Self::Refused(reason.into())
    }
}

/// Takes postbacks.
#[derive(Clone)]
pub struct Postbacks {
    /// The catalog in force.
    pub catalog: Arc<ArcSwap<Catalog>>,
    /// Keys of click IDs.
    pub keyring: Arc<Keyring>,
    /// Mints conversion IDs.
    pub minter: Arc<Minter>,
    /// Counts once.
    pub dedup: Deduplicator,
    /// Keeps.
    pub store: Arc<Store>,
    /// Counts everything.
    pub metrics: Arc<Metrics>,
    /// The worker's tasks that wait for the disk.
    pub waiting: Arc<Waiting>,
}

impl Postbacks {
    /// Takes one postback; `advertiser` is the path's, if it has one.
    pub async fn take(
        &self,
        advertiser: Option<&str>,
        query: &[u8],
        body: Body<'_>,
        now_ms: u64,
    ) -> Answer {
        self.counted(self.judge(advertiser, query, body, now_ms, false).await)
    }

    /// Answers what a postback would do, and does nothing: HEAD, and `dry_run=1`.
    pub async fn preview(&self, advertiser: Option<&str>, query: &[u8], now_ms: u64) -> Answer {
        self.counted(self.judge(advertiser, query, Body::None, now_ms, true).await)
    }

    /// Refuses a request that is not even read.
    pub fn refuse(&self, reason: Refusal) -> Answer {
        self.counted(Err(reason.into()))
    }

    fn counted(&self, answer: Result<Answer, Answer>) -> Answer {
        let answer = answer.unwrap_or_else(|answer| answer);
        match &answer {
            Answer::Refused(refused) => self.metrics.postbacks.refused(refused.reason),
            Answer::Unavailable(reason) => self.metrics.postbacks.unavailable(*reason),
            Answer::Accepted { .. } | Answer::Duplicate { .. } => {}
        }
        answer
    }

    async fn judge(
        &self,
        advertiser: Option<&str>,
        query: &[u8],
        body: Body<'_>,
        now_ms: u64,
        dry_run: bool,
    ) -> Result<Answer, Answer> {
        let catalog = self.catalog.load_full();
        let advertiser = match advertiser {
            None => None,
            Some(id) => Some(&**catalog.advertiser(id).ok_or(Refusal::UnknownAdvertiser)?),
        };
        let overrides = advertiser.map_or(&[][..], |advertiser| &advertiser.params);
        let mut fields = Fields::default();
        fields.take_encoded(overrides, query)?;
        match body {
            Body::None => {}
            Body::Form(form) => fields.take_encoded(overrides, form)?,
            Body::Json(json) => {
                each_json_member(json, |name, value| fields.take(overrides, name, value))?;
            }
        }
        let verdict = decide(&fields, advertiser, &catalog, &self.keyring, now_ms)?;
        if dry_run || matches!(fields.get(Field::DryRun), Some("1" | "true")) {
            return self.dry_run(&verdict, now_ms).await;
        }
        self.count_once(&verdict, &fields, catalog.version(), now_ms).await
    }

    async fn dry_run(&self, verdict: &Verdict<'_>, now_ms: u64) -> Result<Answer, Answer> {
        self.metrics.postbacks.dry_runs.increment(1);
        let click = verdict.click;
        let original = self.dedup.find(&self.store, verdict.claims(), now_ms).await?;
        Ok(match original {
            Some(original) => Answer::Duplicate { original, click, dry_run: true },
            None => Answer::Accepted { conversion: None, click, status: verdict.status },
        })
    }

    async fn count_once(
        &self,
        verdict: &Verdict<'_>,
        fields: &Fields<'_>,
        catalog_version: u64,
        now_ms: u64,
    ) -> Result<Answer, Answer> {
        let (click, claims) = (verdict.click, verdict.claims());
        let duplicate = |original| Answer::Duplicate { original, click, dry_run: false };
        if let Some(original) = self.dedup.known(&claims, now_ms) {
            return Ok(duplicate(original));
        }
        if self.store.health().is_disk_full() {
            return Err(Answer::Unavailable(Unavailability::DiskFull));
        }
        let Offer { number, .. } = *verdict.offer;
        let conversion = self.minter.mint(now_ms, number, click.record().affiliate());
        let original = Original { conversion, status: verdict.status };
        let held = match self.dedup.acquire(&self.store, claims, original, now_ms).await? {
            Acquired::Held(held) => held,
            Acquired::Duplicate(original) => return Ok(duplicate(original)),
        };
        let mut flags = verdict.flags;
        if !self.store.has_click(click.record()).await? {
            flags |= Flag::ClickRecordMissing.bit();
        }
        let history =
            [HistoryEntry { status: verdict.status.code(), time_ms: now_ms, reason: "postback" }];
        let record = record(verdict, fields, flags, catalog_version, now_ms, &history);
        let store_keys = claims.iter().map(|claim| claim.store_key());
        let submitted = held.submit(|ticket| {
            self.store.commit_conversion(conversion, &record, store_keys, ticket)
        })?;
        if submitted.outcome(&self.waiting).await != Outcome::Durable {
            return Err(Answer::Unavailable(Unavailability::StorePoisoned));
        }
        for flag in record.flags() {
            self.metrics.postbacks.flagged(flag);
        }
        Ok(Answer::Accepted { conversion: Some(conversion), click, status: verdict.status })
    }

    /// Fills the claim cache with the newest conversions of the store; returns how many.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn warm(&self, count: usize) -> Result<usize, ReadError> {
        let (catalog, dedup) = (self.catalog.load_full(), self.dedup.clone());
        self.store
            .newest_conversions(count, move |stored| {
                let Ok(record) = stored.record() else { return };
                let Some(status) = record.status() else { return };
                let Some(offer) = catalog.offer(record.offer) else { return };
                let Some(event) = offer.event(record.event) else { return };
                let click = RecordId::from_bytes(record.click);
                let claims: ClaimSet<'_> =
                    super::decide::claims_of(offer, event, click, record.txn_id);
                dedup.remember(&claims, Original { conversion: stored.id, status });
            })
            .await
    }
}

fn record<'a>(
    verdict: &Verdict<'a>,
    fields: &'a Fields<'_>,
    flags: u32,
    catalog_version: u64,
    received_ms: u64,
    history: &[HistoryEntry<'a>],
) -> ConversionRecord<'a> {
    ConversionRecord {
        click: *verdict.click.record().as_bytes(),
        click_mac: verdict.click.mac(),
        advertiser: &verdict.offer.advertiser.id,
        offer: &verdict.offer.id,
        affiliate: verdict.affiliate.map_or("", |affiliate| &affiliate.id),
        event: &verdict.event.id,
        txn_id: verdict.txn_id,
        customer_id: verdict.customer_id,
        status: verdict.status.code(),
        amount: verdict.amount.map(|amount| amount.get()),
        amount_currency: verdict.amount_currency.map(|currency| currency.to_bytes()),
        revenue: verdict.revenue.get(),
        payout: verdict.payout.get(),
        currency: verdict.event.currency.to_bytes(),
        quantity: verdict.quantity,
        flags,
        event_time_ms: verdict.event_time_ms,
        received_ms,
        catalog_version,
        params: fields.stored().collect(),
        history: history.to_vec(),
    }
}

impl From<ReadError> for Answer {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Busy(_) => Self::Unavailable(Unavailability::StoreBusy),
            ReadError::Poisoned => Self::Unavailable(Unavailability::StorePoisoned),
            ReadError::Engine(_) | ReadError::Record(_) => {
                tracing::error!(%error, "a postback could not be checked against the store");
                Self::Unavailable(Unavailability::StoreBusy)
            }
        }
    }
}

impl From<SubmitError> for Answer {
    fn from(error: SubmitError) -> Self {
        Self::Unavailable(match error {
            SubmitError::Full => Unavailability::Overloaded,
            SubmitError::Poisoned => Unavailability::StorePoisoned,
            SubmitError::Closed => Unavailability::Draining,
        })
    }
}
