// Hot path: one allocation per new conversion beside the answer's.
//! One postback from parameters to answer. The acknowledgement comes after the disk's.

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::answer::{Answer, Told, accepted, duplicate};
use super::as_received::{AsReceived, KeptIp};
use super::body::Body;
use super::decide::{Asker, Bound, Meant, Refused, Rules, Verdict, decide};
use super::mapping::Fields;
use super::reprocess::Again;
use super::sender::{Address, Sender};
use crate::auth::Nonces;
use crate::caps::{Meter, Meters, Reserved};
use crate::catalog::Catalog;
use crate::click_id::{Keyring, Minter, RecordId};
use crate::dedup::{Acquired, ClaimSet, Deduplicator, Held, Known, Original, Receipt, Submitted};
use crate::fraud::Watch;
use crate::metrics::Metrics;
use crate::model::preset::AnswerForm;
use crate::model::reasons::{Flag, PostbackResult, Refusal, Unavailability};
use crate::rates::Market;
use crate::store::engine::Lookup;
use crate::store::records::{ConversionRecord, HistoryEntry};
use crate::store::ticket::Waiting;
use crate::store::{ReadError, Store};
use crate::throttle::Throttle;

/// What a postback's request brings.
#[derive(Clone, Copy)]
pub struct PostbackRequest<'a> {
    /// Where it was sent.
    pub address: Address<'a>,
    /// The query string.
    pub query: &'a str,
    /// The body.
    pub body: Body<'a>,
    /// HEAD: answers what would happen, as `dry_run=1` does, and nothing happens.
    pub head: bool,
    /// POST, with or without a body.
    pub post: bool,
    /// From which address it comes.
    pub ip: IpAddr,
    /// When it came, Unix milliseconds.
    pub now_ms: u64,
    /// One that was received and refused before, and is judged again.
    pub again: Option<&'a Again<'a>>,
}

impl<'a> PostbackRequest<'a> {
    /// One by GET, without a body.
    #[must_use]
    pub const fn get(address: Address<'a>, query: &'a str, ip: IpAddr, now_ms: u64) -> Self {
        Self { address, query, body: Body::None, head: false, post: false, ip, now_ms, again: None }
    }

    /// When what comes of it is booked, Unix milliseconds.
    pub(super) const fn booked_ms(&self) -> u64 {
        match self.again {
            None => self.now_ms,
            Some(again) => again.now_ms,
        }
    }

    /// By which moment its claims are judged, Unix milliseconds.
    pub(super) fn counts_ms(&self, asker: &Asker) -> u64 {
        asker.came.map_or(self.now_ms, |came| came.counts_ms.min(self.now_ms))
    }
}

/// How far a postback comes without waiting.
pub enum Progress {
    /// To its answer.
    Answered(Told),
    /// Into the writer's hands; [`Postbacks::confirmed`] waits for the disk.
    Committing(Committing),
    /// Nowhere: the disk has to be read, or another postback's outcome awaited; or it only asks
    /// what would happen. [`Postbacks::begin_patiently`] does so.
    MustWait {
        /// Whether its advertiser's rate limit has counted it.
        is_counted: bool,
    },
}

/// How far a postback comes as one of a click.
pub(super) enum Tried {
    /// Into the writer's hands.
    Begun(Committing),
    /// Nowhere: nothing was left of what was chosen to be taken back when its turn came.
    Gone(Option<RecordId>),
}

/// A conversion, or its change, in the writer's hands.
pub struct Committing {
    pub(super) submitted: Submitted,
    pub(super) answer: Answer,
    pub(super) form: AnswerForm,
    pub(super) flags: u32,
    /// Those of them that have rejected it.
    pub(super) rejected_by: u32,
}

/// Takes postbacks.
#[derive(Clone)]
pub struct Postbacks {
    /// The catalog in force.
    pub catalog: Arc<ArcSwap<Catalog>>,
    /// Exchange rates.
    pub market: Market,
    /// Keys of click IDs.
    pub keyring: Arc<Keyring>,
    /// Mints conversion IDs.
    pub minter: Arc<Minter>,
    /// Counts once.
    pub dedup: Deduplicator,
    /// Counts what is paid, where the offer has caps or tiers.
    pub meters: Arc<Meters>,
    /// Counts for fraud rules.
    pub watch: Arc<Watch>,
    /// Remembers what was signed.
    pub nonces: Arc<Nonces>,
    /// Counts for rate limits.
    pub throttle: Arc<Throttle>,
    /// Keeps.
    pub store: Arc<Store>,
    /// Counts everything.
    pub metrics: Arc<Metrics>,
    /// The worker's tasks that wait for the disk.
    pub waiting: Arc<Waiting>,
    /// What is kept of a sender's address.
    pub kept_ip: Arc<KeptIp>,
}

