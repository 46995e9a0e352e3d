//! Postbacks that name no click: the known conversion of their transaction says which it is, or
//! else their customer's binding. A customer may have bought by another click than it is bound to;
//! but numbers of several tables may be the same, so that without an event's name a transaction of
//! somebody else is not the customer's.

use super::answer::Answer;
use super::decide::{Bound, Named, Refused};
use super::flow::{PostbackRequest, Postbacks};
use super::hints;
use super::mapping::Fields;
use super::placeholder::refuse_unresolved;
use super::reversal::{is_open, rank};
use super::sender::Sender;
use crate::catalog::{Advertiser, Catalog, Offer};
use crate::click_id::RecordId;
use crate::dedup::{Claim, Receipt};
use crate::limits::{REVERSED_EVENTS_TRIED_MAX, UNNAMED_EVENTS_TRIED_MAX};
use crate::model::fields::Field;
use crate::model::ids::ID_BYTES_MAX;
use crate::model::status::Status;
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
    /// As a refund with the same ID, of whatever transaction.
    OwnId,
}

/// Which of several is meant, the first of these.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    /// What the postback would be itself.
    Itself,
    /// What is left to take back: what is paid before the others, then as its offer lists them, and
    /// before them what an offer lists no more that has left the catalog: so it is refused.
    Left { rank: u8, at: Option<usize> },
    /// An ordinary conversion, though a refund's own ID is named.
    Ordinary,
    /// What has been taken back, or was rejected.
    Gone { at: usize },
    /// The refund that had the ID.
    OwnId,
    /// What has left the catalog: so it is refused.
    Departed,
}

impl Place {
    const fn is_taken_back(self) -> bool {
        matches!(self, Self::Left { .. } | Self::Gone { .. })
    }
}

impl Way<'_> {
    /// The place of a conversion of this offer, event and status, if it may be meant in this way.
    fn place(self, offer: Option<&Offer>, event: &str, status: Status) -> Option<Place> {
        let its_event = offer.and_then(|offer| offer.event(event));
        Some(match self {
            Self::Itself if its_event.is_none() => Place::Departed,
            Self::Itself => Place::Itself,
            Self::TakenBack(by) => {
                let at = match offer {
                    Some(offer) => Some(offer.reverses(by, event)?),
                    None => None,
                };
                match is_open(status) {
                    true => Place::Left { rank: rank(status), at },
                    false => Place::Gone { at: at.unwrap_or(usize::MAX) },
                }
            }
            Self::Ordinary => {
                its_event.filter(|event| !event.is_negative()).map(|_| Place::Ordinary)?
            }
            Self::OwnId => its_event.filter(|event| event.is_negative()).map(|_| Place::OwnId)?,
        })
    }
}

/// A conversion that may be meant.
struct Found {
    place: Place,
    whose: Whose,
    click: RecordId,
    conversion: RecordId,
}

