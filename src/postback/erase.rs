//! Erasing what is known of a person: of a click's visitor, or of an advertiser's customer. What
//! money needs stays: each conversion with its amounts, its history and the keys of its claims.
//!
//! A click is erased with its conversions; a customer with all conversions that name it, their
//! clicks, and what else happened on these, unless it names another customer. Whoever erases a
//! conversion holds its claims, as whoever changes one does. Erasing twice changes nothing, so
//! what a crash has cut short is simply done again.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::flow::{PostbackRequest, Postbacks};
use super::mapping::Fields;
use super::sender::Sender;
use super::update::{ChangeError, status_of};
use crate::catalog::Catalog;
use crate::click_id::RecordId;
use crate::dedup::{Claim, ClaimSet};
use crate::limits::{
    ERASED_AT_ONCE_MAX, ERASED_CLICKS_KEPT_MAX, ERASURE_AGAIN_AFTER, ERASURE_DAMAGED_NAMED_MAX,
    ERASURE_PASSES_MAX, PAGE_ROWS_MAX, REPROCESS_REST,
};
use crate::model::fields::Field;
use crate::model::reasons::{Flag, PostbackResult};
use crate::store::keys::{self, DedupeKey, Subject, hex};
use crate::store::records::{ConversionRecord, InboundRow, inbound_flags};
use crate::store::schema::Table;
use crate::store::ticket::Outcome;
use crate::store::{
    ClickErasure, ConversionChange, EraseError, FoundInbound, ReadError, StoredConversion,
    SubmitError, Touched,
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

/// A record that does not decode. Pages of postbacks were emptied, others are as they were.
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
            self.store.all_appended().await.map_err(EraseError::from)?;
            erasing.pass().await?;
            if erasing.done() == before {
                break;
            }
        }
        if let Subject::Customer(customer) = subject {
            self.store.all_appended().await.map_err(EraseError::from)?;
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

    /// Erases the texts of a conversion; false if that was done before, or it is gone.
    async fn erase_conversion(&self, id: RecordId, now_ms: u64) -> Result<bool, ChangeError> {
        let Some((claims, Some(stored))) = self.hold_as_is([id]).await?.pop() else {
            return Ok(false);
        };
        let before = stored.record()?;
        if before.is_erased() {
            return Ok(false);
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
        self.store.writer().flush();
        match changing.settled().await {
            Outcome::Durable => Ok(true),
            Outcome::NotDone | Outcome::Unknown => Err(ChangeError::NotDurable),
        }
    }

    /// Erases a click's record; false if that was done before, or it is not there.
    async fn erase_click(&self, click: RecordId) -> Result<bool, ChangeError> {
        loop {
            let (ticket, is_ours) = match self.store.erase_click(click)? {
                ClickErasure::Absent | ClickErasure::Erased => return Ok(false),
                ClickErasure::Submitted(ticket) => (ticket, true),
                ClickErasure::Later(Some(ticket)) => (ticket, false),
                ClickErasure::Later(None) => {
                    tokio::time::sleep(ERASURE_AGAIN_AFTER).await;
                    continue;
                }
            };
            self.store.writer().flush();
            match ticket.settled().await {
                Outcome::Durable if is_ours => return Ok(true),
                Outcome::Durable => {}
                Outcome::NotDone | Outcome::Unknown => return Err(ChangeError::NotDurable),
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
                let bound = self.postbacks.store.binding_by_key(customer).await?;
                if let Some(binding) = bound {
                    self.visit(binding.click, Whose::Nobodys).await?;
                }
                self.customer(customer).await?;
            }
        }
        self.by_clicks().await
    }

    /// The conversions that name a customer, and their clicks.
    async fn customer(&mut self, customer: DedupeKey) -> Result<(), ChangeError> {
        let (of, mut from) = (Subject::Customer(customer), None);
        loop {
            let store = &self.postbacks.store;
            let page = store.conversions_from(of, from, ERASED_AT_ONCE_MAX).await?;
            for stored in &page.rows {
                let Some(record) = self.readable(stored) else { continue };
                self.conversion(stored.id, &record).await?;
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
            let store = &self.postbacks.store;
            let page = store.conversions_from(of, from, ERASED_AT_ONCE_MAX).await?;
            for stored in &page.rows {
                let Some(record) = self.readable(stored) else { continue };
                if whose == Whose::Everybodys || record.customer_key().is_none() {
                    self.conversion(stored.id, &record).await?;
                }
            }
            match page.next {
                Some(last) => from = Some(keys::after(last)),
                None => break,
            }
        }
        self.click(click).await
    }

    async fn conversion(
        &mut self,
        id: RecordId,
        record: &ConversionRecord<'_>,
    ) -> Result<(), ChangeError> {
        let is_erased = record.is_erased();
        let Some(now_ms) = self.at_ms else {
            self.erased.conversions += u64::from(!is_erased);
            return Ok(());
        };
        // Also if it is erased already: a crash may have come before it was written out.
        self.touched.conversion(id);
        if !is_erased {
            let done = self.postbacks.erase_conversion(id, now_ms).await;
            let key = || id.to_text().to_string();
            self.erased.conversions += self.unless_damaged(done, Table::Conversions, key)?;
        }
        let (store, steps_ms) = (&self.postbacks.store, record.steps_by_postback_ms());
        self.found.extend(store.inbound_of_conversion(id, steps_ms).await?);
        if self.found.rows.len() >= ERASED_AT_ONCE_MAX {
            self.blank().await?;
        }
        self.look_for(RecordId::from_bytes(record.click)).await
    }

    async fn click(&mut self, click: RecordId) -> Result<(), ChangeError> {
        if self.at_ms.is_none() {
            let flags = self.postbacks.store.click_flags(click).await?;
            let is_left = flags.is_some_and(|flags| flags & Flag::Erased.bit() == 0);
            self.erased.clicks += u64::from(is_left);
            return Ok(());
        }
        self.touched.click(click);
        let done = self.postbacks.erase_click(click).await;
        let key = || hex(click.as_bytes());
        self.erased.clicks += self.unless_damaged(done, Table::Clicks, key)?;
        self.look_for(click).await
    }

    /// Has the postbacks that name a click looked for: once, however many conversions it has.
    async fn look_for(&mut self, click: RecordId) -> Result<(), ChangeError> {
        self.named.insert(click);
        match self.named.len() < ERASED_CLICKS_KEPT_MAX {
            true => Ok(()),
            false => self.by_clicks().await,
        }
    }

    /// The postbacks that made nothing and name a click: those that were refused, and those that
    /// repeated a conversion which is meant.
    async fn by_clicks(&mut self) -> Result<(), ChangeError> {
        let store = &self.postbacks.store;
        for click in std::mem::take(&mut self.named) {
            let Some(now_ms) = self.at_ms else { break };
            let mut found = store.inbound_of_click(click, now_ms).await?;
            let rows = std::mem::take(&mut found.rows);
            self.found.extend(found);
            let mut judged = HashMap::new();
            for stored in rows {
                let is_meant = match stored.row()?.head.conversion {
                    None => true,
                    Some(id) => match judged.get(&id) {
                        Some(is_meant) => *is_meant,
                        None => {
                            let is_meant = self.means(RecordId::from_bytes(id)).await?;
                            judged.insert(id, is_meant);
                            is_meant
                        }
                    },
                };
                if is_meant {
                    self.found.rows.push(stored);
                }
            }
            if self.found.rows.len() >= ERASED_AT_ONCE_MAX {
                self.blank().await?;
            }
        }
        self.blank().await
    }

    /// Whether a conversion of a click that is looked at is one that is erased with it.
    async fn means(&self, conversion: RecordId) -> Result<bool, ChangeError> {
        let Subject::Customer(customer) = self.subject else { return Ok(true) };
        let stored = self.postbacks.store.conversion(conversion).await?;
        let record = stored.as_ref().map(|stored| stored.record());
        let Some(Ok(record)) = record else { return Ok(false) };
        Ok(record.customer_key().is_none_or(|named| named == customer))
    }

    /// Postbacks that made nothing and name a customer, whatever click they name: the log is
    /// looked through as a whole. Where one was blanked before, what was cut short has to be
    /// written out.
    async fn log(&mut self, customer: DedupeKey, again: bool) -> Result<(), ChangeError> {
        let (catalog, mut after) = (self.postbacks.catalog.load_full(), None);
        loop {
            let catalog = Arc::clone(&catalog);
            let filter = Arc::new(move |row: &InboundRow<'_>| match row.head.result() {
                Some(PostbackResult::Refused | PostbackResult::Duplicate) => {
                    let is_blank = row.flags & inbound_flags::ERASED != 0;
                    if is_blank { again } else { names(row, customer, &catalog) }
                }
                _ => false,
            });
            let store = &self.postbacks.store;
            let page = store.inbound(0, u64::MAX, after, PAGE_ROWS_MAX, filter).await?;
            self.found.rows = page.rows;
            self.found.damaged.extend(page.damaged);
            self.found.emptied.extend(page.emptied);
            self.blank().await?;
            after = page.next;
            if after.is_none() {
                return Ok(());
            }
            tokio::time::sleep(REPROCESS_REST).await;
        }
    }

    /// Blanks what was found. What does not decode may be of the person, and tells nobody
    /// anything.
    async fn blank(&mut self) -> Result<(), ChangeError> {
        let FoundInbound { rows, damaged, emptied } = std::mem::take(&mut self.found);
        let store = &self.postbacks.store;
        // Those that were emptied before, too: a crash may have come before they were written out.
        emptied.iter().for_each(|page| self.touched.inbound(page));
        rows.iter().for_each(|stored| self.touched.inbound(&stored.id.page));
        self.arrivals += store.erase_inbound(&rows).await?;
        for page in damaged {
            if store.empty_inbound(page).await? {
                self.touched.inbound(&page);
            }
            self.damaged(Table::Inbound, hex(&keys::inbound_page(&page)));
        }
        Ok(())
    }

    /// The record of a conversion; one that does not decode is named.
    fn readable<'s>(&mut self, stored: &'s StoredConversion) -> Option<ConversionRecord<'s>> {
        let record = stored.record();
        if record.is_err() {
            self.damaged(Table::Conversions, stored.id.to_text().to_string());
        }
        record.ok()
    }

    fn unless_damaged(
        &mut self,
        done: Result<bool, ChangeError>,
        table: Table,
        key: impl FnOnce() -> String,
    ) -> Result<u64, ChangeError> {
        match done {
            Err(ChangeError::Read(ReadError::Record(_))) => {
                self.damaged(table, key());
                Ok(0)
            }
            done => done.map(u64::from),
        }
    }

    fn damaged(&mut self, table: Table, key: String) {
        if self.erased.damaged.len() < ERASURE_DAMAGED_NAMED_MAX {
            self.erased.damaged.insert(DamagedRecord { table, key });
        }
    }
}

/// Whether a postback names a customer of the advertiser that it spoke for, by the names of today.
fn names(row: &InboundRow<'_>, customer: DedupeKey, catalog: &Catalog) -> bool {
    let request = PostbackRequest::of_the_log(row, None);
    let sender = Sender::at_or_nobody(request.address, catalog);
    let mut fields = Fields::default();
    // One that was refused for how it was put has been read as far as it goes.
    let _ = fields.read(&sender, &request);
    fields.get(Field::CustomerId).is_some_and(|customer_id| {
        let advertiser = row.head.advertiser;
        Claim::Customer { advertiser, customer_id, windows: None }.store_key() == customer
    })
}

impl From<EraseError> for ChangeError {
    fn from(error: EraseError) -> Self {
        match error {
            EraseError::Read(error) => error.into(),
            EraseError::Submit(error) => error.into(),
            EraseError::NotDurable => Self::NotDurable,
        }
    }
}
