// Hot path: pure. No clock, no randomness, no I/O.
//! From what a postback says to what it would become.

use std::borrow::Cow;

use super::hints;
use super::mapping::Fields;
use super::placeholder::refuse_unresolved;
use super::price::{Price, Said, price};
use super::sender::Sender;
use super::timestamp;
use crate::auth::Came;
use crate::catalog::{
    Advertiser, Affiliate, Catalog, Event, Late, Offer, OfferAndAffiliate, Repeat,
};
use crate::click_id::{ClickId, Keyring, RecordId};
use crate::dedup::{Claim, ClaimSet, CustomerWindows};
use crate::limits::BEFORE_CLICK_MS_MAX;
use crate::model::currency::Currency;
use crate::model::fields::Field;
use crate::model::money::Micros;
use crate::model::period::Day;
use crate::model::preset::{AnswerForm, Preset};
use crate::model::reasons::{AuthOutcome, BY_POSTBACK, Flag, HELD, NEGATIVE_EVENT, Refusal};
use crate::model::status::Status;
use crate::rates::Market;
use crate::store::records::{Earned, Exchanged, HistoryEntry};

/// A refusal, and what the sender could do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Why.
    pub reason: Refusal,
    /// What to send instead, where that is known.
    pub hint: Option<Cow<'static, str>>,
}

/// What is known of whoever sent a postback, whatever comes of it.
#[derive(Clone, Copy, Debug)]
pub struct Asker {
    /// In which form it wants the answer.
    pub form: AnswerForm,
    /// Of which click it speaks, once that is known to be genuine.
    pub click: Option<RecordId>,
    /// What came of the checks of who it is.
    pub auth: AuthOutcome,
    /// When a signed one came.
    pub came: Option<Came>,
    /// Whether its advertiser's rate limit has counted it.
    pub is_counted: bool,
}

impl Default for Asker {
    fn default() -> Self {
        Self {
            form: AnswerForm::Json,
            click: None,
            auth: AuthOutcome::default(),
            came: None,
            is_counted: false,
        }
    }
}

impl Refused {
    /// With a hint of its own.
    #[must_use]
    pub fn with(reason: Refusal, hint: impl Into<Cow<'static, str>>) -> Self {
        Self { reason, hint: Some(hint.into()) }
    }
}

impl From<Refusal> for Refused {
    fn from(reason: Refusal) -> Self {
        Self { reason, hint: hints::hint(reason).map(Cow::Borrowed) }
    }
}

/// A conversion in the making: all that the postback, the click ID and the catalog say.
#[derive(Clone, Debug)]
pub struct Verdict<'a> {
    /// The click, verified.
    pub click: ClickId,
    /// Its offer.
    pub offer: &'a Offer,
    /// Its affiliate; `None` if it has left the catalog.
    pub affiliate: Option<&'a Affiliate>,
    /// The offer's event.
    pub event: &'a Event,
    /// Transaction ID, of a negative event its own ID if it has one; empty if none was sent.
    pub txn_id: &'a str,
    /// Whether that is a negative event's own ID.
    pub is_own_id: bool,
    /// Of a negative event, the transaction that it takes back; empty if none was sent.
    pub reversed_txn_id: &'a str,
    /// Customer ID; empty if none was sent.
    pub customer_id: &'a str,
    /// Whether the customer stands for the click.
    pub is_by_customer: bool,
    /// Whether that, or a transaction, stands for the click.
    pub is_bound: bool,
    /// What a negative event takes back then by the transaction that it names.
    pub takes_back: Option<RecordId>,
    /// For how long that binds, if it does: not a negative event, nor what is late, nor what was
    /// found by the customer itself.
    pub binds: Option<&'a dyn CustomerWindows>,
    /// The status it starts with.
    pub status: Status,
    /// The status that the advertiser says, if sent.
    pub said_status: Option<Status>,
    /// What it says of money.
    pub said: Said,
    /// What the affiliate earns.
    pub payout: Micros,
    /// What the network earns.
    pub revenue: Micros,
    /// Flags known so far.
    pub flags: u32,
    /// What the price took from its own amounts and from other currencies.
    pub exchanged: Option<Box<Exchanged>>,
    /// When it happened, Unix milliseconds.
    pub event_time_ms: u64,
    /// Whether the postback itself says when.
    pub is_timed: bool,
    /// Why it cannot become a conversion; of a known one it may be news all the same.
    pub unless_known: Option<Refusal>,
}

impl<'a> Verdict<'a> {
    /// When it happened, Unix milliseconds, if the postback says so.
    #[must_use]
    pub fn said_ms(&self) -> Option<u64> {
        self.is_timed.then_some(self.event_time_ms)
    }

