//! Erasing what is known of a person: of a click's visitor, or of an advertiser's customer. What
//! money needs stays: each conversion with its amounts, its history and the keys of its claims.
//!
//! A click is erased with its conversions; a customer with all conversions that name it, their
//! clicks, and what else happened on these, unless it names another customer. Whoever erases a
//! conversion holds its claims, as whoever changes one does. Erasing twice changes nothing, so
//! what a crash has cut short is simply done again.

use std::collections::HashSet;

use super::flow::Postbacks;
use super::update::{ChangeError, status_of};
use crate::click_id::RecordId;
use crate::dedup::ClaimSet;
use crate::limits::{
    ERASED_AT_ONCE_MAX, ERASED_CLICKS_KEPT_MAX, ERASURE_AGAIN_AFTER, ERASURE_PASSES_MAX,
};
use crate::model::reasons::Flag;
use crate::store::keys::{self, DedupeKey, Subject};
use crate::store::records::ConversionRecord;
use crate::store::ticket::Outcome;
use crate::store::{
    ClickErasure, ConversionChange, EraseError, StoredInbound, SubmitError, Touched,
};

/// What was erased, or would be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Erased {
    /// Clicks.
    pub clicks: u64,
    /// Conversions.
    pub conversions: u64,
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
    /// When each conversion is said to have been erased, Unix milliseconds; `None`: nothing is.
    at_ms: Option<u64>,
    erased: Erased,
    /// Postbacks as received.
    arrivals: u64,
    touched: Touched,
    /// Clicks that need not be looked at again.
    seen: HashSet<RecordId>,
}

impl Postbacks {
    /// Erases what is known of a person. What is left of it in files has then to be written out:
    /// [`Store::purge`].
    ///
    /// What arrives before this ends is erased with the rest, for as long as there is an end: what
    /// arrives later is new.
    ///
    /// # Errors
    /// When the store cannot be read or written; what was erased before stays so.
    ///
    /// [`Store::purge`]: crate::store::Store::purge
    pub async fn erase(
        &self,
        subject: Subject,
        now_ms: u64,
    ) -> Result<(Erased, Touched), ChangeError> {
        let mut erasing = Erasing::new(self, Some(now_ms));
        for _ in 0..ERASURE_PASSES_MAX {
            let before = (erasing.erased, erasing.arrivals);
            self.store.all_appended().await.map_err(EraseError::from)?;
            erasing.pass(subject).await?;
            if (erasing.erased, erasing.arrivals) == before {
                break;
            }
        }
        Ok((erasing.erased, erasing.touched))
    }

    /// What [`Postbacks::erase`] would erase.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn would_erase(&self, subject: Subject) -> Result<Erased, ChangeError> {
        let mut erasing = Erasing::new(self, None);
        erasing.pass(subject).await?;
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
    fn new(postbacks: &'p Postbacks, at_ms: Option<u64>) -> Self {
        let (touched, seen) = (Touched::default(), HashSet::new());
        Self { postbacks, at_ms, erased: Erased::default(), arrivals: 0, touched, seen }
    }

    /// Goes over all that there is of a person.
    async fn pass(&mut self, subject: Subject) -> Result<(), ChangeError> {
        self.seen.clear();
        match subject {
            Subject::Click(click) => self.visit(click, Whose::Everybodys).await,
            Subject::Customer(customer) => {
                let bound = self.postbacks.store.binding_by_key(customer).await?;
                if let Some(binding) = bound {
                    self.visit(binding.click, Whose::Nobodys).await?;
                }
                self.customer(customer).await
            }
        }
    }

    /// The conversions that name a customer, and their clicks.
    async fn customer(&mut self, customer: DedupeKey) -> Result<(), ChangeError> {
        let (of, mut from) = (Subject::Customer(customer), None);
        loop {
            let store = &self.postbacks.store;
            let page = store.conversions_from(of, from, ERASED_AT_ONCE_MAX).await?;
            for stored in &page.rows {
                let record = stored.record()?;
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
                let record = stored.record()?;
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
        if !is_erased && self.postbacks.erase_conversion(id, now_ms).await? {
            self.erased.conversions += 1;
        }
        let (store, click) = (&self.postbacks.store, RecordId::from_bytes(record.click));
        let mut found = store.inbound_of_conversion(id, record.steps_by_postback_ms()).await?;
        self.arrivals(&found).await?;
        found = store.inbound_of_click(click, now_ms).await?;
        self.arrivals_of(found, Some(id)).await
    }

    /// Of postbacks that made nothing those that repeated a conversion, or none.
    async fn arrivals_of(
        &mut self,
        mut found: Vec<StoredInbound>,
        conversion: Option<RecordId>,
    ) -> Result<(), ChangeError> {
        let wanted = conversion.map(|id| *id.as_bytes());
        found.retain(|stored| stored.row().is_ok_and(|row| row.head.conversion == wanted));
        self.arrivals(&found).await
    }

    async fn arrivals(&mut self, found: &[StoredInbound]) -> Result<(), ChangeError> {
        found.iter().for_each(|stored| self.touched.inbound(&stored.id.page));
        self.arrivals += self.postbacks.store.erase_inbound(found).await?;
        Ok(())
    }

    async fn click(&mut self, click: RecordId) -> Result<(), ChangeError> {
        let Some(now_ms) = self.at_ms else {
            let flags = self.postbacks.store.click_flags(click).await?;
            let is_left = flags.is_some_and(|flags| flags & Flag::Erased.bit() == 0);
            self.erased.clicks += u64::from(is_left);
            return Ok(());
        };
        self.touched.click(click);
        self.erased.clicks += u64::from(self.postbacks.erase_click(click).await?);
        let found = self.postbacks.store.inbound_of_click(click, now_ms).await?;
        self.arrivals_of(found, None).await
    }
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