impl Postbacks {
    /// Takes one postback as far as it goes without waiting: nearly always to its end, or to
    /// the disk.
    pub fn take_now(&self, request: &PostbackRequest<'_>) -> Progress {
        let mut asker = Asker::default();
        match self.try_now(request, &mut asker) {
            Ok(Some(committing)) => {
                self.metrics.postbacks.authenticated(asker.auth);
                Progress::Committing(committing)
            }
            Ok(None) => {
                self.turned_away(asker);
                Progress::MustWait { is_counted: asker.is_counted }
            }
            Err(answer) => Progress::Answered(self.counted(answer, asker, request)),
        }
    }

    /// Whether the catalog gives this path to an advertiser.
    #[must_use]
    pub fn has_path(&self, path: &str) -> bool {
        self.catalog.load().advertiser_at(path).is_some()
    }

    /// Counts a request that is refused and written down nowhere.
    pub fn count_refusal(&self, reason: Refusal) {
        self.metrics.postbacks.refused(reason);
        self.store.refusals().count(reason, None);
    }

    pub(super) fn counted(
        &self,
        answer: Answer,
        asker: Asker,
        request: &PostbackRequest<'_>,
    ) -> Told {
        self.metrics.postbacks.authenticated(asker.auth);
        // What is refused is written down, and judged again by when it came; so is its retry.
        if answer.result() == PostbackResult::Unavailable {
            self.turned_away(asker);
        }
        match &answer {
            Answer::Refused(refused) => {
                self.metrics.postbacks.refused(refused.reason);
                self.store.refusals().count(refused.reason, asker.click);
                let reason = refused.reason;
                if request.may_be_missed(reason) && self.store.sampling().takes(Some(reason)) {
                    self.note(request, &answer, &asker);
                }
            }
            Answer::Duplicate { dry_run: false, .. } => {
                if self.store.sampling().takes(None) {
                    self.note(request, &answer, &asker);
                }
            }
            Answer::Unavailable(reason) => self.metrics.postbacks.unavailable(*reason),
            Answer::RateLimited(_) => {
                self.metrics.postbacks.unavailable(Unavailability::RateLimited);
            }
            Answer::Accepted { .. } | Answer::Duplicate { .. } | Answer::Updated { .. } => {}
        }
        Told { answer, form: asker.form }
    }

    fn turned_away(&self, asker: Asker) {
        if let Some(came) = asker.came {
            self.nonces.turned_away(came);
        }
    }

    /// As [`Postbacks::wait_and_try`]; `None`, and nothing done, where that would wait.
    fn try_now(
        &self,
        request: &PostbackRequest<'_>,
        asker: &mut Asker,
    ) -> Result<Option<Committing>, Answer> {
        let catalog = self.catalog.load();
        let mut fields = Fields::default();
        let sender = Sender::at(request.address, &catalog, &mut asker.form)?;
        fields.read(&sender, request)?;
        let admitted = self.admit_sender(&sender, &fields, request, asker)?;
        let bound = match self.bound_now(&fields, &sender, &catalog, request.now_ms)? {
            Lookup::Found(bound) => Some(bound),
            Lookup::Absent => None,
            Lookup::Unknown => return Ok(None),
        };
        let what = (request, &**catalog);
        let meant = self.identify(&mut fields, &sender, admitted, bound, what, asker)?;
        let sent = Sent { fields: &fields, sender: &sender, request };
        let mut verdict = self.judge(&sent, &meant, bound, &catalog)?;
        self.count_for(&verdict.offer.advertiser, asker, request.now_ms)?;
        if fields.is_dry_run() || request.head {
            return Ok(None);
        }
        let counts_ms = request.counts_ms(asker);
        if let Some(known) = self.dedup.known(&verdict.first_claim(), Receipt::Now(counts_ms)) {
            return if verdict.must_read(known, &catalog) {
                Ok(None)
            } else {
                Err(duplicate(known, &verdict, false))
            };
        }
        if verdict.event.is_negative() || !self.suspect_now(&mut verdict, request)? {
            return Ok(None);
        }
        let mut meter = None;
        if verdict.offer.is_metered {
            meter = self.meters.of(verdict.offer.metered());
            if meter.is_none() {
                return Ok(None);
            }
        }
        let original = self.original(&verdict, request.booked_ms())?;
        // Only now: what a fraud rule rejects claims no customer.
        let claims = verdict.claims();
        let acquired = self.dedup.acquire_now(&self.store, claims, original, counts_ms)?;
        let held = match acquired {
            Some(Acquired::Held(held)) => held,
            Some(Acquired::Duplicate(known)) if !verdict.must_read(known, &catalog) => {
                return Err(duplicate(known, &verdict, false));
            }
            Some(Acquired::Duplicate(_) | Acquired::MintAnew) | None => return Ok(None),
        };
        verdict.refuse_if_new()?;
        let click = verdict.click.record();
        let has_click = verdict.is_by_customer
            || self.knows(click)
            || match self.store.has_click_now(click)? {
                Lookup::Found(()) => true,
                Lookup::Absent => false,
                Lookup::Unknown => return Ok(None),
            };
        let mut received = self.received(&sent, &verdict, &catalog, asker);
        received.meter = meter;
        self.commit(held, &verdict, &received, has_click).map(Some)
    }