    /// The step with which its conversion begins; `now_ms` is when it is booked, Unix milliseconds.
    #[must_use]
    pub fn first_step<'r>(&self, status: Status, now_ms: u64, reason: &'r str) -> HistoryEntry<'r> {
        let (revenue, payout) = (self.revenue.get(), self.payout.get());
        let earned = Earned::new(revenue, payout, self.exchanged.as_deref());
        HistoryEntry::new(status, now_ms, self.said_ms(), earned, reason)
    }

    /// The key that stands for what is reported: whoever holds it is the original.
    #[must_use]
    pub fn first_claim(&self) -> Claim<'a> {
        let Self { offer, event, txn_id, .. } = *self;
        let (click, advertiser) = (self.click.record(), &*offer.advertiser.id);
        if txn_id.is_empty() {
            let window_ms = match event.repeat {
                Repeat::Once => None,
                Repeat::Window(window_ms) => Some(window_ms),
            };
            Claim::Event { click, event: &event.id, window_ms }
        } else if self.is_own_id {
            Claim::Reversal { advertiser, event: &event.id, reversal_id: txn_id }
        } else {
            Claim::Transaction { advertiser, event: &event.id, txn_id }
        }
    }

    /// The keys under which this conversion may exist only once.
    #[must_use]
    pub fn claims(&self) -> ClaimSet<'a> {
        let Self { offer, event, .. } = *self;
        let (click, advertiser) = (self.click.record(), &*offer.advertiser.id);
        let once = offer.one_conversion_per_click && !event.is_negative();
        let claims = ClaimSet::new(self.first_claim(), once.then_some(click));
        // What is rejected binds nobody.
        if self.binds.is_none() || self.status == Status::Rejected {
            return claims;
        }
        claims.with_customer(Claim::Customer {
            advertiser,
            customer_id: self.customer_id,
            windows: self.binds,
        })
    }

    /// Whether it may be another one than what has its key: it takes back, or says of money, and has
    /// no ID that would tell.
    #[must_use]
    pub fn may_be_another(&self) -> bool {
        if self.event.is_negative() {
            return !self.is_own_id;
        }
        let Said { amount, revenue, payout, .. } = self.said;
        let is_of_money = amount.or(revenue).or(payout).is_some();
        is_of_money && self.txn_id.is_empty() && !self.offer.one_conversion_per_click
    }

    /// Why the conversion starts with its status, in one word: `negative_event` of one; `held` if the
    /// advertiser approves what the offer wants approved by the network, and said again, it does not
    /// approve it either; `fraud:` and the rules, if they have rejected it.
    #[must_use]
    pub fn initial_reason(&self) -> Cow<'static, str> {
        if self.event.is_negative() {
            return NEGATIVE_EVENT.into();
        }
        if let Some(reason) = self.offer.fraud.as_ref().and_then(|rules| rules.reason(self.flags)) {
            return reason.into();
        }
        match (self.said_status, self.status) {
            (Some(Status::Approved), Status::Pending) => HELD.into(),
            _ => BY_POSTBACK.into(),
        }
    }
}

/// What a postback is judged by.
#[derive(Clone, Copy)]
pub struct Rules<'a> {
    /// The catalog in force.
    pub catalog: &'a Catalog,
    /// Keys of click IDs.
    pub keyring: &'a Keyring,
    /// Exchange rates.
    pub market: &'a Market,
}

impl<'a> Rules<'a> {
    fn of_click(&self, id: RecordId) -> OfferAndAffiliate<'a> {
        self.catalog.numbered(id.offer(), id.affiliate())
    }
}

/// The click of what is named instead of one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    /// The click.
    pub click: ClickId,
    /// What is named.
    pub named: Named,
    /// What a negative event takes back of the click by the transaction that it names.
    pub takes_back: Option<RecordId>,
}

/// What a postback names instead of a click.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// A customer, who is bound to the click.
    Customer {
        /// The customer's window is over: only what is known already can be meant.
        is_over: bool,
    },
    /// The transaction of a known conversion: only that one can be meant.
    Transaction,
}

/// Of which click a postback speaks, and by whose names.
#[derive(Clone, Copy)]
pub struct Meant<'a> {
    /// The click, verified.
    pub click: ClickId,
    /// Its offer.
    pub offer: &'a Offer,
    /// Its affiliate; `None` if it has left the catalog.
    pub affiliate: Option<&'a Affiliate>,
    /// Flags with which its sender was admitted.
    pub admitted: u32,
    /// Its sender, as far as the path and the click say.
    pub sender: Sender<'a>,
}