/// Whose a conversion is that has the transaction, best first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Whose {
    /// The customer's that is named, or whoever's if there is no doubt about it.
    TheSame,
    /// It names no customer, or is known by a refund's own ID alone.
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

    const fn is_named(&self) -> bool {
        matches!(self.transaction, Some((Some(_), _)))
    }

    /// Whose a conversion is by its customer.
    fn whose(&self, record: &ConversionRecord<'_>, place: Place) -> Whose {
        let Some(customer) = &self.customer else { return Whose::TheSame };
        let whose = match record.customer_key() {
            _ if self.is_named() => Whose::TheSame,
            Some(its) if its != customer.store_key() => Whose::Anothers,
            Some(_) => Whose::TheSame,
            None => Whose::Nobodys,
        };
        // What a customer says goes before an ID that may be another refund's.
        if place == Place::OwnId { whose.max(Whose::Nobodys) } else { whose }
    }

    /// What may be meant, and in which way. A negative event with its own ID may be an ordinary one
    /// in another offer.
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
                let own_id = own_id.map(|reversal_id| {
                    let claim = Claim::Reversal { advertiser, event, reversal_id };
                    [(of(event), Way::Ordinary), (claim, Way::OwnId)]
                });
                let itself = own_id.is_none().then(|| (of(event), Way::Itself));
                let reversed = reversed.map(move |meant| (of(meant), Way::TakenBack(event)));
                itself.into_iter().chain(reversed).chain(own_id.into_iter().flatten())
            })
        })
    }

    /// Which of the conversions that were found is meant. Without the event's name, two clicks are
    /// one too many.
    fn meant<'f>(&self, found: &'f [Found]) -> Option<&'f Found> {
        let best = found.iter().map(|it| it.whose).min()?;
        let mut of_best = found.iter().filter(|it| it.whose == best);
        let first = of_best.clone().min_by_key(|it| it.place)?;
        let is_of_it = |it: &Found| it.click == first.click || it.place == Place::OwnId;
        (self.is_named() || of_best.all(is_of_it)).then_some(first)
    }

    /// Says so, where nothing is known, if its event takes back more events than are tried.
    fn refuse_too_many(&self, catalog: &Catalog) -> Result<(), Refused> {
        let Some((Some(event), _)) = self.transaction else { return Ok(()) };
        let mut reversed = catalog.reversed_by(&self.advertiser.id, event);
        reversed.nth(REVERSED_EVENTS_TRIED_MAX).map_or(Ok(()), |_| Err(hints::too_many()))
    }

    /// Whether a postback of this offer that names no event, if this one does not, means `event`. Of
    /// an offer that has left the catalog nobody knows.
    fn may_mean(&self, offer: Option<&Offer>, event: &str) -> bool {
        let is_unnamed = matches!(self.transaction, Some((None, _)));
        let means = |offer: &Offer| offer.unnamed_event().is_some_and(|its| *its.id == *event);
        !is_unnamed || offer.is_none_or(means)
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
            None => {
                instead.refuse_too_many(catalog)?;
                Ok(Lookup::Absent)
            }
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
        let found = self.found(&instead, catalog, request).await?;
        let takes_back = |click| taken_back_of(click, &found);
        let by_transaction = |it: &Found| Bound {
            click: self.keyring.sign(it.click),
            named: Named::Transaction,
            takes_back: takes_back(it.click),
        };
        let meant = instead.meant(&found);
        if let Some(meant) = meant.filter(|it| it.whose == Whose::TheSame) {
            return Ok(Some(by_transaction(meant)));
        }
        let Some(customer) = &instead.customer else {
            instead.refuse_too_many(catalog)?;
            return Ok(None);
        };
        match (self.click_of_customer(customer, request).await?, meant) {
            (Some(bound), _) => {
                Ok(Some(Bound { takes_back: takes_back(bound.click.record()), ..bound }))
            }
            (None, Some(it)) if it.whose == Whose::Nobodys => Ok(Some(by_transaction(it))),
            (None, _) => Err(hints::unknown_customer(fields, sender, &self.keyring).into()),
        }
    }

    /// The conversions that may be meant.
    async fn found(
        &self,
        instead: &Instead<'_>,
        catalog: &Catalog,
        request: &PostbackRequest<'_>,
    ) -> Result<Vec<Found>, Answer> {
        // The claim of a transaction does not end.
        let receipt = Receipt::Now(request.now_ms);
        let mut found = Vec::new();
        for (claim, way) in instead.transactions(catalog) {
            let known = self.dedup.find_settled(&self.store, claim, receipt).await?;
            let Some(known) = known else { continue };
            let Some(stored) = self.store.conversion(known.conversion).await? else { continue };
            let record = stored.record().map_err(ReadError::from)?;
            let offer = catalog.offer_by_number(known.conversion.offer());
            let event = match way {
                Way::TakenBack(by) => by,
                Way::Itself | Way::Ordinary | Way::OwnId => record.event,
            };
            let may_be = instead.may_mean(offer, event);
            let status = request.as_foreseen(known).status;
            let place = way.place(offer, record.event, status).filter(|_| may_be);
            let Some(place) = place else { continue };
            let (whose, click) =
                (instead.whose(&record, place), RecordId::from_bytes(record.click));
            found.push(Found { place, whose, click, conversion: known.conversion });
            if instead.is_named() && place == Place::Itself {
                break;
            }
        }
        // What is known by its ID, and takes back of the transaction, is that refund sent again,
        // whatever has left the catalog since.
        let is_known = found.iter().any(|it| it.place == Place::OwnId);
        let is_again = is_known && found.iter().any(|it| it.place.is_taken_back());
        found.retain(|it| match it.place {
            Place::Ordinary => !is_again,
            Place::Left { at: None, .. } => !is_known,
            _ => true,
        });
        Ok(found)
    }
}

/// What a negative event of a click takes back, of the conversions that were found: never another
/// customer's.
fn taken_back_of(click: RecordId, found: &[Found]) -> Option<RecordId> {
    let of_click = found.iter().filter(|it| it.click == click && it.whose != Whose::Anothers);
    let first = of_click.min_by_key(|it| it.place)?;
    first.place.is_taken_back().then_some(first.conversion)
}