    /// Tries a postback as one of the click that is `meant`. `gone` is what was chosen to be taken
    /// back the last time: it is refused if the same is chosen again, and nothing is left of it.
    pub(super) async fn try_as<'a>(
        &'a self,
        sent: &Sent<'a, 'a>,
        meant: &Meant<'a>,
        bound: Option<Bound>,
        gone: Option<Option<RecordId>>,
        catalog: &'a Catalog,
        asker: &mut Asker,
    ) -> Result<Tried, Answer> {
        let Sent { fields, request, .. } = *sent;
        let mut verdict = self.judge(sent, meant, bound, catalog)?;
        let now_ms = request.now_ms;
        self.count_for(&verdict.offer.advertiser, asker, now_ms)?;
        let mut received = self.received(sent, &verdict, catalog, asker);
        if fields.is_dry_run() || request.head {
            self.suspect(&mut verdict, request).await?;
            return Err(self.dry_run(&verdict, &received).await?);
        }
        if let Some(known) = self.dedup.known(&verdict.first_claim(), received.receipt()) {
            return self.update(known, &verdict, &received).await.map(Tried::Begun);
        }
        // Before its own claims are held: who looks for a transaction waits for whoever holds that.
        let chosen = match verdict.event.is_negative() && !verdict.reversed_txn_id.is_empty() {
            true => Some(self.of_transaction(&verdict, &received).await?),
            false => None,
        };
        self.suspect(&mut verdict, request).await?;
        if verdict.offer.is_metered && !verdict.event.is_negative() {
            received.meter = Some(self.meter(verdict.offer.metered()).await?);
        }
        let claims = verdict.claims();
        let held = loop {
            // Nothing is minted before it is received, whatever the clock has done since.
            let original = self.original(&verdict, request.booked_ms().max(now_ms))?;
            match self.dedup.acquire(&self.store, claims, original, received.receipt()).await? {
                Acquired::Held(held) => break held,
                Acquired::Duplicate(known) => {
                    return self.update(known, &verdict, &received).await.map(Tried::Begun);
                }
                Acquired::MintAnew => {}
            }
        };
        verdict.refuse_if_new()?;
        let click = verdict.click.record();
        // A customer's click may be gone long since.
        let has_click =
            verdict.is_by_customer || self.knows(click) || self.store.has_click(click).await?;
        if !verdict.event.is_negative() {
            return self.commit(held, &verdict, &received, has_click).map(Tried::Begun);
        }
        let reversed = match chosen {
            Some(chosen) => self.hold_all(chosen.as_slice()).await?,
            None => self.hold_of_click(&verdict, &received).await?,
        };
        if let Some(chosen) = chosen.filter(|chosen| gone != Some(*chosen))
            && !reversed.is_left()?
        {
            return Ok(Tried::Gone(chosen));
        }
        self.reverse(held, reversed, &verdict, &received, has_click).map(Tried::Begun)
    }

    pub(super) fn judge<'a>(
        &'a self,
        sent: &Sent<'a, '_>,
        meant: &Meant<'a>,
        bound: Option<Bound>,
        catalog: &'a Catalog,
    ) -> Result<Verdict<'a>, Refused> {
        let by = Rules { catalog, keyring: &self.keyring, market: &self.market };
        decide(sent.fields, meant, bound, &by, sent.request.now_ms)
    }

    /// What the postback becomes if nobody was before it; a full disk knows better.
    fn original(&self, verdict: &Verdict<'_>, now_ms: u64) -> Result<Original, Answer> {
        if self.store.health().is_disk_full() {
            return Err(Answer::Unavailable(Unavailability::DiskFull));
        }
        let affiliate = verdict.click.record().affiliate();
        let conversion = self.minter.mint(now_ms, verdict.offer.number, affiliate);
        Ok(Original { conversion, status: verdict.status })
    }

    /// Whether the click's record is there for certain, without a look: this process made the
    /// click, and handed the record to the writer before the visitor had it.
    fn knows(&self, click: RecordId) -> bool {
        self.minter.is_of_this_start(click) && !self.store.may_lack(click)
    }

    /// Hands the conversion with everything it causes to the writer.
    #[inline]
    pub(super) fn submit(
        &self,
        held: Held,
        verdict: &Verdict<'_>,
        received: &Received<'_>,
        has_click: bool,
        reason: &str,
        place: Option<Reserved>,
    ) -> Result<Committing, Answer> {
        let Original { conversion, status } = held.original();
        let bound_by = held.bound_by();
        let affiliate = verdict.click.record().affiliate();
        let elsewhere = bound_by.is_some_and(|holder| holder.affiliate() != affiliate);
        let flags = verdict.flags
            | verdict.flags_of_click(has_click)
            | if elsewhere { Flag::BoundElsewhere.bit() } else { 0 };
        let history = [verdict.first_step(status, received.now_ms, reason)];
        let record = record(verdict, received, flags, bound_by.is_none(), &history);
        let submitted = held.submit(|ticket| {
            let ticket = match place {
                None => ticket,
                Some(place) => place.with(ticket),
            };
            received.as_received.of_conversion(PostbackResult::Accepted, conversion, |arrival| {
                self.store.commit_with_changes((conversion, &record), &[], Some(arrival), ticket)
            })
        })?;
        self.waiting.submitted();
        received.made(&record);
        let answer = accepted(Some(conversion), verdict, status, flags);
        let (form, rejected_by) = (verdict.offer.advertiser.answer, verdict.rejected_by());
        Ok(Committing { submitted, answer, form, flags, rejected_by })
    }

    /// Fills the claim cache with the newest conversions of the store; returns how many.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn warm(&self, count: usize) -> Result<usize, ReadError> {
        let (dedup, recall) = (self.dedup.clone(), self.recall());
        let warmed = self
            .store
            .newest_conversions(count, move |stored| {
                let Ok(record) = stored.record() else { return };
                let Some(status) = record.status() else { return };
                let claims = ClaimSet::of_record(&record);
                let original = Original { conversion: stored.id, status };
                dedup.remember(&claims, Known { original, is_from_log: record.is_from_log() });
                recall(&record);
            })
            .await;
        self.dedup.warmed();
        warmed
    }
}

