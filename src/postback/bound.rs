//! Postbacks that name no click: the known conversion of their transaction says which it is, or
//! else their customer's binding. A customer may have bought by another click than it is bound to;
//! but numbers of several tables may be the same, so that without an event's name a transaction of
//! somebody else is not the customer's.

use std::iter;

use super::answer::Answer;
use super::decide::{Bound, Named};
use super::flow::{PostbackRequest, Postbacks};
use super::hints;
use super::mapping::Fields;
use super::placeholder::refuse_unresolved;
use super::reversal::rank;
use super::sender::Sender;
use crate::catalog::{Advertiser, Catalog, Offer};
use crate::click_id::RecordId;
use crate::dedup::{Claim, Receipt};
use crate::limits::{REVERSED_EVENTS_TRIED_MAX, UNNAMED_EVENTS_TRIED_MAX};
use crate::model::fields::Field;
use crate::model::ids::ID_BYTES_MAX;
use crate::store::ReadError;
use crate::store::engine::Lookup;
use crate::store::records::ConversionRecord;

/// What is named instead of a click. An advertiser's customers and transactions are its own, so
/// the path must say who sends.
struct Instead<'a> {
    advertiser: &'a Advertiser,
    customer: Option<Claim<'a>>,
    /// Of which event, if one is named, and which transaction.
    transaction: Option<(Option<&'a str>, &'a str)>,
    /// A negative event's own ID.
    reversal_id: Option<&'a str>,
}

/// In which way a conversion may be meant that has a key.
#[derive(Clone, Copy)]
enum Way<'a> {
    /// As the one that the postback would be.
    Itself,
    /// As what this event takes back.
    TakenBack(&'a str),
    /// As the one that there is news of, if its offer knows its event as no negative one.
    Ordinary,
}

impl Way<'_> {
    /// The place of a conversion of this offer and event among those that may be meant in this way,
    /// if it may.
    fn place(self, offer: Option<&Offer>, event: &str) -> Option<usize> {
        match self {
            Self::Itself => Some(0),
            Self::TakenBack(by) => offer?.reverses(by, event),
            Self::Ordinary => (!offer?.event(event)?.is_negative()).then_some(0),
        }
    }
}

