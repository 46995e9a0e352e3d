//! Postbacks that name no click: the known conversion of their transaction says which it is, or
//! else their customer's binding. A customer may have bought by another click than it is bound to.

use super::answer::Answer;
use super::decide::{Bound, Named};
use super::flow::{PostbackRequest, Postbacks};
use super::hints;
use super::mapping::Fields;
use super::placeholder::refuse_unresolved;
use super::sender::Sender;
use crate::catalog::{Advertiser, Catalog};
use crate::click_id::RecordId;
use crate::dedup::{Claim, Receipt};
use crate::limits::REVERSED_EVENTS_TRIED_MAX;
use crate::model::fields::Field;
use crate::model::ids::ID_BYTES_MAX;
use crate::store::ReadError;
use crate::store::engine::Lookup;

/// What is named instead of a click. An advertiser's customers and transactions are its own, so
/// the path must say who sends.
struct Instead<'a> {
    advertiser: &'a Advertiser,
    customer: Option<Claim<'a>>,
    /// Of which event, and which transaction.
    transaction: Option<(&'a str, &'a str)>,
}

impl<'a> Instead<'a> {
    fn of(fields: &'a Fields<'_>, sender: &Sender<'a>, catalog: &'a Catalog) -> Option<Self> {
        if fields.get(Field::ClickId).is_some() {
            return None;
        }
        let advertiser = sender.advertiser?;
        let given = |field| fields.get(field).filter(|text: &&str| !text.is_empty());
        let customer = given(Field::CustomerId).map(|customer_id| Claim::Customer {
            advertiser: &advertiser.id,
            customer_id,
            windows: Some(catalog),
        });
        let event = match given(Field::Event) {
            Some(theirs) => Some(advertiser.event_name(theirs)),
            None => advertiser.default_event.as_deref(),
        };
        // A sender's word may be longer than any event's ID is.
        let event = event.filter(|event| event.len() <= ID_BYTES_MAX);
        let transaction = event.zip(given(Field::TxnId));
        let is_any = customer.is_some() || transaction.is_some();
        is_any.then_some(Self { advertiser, customer, transaction })
    }

    /// The transactions that may be meant, with the event that each is taken back by, if it is.
    fn transactions(
        &self,
        catalog: &'a Catalog,
    ) -> impl Iterator<Item = (Claim<'a>, Option<&'a str>)> {
        let advertiser = self.advertiser;
        self.transaction.into_iter().flat_map(move |(event, txn_id)| {
            let reversed = catalog.reversed_by(&advertiser.id, event);
            let reversed = reversed.take(REVERSED_EVENTS_TRIED_MAX);
            let all = reversed.map(move |meant| (meant, Some(event))).chain([(event, None)]);
            all.map(move |(event, by)| {
                (Claim::Transaction { advertiser: &advertiser.id, event, txn_id }, by)
            })
        })
    }
}

impl Postbacks {
    /// What is named instead of a click; [`Lookup::Absent`] if a click is named, or nothing that
    /// is known; [`Lookup::Unknown`] if memory cannot tell.
    pub(super) fn bound_now(
        &self,
        fields: &Fields<'_>,
        sender: &Sender<'_>,
        catalog: &Catalog,
        now_ms: u64,
    ) -> Result<Lookup<Bound>, Answer> {
        let Some(instead) = Instead::of(fields, sender, catalog) else {
            return Ok(Lookup::Absent);
        };
        refuse_unresolved(fields, sender)?;
        for (claim, _) in instead.transactions(catalog) {
            let is_absent = !self.dedup.is_pending(&claim)
                && self.dedup.known(&claim, Receipt::Now(now_ms)).is_none()
                && matches!(self.store.find_claim_now(&claim)?, Lookup::Absent);
            if !is_absent {
                return Ok(Lookup::Unknown);
            }
        }
        match &instead.customer {
            Some(customer) => self.click_of_customer_now(customer, now_ms),
            None => Ok(Lookup::Absent),
        }
    }

    /// As [`Postbacks::bound_now`], whatever has to be waited for, and also if the customer's
    /// window is over.
    pub(super) async fn bound(
        &self,
        fields: &Fields<'_>,
        sender: &Sender<'_>,
        catalog: &Catalog,
        request: &PostbackRequest<'_>,
    ) -> Result<Option<Bound>, Answer> {
        let Some(instead) = Instead::of(fields, sender, catalog) else { return Ok(None) };
        refuse_unresolved(fields, sender)?;
        if let Some(click) = self.click_of_transaction(&instead, catalog, request.receipt()).await?
        {
            let click = self.keyring.sign(click);
            return Ok(Some(Bound { click, named: Named::Transaction }));
        }
        let Some(customer) = &instead.customer else { return Ok(None) };
        match self.click_of_customer(customer, request).await? {
            Some(bound) => Ok(Some(bound)),
            None => Err(hints::unknown_customer(fields, sender, &self.keyring).into()),
        }
    }

    /// The click of the conversion that has the transaction, or that it takes back.
    async fn click_of_transaction(
        &self,
        instead: &Instead<'_>,
        catalog: &Catalog,
        receipt: Receipt,
    ) -> Result<Option<RecordId>, Answer> {
        for (claim, taken_back_by) in instead.transactions(catalog) {
            let known = self.dedup.find_settled(&self.store, claim, receipt).await?;
            let Some(known) = known else { continue };
            let Some(stored) = self.store.conversion(known.conversion).await? else { continue };
            let record = stored.record().map_err(ReadError::from)?;
            // Another offer's event of this name may take back others.
            let offer = catalog.offer_by_number(known.conversion.offer());
            let is_meant = taken_back_by.is_none_or(|by| {
                let event = offer.and_then(|offer| offer.event(by));
                event.is_some_and(|by| by.reverses.iter().any(|meant| **meant == *record.event))
            });
            if is_meant {
                return Ok(Some(RecordId::from_bytes(record.click)));
            }
        }
        Ok(None)
    }
}