/// A postback as it was sent.
pub(super) struct Sent<'a, 'r> {
    pub(super) fields: &'a Fields<'a>,
    pub(super) sender: &'r Sender<'r>,
    pub(super) request: &'r PostbackRequest<'r>,
}

/// What a postback says, and under which catalog and when.
pub(super) struct Received<'a> {
    pub(super) fields: &'a Fields<'a>,
    pub(super) catalog: &'a Catalog,
    /// What counts the offer's conversions, if they are counted.
    pub(super) meter: Option<Arc<Meter>>,
    /// When it is booked, Unix milliseconds.
    pub(super) now_ms: u64,
    /// By which moment its claims are judged, Unix milliseconds.
    pub(super) counts_ms: u64,
    /// When the very same signed postback came first, if it came before.
    pub(super) replay_of_ms: Option<u64>,
    /// How it is written down.
    pub(super) as_received: AsReceived<'a>,
}

pub(super) fn record<'a>(
    verdict: &Verdict<'a>,
    received: &Received<'a>,
    flags: u32,
    binds: bool,
    history: &[HistoryEntry<'a>],
) -> ConversionRecord<'a> {
    let advertiser = &verdict.offer.advertiser;
    let (params, is_cut) = received.kept_params(advertiser);
    ConversionRecord {
        click: *verdict.click.record().as_bytes(),
        click_mac: verdict.click.mac(),
        advertiser: &advertiser.id,
        offer: &verdict.offer.id,
        affiliate: verdict.affiliate.map_or("", |affiliate| &affiliate.id),
        event: &verdict.event.id,
        txn_id: verdict.txn_id,
        customer_id: verdict.customer_id,
        status: verdict.status.code(),
        amount: verdict.said.amount.map(|amount| amount.get()),
        amount_currency: verdict.said.currency.map(|currency| currency.to_bytes()),
        revenue: verdict.revenue.get(),
        payout: verdict.payout.get(),
        currency: verdict.event.currency.to_bytes(),
        quantity: verdict.said.quantity,
        flags: flags | Flag::ParametersLeftOut.bit_if(is_cut),
        event_time_ms: verdict.event_time_ms,
        received_ms: received.as_received.request.now_ms,
        catalog_version: received.catalog.version(),
        params,
        history: history.to_vec(),
        claims: verdict.claims().bits(binds),
        exchanged: verdict.exchanged.clone(),
        reversed_amount: 0,
        erased: None,
        deferred: Vec::new(),
    }
}