/// Whose a conversion is that has the transaction, best first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Whose {
    /// The customer's that is named, or whoever's if there is no doubt about it.
    TheSame,
    /// It names no customer.
    Nobodys,
    /// Another customer's.
    Anothers,
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
        let event = given(Field::Event).map(|theirs| advertiser.event_name(theirs));
        // A sender's word may be longer than any event's ID is.
        let is_one = event.is_none_or(|event| event.len() <= ID_BYTES_MAX);
        let may_be_any = || catalog.unnamed_events(&advertiser.id).nth(UNNAMED_EVENTS_TRIED_MAX);
        let is_one = is_one && (event.is_some() || may_be_any().is_none());
        let transaction = given(Field::TxnId).filter(|_| is_one).map(|txn_id| (event, txn_id));
        let is_any = customer.is_some() || transaction.is_some();
        let reversal_id = given(Field::ReversalId);
        is_any.then_some(Self { advertiser, customer, transaction, reversal_id })
    }

    /// Whose a conversion is by its customer.
    fn whose(&self, record: &ConversionRecord<'_>) -> Whose {
        let is_named = matches!(self.transaction, Some((Some(_), _)));
        match (&self.customer, record.customer_key()) {
            (Some(customer), Some(its)) if !is_named && its != customer.store_key() => {
                Whose::Anothers
            }
            (Some(_), None) if !is_named => Whose::Nobodys,
            _ => Whose::TheSame,
        }
    }

    /// What may be meant, and in which way: what it would be itself if it were sent before, then what
    /// it takes back. A negative event with its own ID may be an ordinary one in another offer.
    fn transactions(&self, catalog: &'a Catalog) -> impl Iterator<Item = (Claim<'a>, Way<'a>)> {
        let advertiser = self.advertiser;
        self.transaction.into_iter().flat_map(move |(named, txn_id)| {
            let unnamed = named.is_none().then(|| catalog.unnamed_events(&advertiser.id));
            let unnamed = unnamed.into_iter().flatten();
            named.into_iter().chain(unnamed).flat_map(move |event| {
                let advertiser = &*advertiser.id;
                let of = move |event| Claim::Transaction { advertiser, event, txn_id };
                let reversed = catalog.reversed_by(advertiser, event);
                let mut reversed = reversed.take(REVERSED_EVENTS_TRIED_MAX).peekable();
                let own_id = self.reversal_id.filter(|_| reversed.peek().is_some());
                let itself = own_id.map_or_else(
                    || of(event),
                    |reversal_id| Claim::Reversal { advertiser, event, reversal_id },
                );
                let ordinary = own_id.map(|_| (of(event), Way::Ordinary));
                let reversed = reversed.map(move |meant| (of(meant), Way::TakenBack(event)));
                iter::once((itself, Way::Itself)).chain(reversed).chain(ordinary)
            })
        })
    }

    /// Whether a postback of this offer that names no event, if this one does not, means `event`.
    fn may_mean(&self, offer: Option<&Offer>, event: &str) -> bool {
        let is_unnamed = matches!(self.transaction, Some((None, _)));
        let unnamed = offer.and_then(Offer::unnamed_event);
        !is_unnamed || unnamed.is_some_and(|unnamed| *unnamed.id == *event)
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
        let known = self.click_of_transaction(&instead, catalog, request.now_ms).await?;
        let by_transaction =
            |click| Bound { click: self.keyring.sign(click), named: Named::Transaction };
        if let Some((Whose::TheSame, click)) = known {
            return Ok(Some(by_transaction(click)));
        }
        let Some(customer) = &instead.customer else { return Ok(None) };
        match (self.click_of_customer(customer, request).await?, known) {
            (Some(bound), _) => Ok(Some(bound)),
            (None, Some((Whose::Nobodys, click))) => Ok(Some(by_transaction(click))),
            (None, _) => Err(hints::unknown_customer(fields, sender, &self.keyring).into()),
        }
    }

    /// The click of the conversion that has the transaction, or that it takes back: of several the
    /// one that is taken back first. Without the event's name, two clicks are one too many.
    async fn click_of_transaction(
        &self,
        instead: &Instead<'_>,
        catalog: &Catalog,
        now_ms: u64,
    ) -> Result<Option<(Whose, RecordId)>, Answer> {
        // The claim of a transaction does not end.
        let receipt = Receipt::Now(now_ms);
        let is_named = matches!(instead.transaction, Some((Some(_), _)));
        let mut found = Vec::new();
        for (claim, way) in instead.transactions(catalog) {
            let known = self.dedup.find_settled(&self.store, claim, receipt).await?;
            let Some(known) = known else { continue };
            let Some(stored) = self.store.conversion(known.conversion).await? else { continue };
            let record = stored.record().map_err(ReadError::from)?;
            let offer = catalog.offer_by_number(known.conversion.offer());
            let event = match way {
                Way::TakenBack(by) => by,
                Way::Itself | Way::Ordinary => record.event,
            };
            let may_be = instead.may_mean(offer, event);
            let place = way.place(offer, record.event).filter(|_| may_be);
            let Some(place) = place else { continue };
            let click = (instead.whose(&record), RecordId::from_bytes(record.click));
            match way {
                Way::Itself if is_named => return Ok(Some(click)),
                // What is taken back goes before.
                Way::Ordinary if is_named && !found.is_empty() => {}
                _ => found.push((rank(known.status), place, click)),
            }
        }
        if is_named {
            let first = found.into_iter().min_by_key(|(rank, place, _)| (*rank, *place));
            return Ok(first.map(|(.., click)| click));
        }
        let mut found: Vec<_> = found.into_iter().map(|(.., click)| click).collect();
        found.sort_unstable();
        found.dedup();
        Ok(match found[..] {
            [(best, _), (next, _), ..] if best == next => None,
            [best, ..] => Some(best),
            [] => None,
        })
    }
}
