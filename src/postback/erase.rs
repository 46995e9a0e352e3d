//! Erasing what is known of a person: of a click's visitor, or of an advertiser's customer. What
//! money needs stays: each conversion with its amounts, its history and the keys of its claims.
//!
//! A click is erased with its conversions; a customer with all conversions that name it, their
//! clicks, and what else happened on these, unless it names another customer; and what the log of
//! postbacks as received has of all that (`log`). Whoever erases a conversion holds its claims, as
//! whoever changes one does; those of a page are on their way to the disk at the same time. Erasing
//! twice changes nothing, so what a crash has cut short is simply done again, and so is a step for
//! which the store had no room.

mod log;

use std::collections::{BTreeSet, HashMap, HashSet};

use super::flow::Postbacks;
use super::update::status_of;
use crate::click_id::RecordId;
use crate::dedup::{Changing, ClaimSet};
use crate::limits::{
    ERASED_AT_ONCE_MAX, ERASED_CLICKS_AT_ONCE_MAX, ERASED_CLICKS_KEPT_MAX,
    ERASED_LOOKED_FOR_AT_ONCE_MAX, ERASURE_AGAIN_AFTER, ERASURE_DAMAGED_NAMED_MAX,
    ERASURE_PASSES_MAX, ERASURE_TRIES_MAX,
};
use crate::model::hex::hex;
use crate::model::reasons::Flag;
use crate::store::keys::{self, DedupeKey, RecordKey, Subject};
use crate::store::records::ConversionRecord;
use crate::store::schema::Table;
use crate::store::ticket::Outcome;
use crate::store::{
    ChangeError, ClickErasure, ConversionChange, ErasedClicks, FoundInbound, Page, ReadError,
    StoredConversion, SubmitError, Touched,
};

/// What was erased, or would be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Erased {
    /// Clicks.
    pub clicks: u64,
    /// Conversions.
    pub conversions: u64,
    /// The first records that do not decode, which may have been of the person, too.
    pub damaged: BTreeSet<DamagedRecord>,
}

/// A record that does not decode. Pages of postbacks were emptied, sums by `sub1` removed; others
/// are as they were.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DamagedRecord {
    /// Its table.
    pub table: Table,
    /// Its key: a conversion's ID, or hex digits.
    pub key: String,
}

/// Which conversions of a click are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    /// All of them.
    Everybodys,
    /// Those that name no customer: whoever goes over a customer has those that name it.
    Nobodys,
}

/// An erasure under way.
struct Erasing<'p> {
    postbacks: &'p Postbacks,
    subject: Subject,
    /// When each conversion is said to have been erased, Unix milliseconds; `None`: nothing is.
    at_ms: Option<u64>,
    erased: Erased,
    /// Postbacks as received.
    arrivals: u64,
    touched: Touched,
    /// Clicks that need not be looked at again.
    seen: HashSet<RecordId>,
    /// Clicks whose records are still to be erased.
    clicks: Vec<RecordId>,
    /// For how many steps of a conversion the postbacks were looked for that made them.
    looked_for: HashMap<RecordId, usize>,
    /// Clicks whose postbacks are still to be looked for.
    named: HashSet<RecordId>,
    /// Postbacks that are still to be blanked.
    found: FoundInbound,
}

impl Postbacks {
    /// Erases what is known of a person. What is left of it in files has then to be written out:
    /// [`Store::purge`].
    ///
    /// What arrives before this ends is erased with the rest, for as long as there is an end: what
    /// arrives later is new. A record that does not decode is named, and does not keep the others.
    /// `again` if it was begun before and may have been cut short.
    ///
    /// # Errors
    /// When the store cannot be read or written; what was erased before stays so.
    ///
    /// [`Store::purge`]: crate::store::Store::purge
    pub async fn erase(
        &self,
        subject: Subject,
        now_ms: u64,
        again: bool,
    ) -> Result<(Erased, Touched), ChangeError> {
        let mut erasing = Erasing::new(self, subject, Some(now_ms));
        for _ in 0..ERASURE_PASSES_MAX {
            let before = erasing.done();
            patiently(async || self.store.all_appended().await).await?;
            erasing.pass().await?;
            if erasing.done() == before {
                break;
            }
        }
        if let Subject::Customer(customer) = subject {
            patiently(async || self.store.all_appended().await).await?;
            erasing.log(customer, again).await?;
        }
        Ok((erasing.erased, erasing.touched))
    }