/// Finds out what a postback speaks of. `bound` is there if it names a customer or a known
/// transaction, and no click. `asker` learns the click as soon as that is known to be genuine, and
/// the form of the offer's advertiser as soon as the offer is known to be the sender's. Then `admit`
/// is asked whether the sender may speak for it, before anything else is said; it returns flags.
///
/// # Errors
/// The reason and a hint, if it will never succeed as sent.
#[inline]
pub fn meant<'a>(
    fields: &Fields<'_>,
    sender: &Sender<'a>,
    bound: Option<Bound>,
    by: &Rules<'a>,
    asker: &mut Asker,
    admit: impl FnOnce(&Advertiser, &mut Asker) -> Result<u32, Refusal>,
) -> Result<Meant<'a>, Refused> {
    refuse_unresolved(fields, sender)?;
    let (click, (offer, affiliate)) = match bound {
        Some(bound) => (bound.click, by.of_click(bound.click.record())),
        None => click(fields, sender, by)?,
    };
    asker.click = Some(click.record());
    let owner = match offer {
        Some(offer) => &offer.advertiser,
        None => by.catalog.owner_of(click.record().offer()).ok_or(Refusal::UnknownOffer)?,
    };
    if sender.advertiser.is_some_and(|advertiser| advertiser.id != owner.id) {
        return Err(Refusal::WrongAdvertiser.into());
    }
    asker.form = owner.answer;
    let admitted = admit(owner, asker)?;
    // Only now: what has been shown counts when the offer is back and this is judged again.
    let offer = offer.ok_or(Refusal::UnknownOffer)?;
    Ok(Meant { click, offer, affiliate, admitted, sender: *sender })
}

/// Judges what is `meant` by the catalog in force.
///
/// # Errors
/// The reason and a hint, if it will never succeed as sent.
// In line, its large result is not copied: a duplicate costs 25 ns less (benches/allocations.rs).
#[inline]
pub fn decide<'a>(
    fields: &'a Fields<'_>,
    meant: &Meant<'a>,
    bound: Option<Bound>,
    by: &Rules<'a>,
    now_ms: u64,
) -> Result<Verdict<'a>, Refused> {
    let Rules { catalog, market, .. } = *by;
    let Meant { click, offer, affiliate, admitted, ref sender } = *meant;
    let record = click.record();
    let event = event(fields, sender, offer)?;
    let sent_ms = match fields.get(Field::Timestamp) {
        None => None,
        Some(text) => Some(timestamp::parse(text, now_ms).ok_or(Refusal::BadTimestamp)?),
    };
    let event_time_ms = sent_ms.unwrap_or(now_ms);
    // A click of the time to come was minted under a clock that was ahead, and came by now.
    let clicked_ms = record.time_ms().min(now_ms);
    let earliest_ms = clicked_ms.saturating_sub(BEFORE_CLICK_MS_MAX);
    let is_too_early = bound.is_none() && sent_ms.is_some_and(|sent_ms| sent_ms < earliest_ms);
    // How long a customer stays bound is the customer's window to say.
    let late = bound.is_none() && is_late(event, record.time_ms(), event_time_ms);
    // A mistake in what does not count is the sender's to know, too.
    let said = said(fields)?;
    let is_negative = event.is_negative();
    let mut price = if is_negative {
        Price::default()
    } else {
        price(event, record.affiliate(), &said, market, Day::of_ms(event_time_ms))?
    };
    if late && !is_negative {
        price.forfeit_payout();
        price.flags |= Flag::Late.bit();
    }
    // A negative event has no other status than having happened, whatever the word.
    let said_status = match is_negative {
        true => None,
        false => status(fields, &offer.advertiser, event)?,
    };
    let txn_id = fields.get(Field::TxnId);
    let own_id = fields.get(Field::ReversalId).filter(|_| is_negative);
    let customer_id = fields.get(Field::CustomerId).unwrap_or_default();
    let binds = !customer_id.is_empty() && bound.is_none() && !is_negative && !late;
    let named = bound.map(|bound| bound.named);
    let unless_known = match (late, said_status, named) {
        (true, ..) if offer.late == Late::Refuse => Some(Refusal::ClickExpired),
        _ if is_too_early => Some(Refusal::BadTimestamp),
        (_, Some(Status::Reversed), _) => Some(Refusal::BadStatus),
        _ if is_negative => None,
        (.., Some(Named::Customer { is_over: true })) => Some(Refusal::UnknownCustomer),
        (.., Some(Named::Transaction)) => Some(Refusal::MissingClickId),
        _ => None,
    };
    Ok(Verdict {
        click,
        offer,
        affiliate,
        event,
        txn_id: own_id.or(txn_id).unwrap_or_default(),
        is_own_id: own_id.is_some(),
        reversed_txn_id: txn_id.filter(|_| is_negative).unwrap_or_default(),
        customer_id,
        is_by_customer: matches!(named, Some(Named::Customer { .. })),
        is_bound: bound.is_some(),
        takes_back: bound.and_then(|bound| bound.takes_back),
        binds: binds.then_some(catalog as _),
        status: initial_status(said_status, event),
        said_status,
        said,
        payout: price.payout,
        revenue: price.revenue,
        flags: price.flags | admitted | Flag::ParametersLeftOut.bit_if(fields.leaves_out()),
        exchanged: price.exchanged,
        event_time_ms,
        is_timed: sent_ms.is_some(),
        unless_known,
    })
}

fn click<'a>(
    fields: &Fields<'_>,
    sender: &Sender<'_>,
    by: &Rules<'a>,
) -> Result<(ClickId, OfferAndAffiliate<'a>), Refused> {
    let Some(text) = fields.get(Field::ClickId) else {
        return Err(hints::missing_click_id(fields, sender, by.keyring));
    };
    let bad = |error| hints::bad_click_id(text.as_bytes(), error, by.keyring);
    by.keyring.verify_beside(text.as_bytes(), |id| by.of_click(id)).map_err(bad)
}

fn event<'a>(
    fields: &Fields<'_>,
    sender: &Sender<'_>,
    offer: &'a Offer,
) -> Result<&'a Event, Refused> {
    let Some(theirs) = fields.get(Field::Event) else {
        return unnamed_event(fields, sender, offer);
    };
    let ours = offer.advertiser.event_name(theirs);
    offer.event(ours).ok_or_else(|| hints::unknown_event(ours, theirs, offer))
}

/// What a postback means that names no event; if it does by a name of another dialect, that must be
/// the same one: else a refund would be paid as a sale.
fn unnamed_event<'a>(
    fields: &Fields<'_>,
    sender: &Sender<'_>,
    offer: &'a Offer,
) -> Result<&'a Event, Refused> {
    let missing = || hints::missing_event(fields, sender, offer);
    let event = offer.unnamed_event().ok_or_else(missing)?;
    let named = |theirs| offer.event(offer.advertiser.event_name(theirs));
    let is_another = |theirs| named(theirs).is_some_and(|named| named.id != event.id);
    let mut others = fields.custom().filter(|(_, value)| is_another(value));
    match others.find(|(name, _)| Preset::names_event(name)) {
        None => Ok(event),
        Some((name, _)) => Err(hints::event_elsewhere(name, &sender.names)),
    }
}

fn is_late(event: &Event, click_ms: u64, event_ms: u64) -> bool {
    event.window_ms.is_some_and(|window| event_ms > click_ms.saturating_add(window))
}

/// What the advertiser's word for the status means, or the one that its preset leaves unsaid. What
/// is approved later is approved by nothing that is not said: a retry would do it.
fn status(
    fields: &Fields<'_>,
    advertiser: &Advertiser,
    event: &Event,
) -> Result<Option<Status>, Refused> {
    let Some(word) = fields.get(Field::Status) else {
        let unsaid = advertiser.preset.dialect().unsaid_status;
        let unsaid = unsaid.filter(|_| event.initial_status == Status::Approved);
        return Ok(unsaid.and_then(|word| advertiser.status(word)));
    };
    match advertiser.status_beside(word, || fields.status_listed(word, advertiser.preset))? {
        Some(None) => {
            let hint = "the postback itself lists this status among those that are to be ignored";
            Err(Refused::with(Refusal::BadStatus, hint))
        }
        Some(meaning) => Ok(meaning),
        None => Err(Refusal::BadStatus.into()),
    }
}

/// The status to start with: the event's, unless the advertiser says that it is not settled yet
/// or does not count. An advertiser cannot at once approve what the offer wants approved later.
fn initial_status(said: Option<Status>, event: &Event) -> Status {
    match said {
        Some(status @ (Status::Pending | Status::Rejected)) => status,
        Some(Status::Approved | Status::Reversed) | None => event.initial_status,
    }
}

fn amount(fields: &Fields<'_>, field: Field) -> Result<Option<Micros>, Refused> {
    let parse = |text: &str| Micros::parse(text).map_err(|_| Refusal::BadAmount.into());
    fields.get(field).map(parse).transpose()
}

/// What a postback says of money.
///
/// # Errors
/// When it is not well-formed.
pub fn said(fields: &Fields<'_>) -> Result<Said, Refused> {
    Ok(Said {
        amount: amount(fields, Field::Amount)?,
        revenue: amount(fields, Field::Revenue)?,
        payout: amount(fields, Field::Payout)?,
        currency: currency(fields)?,
        quantity: quantity(fields)?,
    })
}

fn currency(fields: &Fields<'_>) -> Result<Option<Currency>, Refused> {
    let parse = |text: &str| Currency::parse(text).map_err(|_| Refusal::BadCurrency.into());
    fields.get(Field::Currency).map(parse).transpose()
}

fn quantity(fields: &Fields<'_>) -> Result<Option<u64>, Refused> {
    let parse = |text: &str| text.parse().map_err(|_| Refusal::BadQuantity.into());
    fields.get(Field::Quantity).map(parse).transpose()
}