    /// What [`Postbacks::erase`] would erase.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn would_erase(&self, subject: Subject) -> Result<Erased, ChangeError> {
        let mut erasing = Erasing::new(self, subject, None);
        erasing.pass().await?;
        Ok(erasing.erased)
    }

    /// Has the texts of a conversion erased; `None` if that was done before, or it is gone.
    async fn erase_conversion(
        &self,
        id: RecordId,
        now_ms: u64,
    ) -> Result<Option<Changing>, ChangeError> {
        let Some((claims, Some(stored))) = self.hold_as_is([id]).await?.pop() else {
            return Ok(None);
        };
        let before = stored.record()?;
        if before.is_erased() {
            return Ok(None);
        }
        if self.store.health().is_disk_full() {
            return Err(SubmitError::DiskFull.into());
        }
        let after = before.erased(now_ms);
        let changing =
            claims.submit_erasure(&ClaimSet::to_change(&before), status_of(&after)?, |ticket| {
                let change = ConversionChange { conversion: id, before: &before, after: &after };
                self.store.change_conversion(change, None, ticket)
            })?;
        // At once: the next one may be claimed by the same, and wait for it.
        self.store.writer().flush();
        Ok(Some(changing))
    }

    /// Erases clicks' records.
    async fn erase_clicks(&self, clicks: &[RecordId]) -> Result<ErasedClicks, ChangeError> {
        loop {
            let (ticket, erased) = match self.store.erase_clicks(clicks)? {
                ClickErasure::Begun(None, erased) => return Ok(erased),
                ClickErasure::Begun(Some(ticket), erased) => (ticket, Some(erased)),
                ClickErasure::Later(Some(ticket)) => (ticket, None),
                ClickErasure::Later(None) => {
                    tokio::time::sleep(ERASURE_AGAIN_AFTER).await;
                    continue;
                }
            };
            self.store.writer().flush();
            match (ticket.settled().await, erased) {
                (Outcome::Durable, Some(erased)) => return Ok(erased),
                (Outcome::Durable, None) => {}
                (Outcome::NotDone | Outcome::Unknown, _) => return Err(ChangeError::NotDurable),
            }
        }
    }
}

impl<'p> Erasing<'p> {
    fn new(postbacks: &'p Postbacks, subject: Subject, at_ms: Option<u64>) -> Self {
        Self {
            postbacks,
            subject,
            at_ms,
            erased: Erased::default(),
            arrivals: 0,
            touched: Touched::default(),
            seen: HashSet::new(),
            clicks: Vec::new(),
            looked_for: HashMap::new(),
            named: HashSet::new(),
            found: FoundInbound::default(),
        }
    }

    const fn done(&self) -> (u64, u64, u64) {
        (self.erased.clicks, self.erased.conversions, self.arrivals)
    }

    /// Goes over all that there is of a person.
    async fn pass(&mut self) -> Result<(), ChangeError> {
        self.seen.clear();
        match self.subject {
            Subject::Click(click) => self.visit(click, Whose::Everybodys).await?,
            Subject::Customer(customer) => {
                if let Some(click) = self.bound(customer).await? {
                    self.visit(click, Whose::Nobodys).await?;
                }
                self.customer(customer).await?;
            }
        }
        self.erase_clicks().await?;
        self.by_clicks().await
    }

    /// The click that a customer is bound to.
    async fn bound(&mut self, customer: DedupeKey) -> Result<Option<RecordId>, ChangeError> {
        let store = &self.postbacks.store;
        let bound = patiently(async || store.binding_by_key(customer).await).await;
        let bound = self.unless_damaged(bound, Table::Customers, || hex(&customer.0))?;
        Ok(bound.flatten().map(|binding| binding.click))
    }

    /// The conversions that name a customer, and their clicks.
    async fn customer(&mut self, customer: DedupeKey) -> Result<(), ChangeError> {
        let (of, mut from) = (Subject::Customer(customer), None);
        loop {
            let page = self.page(of, from).await?;
            let meant = self.all_readable(&page);
            self.conversions(&meant).await?;
            for (_, record) in &meant {
                self.visit(RecordId::from_bytes(record.click), Whose::Nobodys).await?;
            }
            match page.next {
                Some(last) => from = Some(keys::after(last)),
                None => return Ok(()),
            }
        }
    }

    /// A click and those of its conversions that are meant.
    async fn visit(&mut self, click: RecordId, whose: Whose) -> Result<(), ChangeError> {
        if self.seen.len() >= ERASED_CLICKS_KEPT_MAX {
            self.seen.clear();
        }
        if !self.seen.insert(click) {
            return Ok(());
        }
        let (of, mut from) = (Subject::Click(click), None);
        loop {
            let page = self.page(of, from).await?;
            let mut meant = self.all_readable(&page);
            meant.retain(|(_, record)| {
                whose == Whose::Everybodys || record.customer_key().is_none()
            });
            self.conversions(&meant).await?;
            match page.next {
                Some(last) => from = Some(keys::after(last)),
                None => break,
            }
        }
        self.click(click).await
    }

    async fn page(
        &self,
        of: Subject,
        from: Option<RecordKey>,
    ) -> Result<Page<StoredConversion>, ChangeError> {
        let store = &self.postbacks.store;
        patiently(async || store.conversions_from(of, from, ERASED_AT_ONCE_MAX).await).await
    }

    /// Conversions of a page, and the postbacks that made and changed them.
    async fn conversions(
        &mut self,
        meant: &[(RecordId, ConversionRecord<'_>)],
    ) -> Result<(), ChangeError> {
        let left = meant.iter().filter(|(_, record)| !record.is_erased()).map(|(id, _)| *id);
        let Some(now_ms) = self.at_ms else {
            self.erased.conversions += left.count() as u64;
            return Ok(());
        };
        self.erase_each(left, now_ms).await?;
        for some in meant.chunks(ERASED_LOOKED_FOR_AT_ONCE_MAX) {
            self.behind(some).await?;
        }
        for (id, record) in meant {
            // Also if it is erased already: a crash may have come before it was written out.
            self.touched.conversion(*id);
            self.look_for(RecordId::from_bytes(record.click)).await?;
        }
        Ok(())
    }

    /// Erases conversions, and waits for the disk once all are on their way.
    async fn erase_each(
        &mut self,
        conversions: impl Iterator<Item = RecordId>,
        now_ms: u64,
    ) -> Result<(), ChangeError> {
        let (mut on_their_way, mut failed) = (Vec::with_capacity(ERASED_AT_ONCE_MAX), None);
        for id in conversions {
            let postbacks = self.postbacks;
            let begun = patiently(async || postbacks.erase_conversion(id, now_ms).await).await;
            match self.unless_damaged(begun, Table::Conversions, || id.to_text().to_string()) {
                Ok(begun) => on_their_way.extend(begun.flatten()),
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        for changing in on_their_way {
            match changing.settled().await {
                Outcome::Durable => self.erased.conversions += 1,
                Outcome::NotDone | Outcome::Unknown => failed = Some(ChangeError::NotDurable),
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// A click's record, which is erased with those of other clicks.
    async fn click(&mut self, click: RecordId) -> Result<(), ChangeError> {
        if self.at_ms.is_none() {
            let store = &self.postbacks.store;
            let flags = patiently(async || store.click_flags(click).await).await?;
            let is_left = flags.is_some_and(|flags| flags & Flag::Erased.bit() == 0);
            self.erased.clicks += u64::from(is_left);
            return Ok(());
        }
        self.touched.click(click);
        self.clicks.push(click);
        if self.clicks.len() >= ERASED_CLICKS_AT_ONCE_MAX {
            self.erase_clicks().await?;
        }
        self.look_for(click).await
    }

    async fn erase_clicks(&mut self) -> Result<(), ChangeError> {
        let (postbacks, clicks) = (self.postbacks, std::mem::take(&mut self.clicks));
        if clicks.is_empty() {
            return Ok(());
        }
        let erased = patiently(async || postbacks.erase_clicks(&clicks).await).await?;
        self.erased.clicks += erased.clicks;
        for click in erased.damaged {
            self.damaged(Table::Clicks, hex(click.as_bytes()));
        }
        for sums in erased.damaged_sums {
            self.damaged(Table::Counters, hex(&sums));
        }
        Ok(())
    }

    /// The records of a page that decode.
    fn all_readable<'s>(
        &mut self,
        page: &'s Page<StoredConversion>,
    ) -> Vec<(RecordId, ConversionRecord<'s>)> {
        let rows = page.rows.iter();
        rows.filter_map(|stored| Some((stored.id, self.readable(stored)?))).collect()
    }

    /// The record of a conversion; one that does not decode is named.
    fn readable<'s>(&mut self, stored: &'s StoredConversion) -> Option<ConversionRecord<'s>> {
        let record = stored.record();
        if record.is_err() {
            self.damaged(Table::Conversions, stored.id.to_text().to_string());
        }
        record.ok()
    }

    fn unless_damaged<T>(
        &mut self,
        done: Result<T, ChangeError>,
        table: Table,
        key: impl FnOnce() -> String,
    ) -> Result<Option<T>, ChangeError> {
        match done {
            Err(ChangeError::Read(ReadError::Record(_))) => {
                self.damaged(table, key());
                Ok(None)
            }
            done => done.map(Some),
        }
    }

    fn damaged(&mut self, table: Table, key: String) {
        if self.erased.damaged.len() < ERASURE_DAMAGED_NAMED_MAX {
            self.erased.damaged.insert(DamagedRecord { table, key });
        }
    }
}

/// Takes a step again and again, for a while, as long as the store has no room for it: an erasure
/// that gave up would have to begin anew.
///
/// # Errors
/// What the step fails with otherwise, or at last.
pub async fn patiently<T, E>(mut step: impl AsyncFnMut() -> Result<T, E>) -> Result<T, ChangeError>
where
    ChangeError: From<E>,
{
    for _ in 1..ERASURE_TRIES_MAX {
        match step().await.map_err(ChangeError::from) {
            Err(ChangeError::Read(ReadError::Busy(_)) | ChangeError::Submit(SubmitError::Full)) => {
                tokio::time::sleep(ERASURE_AGAIN_AFTER).await
            }
            done => return done,
        }
    }
    Ok(step().await?)
}
