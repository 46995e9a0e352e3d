//! What to send instead: by the reason alone, or where finding that out takes a look at the
//! postback. Only refusals come here; the most common ones, a plainly forged or a missing click ID,
//! without an allocation.

use std::borrow::Cow;

use super::body::{Body, json_fault};
use super::decide::Refused;
use super::flow::PostbackRequest;
use super::mapping::{AMBIGUOUS, Fields, Names};
use super::sender::Sender;
use crate::catalog::Offer;
use crate::click_id::{CLICK_ID_CHARS, ClickIdError, Keyring};
use crate::limits::{PARAMETERS_MAX, REVERSED_EVENTS_TRIED_MAX};
use crate::model::fields::Field;
use crate::model::period::moment;
use crate::model::preset::{Preset, Unnamed};
use crate::model::reasons::{Flag, Refusal};

/// The name of what has none by its preset any more, because others have taken it.
const A_NAME_OF_ITS_OWN: &str = "a name that the advertiser's params give it";

/// What to send instead, if the reason alone says so.
pub const fn hint(reason: Refusal) -> Option<&'static str> {
    Some(match reason {
        Refusal::ForgedClickId => {
            "it looks like a click ID, but this network did not mint it; check for changed letters or case"
        }
        Refusal::MissingClickId => "send the click ID that the landing URL carried, as click_id",
        Refusal::UnresolvedMacro => {
            "the sender's template was not filled in: a placeholder arrived instead of its value"
        }
        Refusal::MissingEvent => "name the event, as event=sale",
        Refusal::BadAmount => {
            "a decimal number with a point and at most 6 decimals, below nine trillion, as 15.00"
        }
        Refusal::BadCurrency => "a three-letter ISO 4217 code, as USD",
        Refusal::BadTimestamp => {
            "Unix seconds, Unix milliseconds or RFC 3339, not more than a day ahead, nor more than a day before the click"
        }
        Refusal::BadStatus => {
            "pending, approved or rejected, or a word that the catalog maps to one; reversed only of a conversion that is known"
        }
        Refusal::BadQuantity => "a whole number",
        Refusal::BadEncoding => {
            "percent-encode names and values as UTF-8; no value longer than 512 bytes, no ID longer than 256, no name longer than 64"
        }
        Refusal::AmbiguousParameter => {
            "one meaning was sent twice with different values; send it once"
        }
        Refusal::TooManyParameters => "at most 20 parameters of your own",
        Refusal::BadToken => {
            "send the advertiser's token, one that is valid now; its senders' parameter names count only on a path that names the advertiser"
        }
        Refusal::BadSignature => {
            "sign all parameters but sig by a secret that is valid now, with ts, and with a nonce where one is asked for, and send them to the advertiser's own path"
        }
        Refusal::StaleSignature => {
            "sign each attempt anew: ts is when, in Unix seconds, and must be close to the server's clock"
        }
        Refusal::ReplayedNonce => {
            "the nonce was used for other parameters; use a new one each time"
        }
        Refusal::IpNotAllowed => "the advertiser's postbacks are taken from its own addresses only",
        Refusal::WrongAdvertiser => "the click's offer belongs to another advertiser",
        Refusal::UnknownAdvertiser => "the path names an advertiser that is not in the catalog",
        Refusal::UnknownOffer => "the click's offer is not in the catalog any more",
        Refusal::UnknownEvent => "the click's offer defines no event of this name",
        Refusal::UnknownConversion => {
            "no conversion is known that it could take back: send the txn_id or the click_id of one"
        }
        Refusal::UnknownCustomer => {
            "the customer's window is over: the next conversion with a click ID binds it again"
        }
        Refusal::ClickExpired => "the click is older than the event's window",
        Refusal::UnsupportedMediaType => {
            "application/x-www-form-urlencoded or application/json, not compressed"
        }
        _ => return None,
    })
}

/// Its parameters could not be taken in.
#[cold]
pub fn unread(
    reason: Refusal,
    fields: &Fields<'_>,
    sender: &Sender<'_>,
    request: &PostbackRequest<'_>,
) -> Refused {
    let mut params = request.encoded();
    let mut is_copied = || params.any(|it| it.name.as_encoded().starts_with(b"amp;"));
    match (reason, request.body) {
        (Refusal::TooManyParameters, _) if fields.are_too_many() => {
            Refused::with(reason, format!("at most {PARAMETERS_MAX} parameters in all"))
        }
        (Refusal::AmbiguousParameter, _) => match ambiguous(sender, request) {
            Some(hint) => Refused::with(reason, hint),
            None => reason.into(),
        },
        (Refusal::BadEncoding, _) if is_copied() => {
            Refused::with(reason, "it was copied out of a page: write & where it has &amp;")
        }
        (Refusal::BadEncoding, Body::Json(json)) => match json_fault(json) {
            Some(fault) => Refused::with(reason, fault),
            None => reason.into(),
        },
        _ => reason.into(),
    }
}

/// Under which names one meaning came with different values. Of these nothing is said, but that one
/// looks like a click ID where another dialect has that.
fn ambiguous(sender: &Sender<'_>, request: &PostbackRequest<'_>) -> Option<String> {
    let (names, mut fields, mut sent) = (&sender.names, Fields::default(), Vec::new());
    // As far as it was taken in: no more than `PARAMETERS_MAX`.
    let _ = request.each(|name, value| {
        sent.push((name.clone(), value.clone()));
        fields.take(names, name, value)
    });
    let second = sent.pop()?;
    let field = names.meaning(&second.0)?;
    let is_first = |(name, value): &(Cow<'_, str>, Cow<'_, str>)| {
        names.meaning(name) == Some(field) && fields.get(field) == Some(value)
    };
    let first = sent.into_iter().find(is_first)?;
    if first.0 == second.0 {
        return Some(format!("{} came twice, with different values: send it once", first.0));
    }
    let both = format!(
        "{} and {} mean the same here, and came with different values: send one of them",
        first.0, second.0
    );
    let is_click = |value: &str| {
        value.len() == CLICK_ID_CHARS && value.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    let theirs = [&first, &second].into_iter().find(|(name, _)| name == AMBIGUOUS);
    if field != Field::TxnId || !theirs.is_some_and(|(_, value)| is_click(value)) {
        return Some(both);
    }
    let name = names.name(Field::ClickId).unwrap_or(A_NAME_OF_ITS_OWN);
    let instead = format!("send the click ID as {name}");
    Some(format!("{both}; {}", another_dialect(AMBIGUOUS, Field::ClickId, sender, &instead)))
}

/// A placeholder arrived as the value of `field`.
pub fn unresolved_macro(field: Field, names: &Names<'_>) -> Refused {
    let name = names.name(field).unwrap_or(field.as_str());
    Refused::with(
        Refusal::UnresolvedMacro,
        format!(
            "{name} arrived as a placeholder: have the sender's template filled in, or leave {name} out if it is optional"
        ),
    )
}

/// A secret stands in the value of `field`: `?txn_id=A-1?token=…`.
pub fn secret_in_an_id(field: Field, names: &Names<'_>) -> Refused {
    let name = names.name(field).unwrap_or(field.as_str());
    Refused::with(
        Refusal::BadEncoding,
        format!(
            "a token, signature, time or nonce became a part of {name}: write & before it instead of ?, not percent-encoded"
        ),
    )
}

/// No parameter means the click ID: perhaps one would in another dialect.
pub fn missing_click_id(fields: &Fields<'_>, sender: &Sender<'_>, keyring: &Keyring) -> Refused {
    let names = &sender.names;
    let foreign = foreign_click_id(fields, names, keyring);
    let known = names.name(Field::ClickId);
    let name = known.unwrap_or(A_NAME_OF_ITS_OWN);
    let is_given = |field| fields.get(field).is_some();
    let or = match (sender.advertiser, names.name(Field::Event)) {
        _ if !is_given(Field::TxnId) => String::new(),
        (None, _) => {
            "; or, if it is news of a known conversion, the transaction alone to /postback/{advertiser}".to_owned()
        }
        (Some(_), Some(_)) if is_given(Field::Event) => {
            "; or, if it is news of a known conversion, none of this advertiser's has this transaction and event, or its offer has left the catalog".to_owned()
        }
        (Some(_), Some(event)) => {
            format!("; or, if it is news of a known conversion, name its event, as {event}=sale")
        }
        (Some(_), None) => String::new(),
    };
    let send = || format!("send the click ID that the landing URL carried, as {name}{or}");
    let hint = match (foreign, fields.ambiguous()) {
        (Some(theirs), _) => {
            let instead = format!("send the click ID as {name}");
            another_dialect(theirs, Field::ClickId, sender, &instead)
        }
        (None, Some(_)) => format!(
            "{}; if {AMBIGUOUS} was meant as the click ID, {}",
            send(),
            set_preset(AMBIGUOUS, Field::ClickId, sender)
        ),
        (None, None) if is_given(Field::CustomerId) && sender.advertiser.is_none() => {
            format!("{}, or the customer ID alone to /postback/{{advertiser}}", send())
        }
        (None, None) if known == Some(Field::ClickId.as_str()) && or.is_empty() => {
            return Refusal::MissingClickId.into();
        }
        (None, None) => send(),
    };
    Refused::with(Refusal::MissingClickId, hint)
}

/// A negative event of a transaction alone, which may be of more events than are tried.
pub fn too_many() -> Refused {
    let hint = format!(
        "the advertiser's offers take back more than {REVERSED_EVENTS_TRIED_MAX} events by this one, of which no more are looked for: send the click ID"
    );
    Refused::with(Refusal::MissingClickId, hint)
}

/// The customer that is named instead of a click is bound to none. If there is a click ID in
/// another dialect, that is what is wrong.
pub fn unknown_customer(fields: &Fields<'_>, sender: &Sender<'_>, keyring: &Keyring) -> Refused {
    let names = &sender.names;
    let is_genuine = |txn_id: &str| keyring.verify(txn_id.as_bytes()).is_ok();
    if foreign_click_id(fields, names, keyring).is_some()
        || fields.get(Field::TxnId).is_some_and(is_genuine)
    {
        return missing_click_id(fields, sender, keyring);
    }
    let name = names.name(Field::ClickId).unwrap_or("the click ID");
    Refused::with(
        Refusal::UnknownCustomer,
        format!(
            "no conversion of this advertiser has bound the customer to a click: send {name} with its first one"
        ),
    )
}

/// No event was named, and none can be told from the offer.
pub fn missing_event(fields: &Fields<'_>, sender: &Sender<'_>, offer: &Offer) -> Refused {
    let (names, advertiser) = (&sender.names, &offer.advertiser);
    let name = names.name(Field::Event).unwrap_or(Field::Event.as_str());
    let say = format!("name one, as {name}=sale");
    let hint = if let Some(theirs) = foreign(fields, names, Field::Event, |_| false) {
        another_dialect(theirs, Field::Event, sender, &format!("send the event as {name}"))
    } else if advertiser.default_event.is_some() {
        format!("the advertiser's default_event is no event of the click's offer: {say}")
    } else if advertiser.preset.dialect().unnamed == Unnamed::OnlyEvent {
        format!(
            "the click's offer has more than one event that is not negative, or none: {say}, or set default_event for the advertiser"
        )
    } else if name == Field::Event.as_str() {
        return Refusal::MissingEvent.into();
    } else {
        format!("name the event, as {name}=sale")
    };
    Refused::with(Refusal::MissingEvent, hint)
}

/// No event was named but under `name`, which means nothing here, and it is not the one that an
/// unnamed one would be.
#[cold]
pub fn event_elsewhere(name: &str, names: &Names<'_>) -> Refused {
    let ours = names.name(Field::Event).unwrap_or(A_NAME_OF_ITS_OWN);
    let hint = format!("the event came as {name}=, which means nothing here: send it as {ours}");
    Refused::with(Refusal::MissingEvent, hint)
}

/// The offer has no event of this name. Whoever has one of its clicks may ask, if the advertiser
/// checks nobody: what its events are called is no secret, and few are compared.
pub fn unknown_event(ours: &str, theirs: &str, offer: &Offer) -> Refused {
    let refused = Refused::from(Refusal::UnknownEvent);
    if ours != theirs {
        let hint =
            format!("the catalog reads it as {ours:?}, and the click's offer has no such event");
        return Refused::with(refused.reason, hint);
    }
    let Some(meant) = offer.event_like(theirs) else { return refused };
    let hint = refused.hint.unwrap_or_default();
    Refused::with(refused.reason, format!("{hint}; did you mean {meant:?}?"))
}

/// What to send if a duplicate was none: nobody can tell a second sale from the first one sent again
/// if neither has an ID. Needs no escaping.
pub(super) const IF_ANOTHER: &str = "taken for the first one sent again, so it does not count: if it is another one, send a txn_id with each, or with each refund a reversal_id";

/// What a duplicate is told that names a customer and the transaction of somebody else. Needs no
/// escaping.
pub(super) const OF_SOMEBODY_ELSE: &str = "the txn_id is that of a conversion of somebody else, which stays as it is: if that one is meant, name the event or the click; if it is another one, send a txn_id of its own";

/// An event takes back in one offer and earns in another, and has this transaction in the other one,
/// `offer`, as what it is there.
#[cold]
pub fn taken_by_another_kind(event: &str, offer: &str, is_negative: bool) -> Refused {
    let hint = if is_negative {
        format!(
            "the txn_id is taken by a conversion of the offer {offer:?}, where the event {event:?} takes nothing back: send a reversal_id, or give one of the two events another name"
        )
    } else {
        format!(
            "the txn_id is taken by a negative event of the offer {offer:?}, where {event:?} takes back: send those with a reversal_id, or give one of the two events another name"
        )
    };
    Refused::with(Refusal::IllegalTransition, hint)
}

/// What a negative event that names fewer than were sold is told. Needs no escaping.
pub(super) const ALL_IS_TAKEN_BACK: &str = "all of it is taken back, whatever the quantity: a part is taken back by an amount, of a conversion that has one";

/// What is said of a new conversion with these flags that has no price yet. Sent again, it is told to
/// say more only if it `is_known_again` whenever that comes. Needs no escaping.
pub(super) fn unpriced(flags: u32, is_known_again: impl FnOnce() -> bool) -> Option<&'static str> {
    if flags & Flag::AmountMissing.bit() != 0 {
        return Some(match is_known_again() {
            true => {
                "no amount was sent, so a share of it is zero: send the same again with the amount and its status, as status=approved"
            }
            false => "no amount was sent, so a share of it is zero",
        });
    }
    (flags & Flag::RateMissing.bit() != 0).then_some(
        "there is no rate of that day for the currency, so what depends on it is zero: it is priced when the rate comes",
    )
}

/// What is said of a duplicate that came late: what is known is from `known_ms`, Unix milliseconds.
/// Needs no escaping.
pub fn older(known_ms: u64, besides: Option<Cow<'static, str>>) -> Cow<'static, str> {
    let known = moment(known_ms).map_or_else(String::new, |time| format!(" ({time:.3})"));
    let older = format!(
        "older than what is known{known}, so it changes nothing: if it is newer, send when that happened, or no time"
    );
    match besides {
        Some(besides) => format!("{older}; {besides}").into(),
        None => older.into(),
    }
}

/// The name of a parameter that looks like the click ID in another dialect.
fn foreign_click_id<'f>(
    fields: &'f Fields<'_>,
    names: &Names<'_>,
    keyring: &Keyring,
) -> Option<&'f str> {
    let genuine = |value: &str| keyring.verify(value.as_bytes()).is_ok();
    match fields.ambiguous() {
        Some(order) if genuine(order) => Some(AMBIGUOUS),
        _ => foreign(fields, names, Field::ClickId, genuine),
    }
}

/// The name of a parameter that means nothing here and `field` in another dialect. A name of one
/// letter alone says nothing, and one of this dialect was overridden on purpose.
fn foreign<'f>(
    fields: &'f Fields<'_>,
    names: &Names<'_>,
    field: Field,
    sure: impl Fn(&str) -> bool,
) -> Option<&'f str> {
    let says = |(name, value): &(&str, &str)| {
        (name.len() > 1 || sure(value))
            && names.preset.meaning(name) != Some(field)
            && presets_with(name, field).next().is_some()
    };
    fields.custom().find(says).map(|(name, _)| name)
}

/// Presets in which this name means `field`.
fn presets_with(name: &str, field: Field) -> impl Iterator<Item = &'static Preset> {
    Preset::ALL.iter().filter(move |preset| preset.meaning(name) == Some(field))
}

fn another_dialect(name: &str, field: Field, sender: &Sender<'_>, instead: &str) -> String {
    let presets: Vec<_> = presets_with(name, field).map(|preset| preset.as_str()).collect();
    let (presets, set) = (presets.join(" or "), set_preset(name, field, sender));
    format!("this looks like the {presets} dialect: {set}, or {instead}")
}

fn set_preset(name: &str, field: Field, sender: &Sender<'_>) -> String {
    let presets: Vec<_> =
        presets_with(name, field).map(|preset| format!("{:?}", preset.as_str())).collect();
    let path = match sender.advertiser {
        Some(_) => "",
        None => " and send to /postback/{advertiser}",
    };
    format!("set preset = {} for the advertiser{path}", presets.join(" or "))
}

/// The click ID is none of ours: perhaps it once was.
pub fn bad_click_id(text: &[u8], error: ClickIdError, keyring: &Keyring) -> Refused {
    let hint = match error {
        ClickIdError::Forged | ClickIdError::Malformed if case_was_changed(text) => {
            "all its letters have the same case: it was changed to upper or lower case on its way; pass it on as it came"
        }
        ClickIdError::Forged => return Refusal::ForgedClickId.into(),
        ClickIdError::Malformed => "a click ID consists of 33 characters from 0-9, A-Z and a-z",
        ClickIdError::Length(chars) if chars < CLICK_ID_CHARS => {
            "too short: a click ID has 33 characters; it was cut, or it is not this network's click ID"
        }
        ClickIdError::Length(_) if keyring.find(text).is_some() => {
            "a click ID of this network, but with spaces, quotes or other text around it: send its 33 characters and nothing else"
        }
        ClickIdError::Length(_) => {
            "too long: a click ID has 33 characters; look for spaces or text around it"
        }
    };
    let forged = error == ClickIdError::Forged;
    let reason = if forged { Refusal::ForgedClickId } else { Refusal::MalformedClickId };
    Refused::with(reason, hint)
}

/// Of a hundred million genuine click IDs one has letters of one case only.
fn case_was_changed(text: &[u8]) -> bool {
    let upper = text.iter().any(u8::is_ascii_uppercase);
    let lower = text.iter().any(u8::is_ascii_lowercase);
    upper != lower && text.iter().all(u8::is_ascii_alphanumeric)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::click_id::Minter;
    use crate::model::ids::{AffiliateNumber, OfferNumber};

    fn keyring() -> Keyring {
        Keyring::new([7; 32], vec![])
    }

    fn click() -> String {
        let record =
            Minter::new(0, 1, 0).mint(1_795_248_000_000, OfferNumber::NONE, AffiliateNumber::NONE);
        keyring().sign(record).to_text().to_string()
    }

    /// The start of the hint for a text that is no click ID.
    fn check(text: &str, reason: Refusal, hint: &str) {
        let error = keyring().verify(text.as_bytes()).expect_err("not genuine");
        let refused = bad_click_id(text.as_bytes(), error, &keyring());
        assert_eq!(refused.reason, reason, "{text}");
        let given = refused.hint.unwrap_or_default();
        assert!(given.starts_with(hint), "{text}: {given}");
    }

    #[test]
    fn what_happened_to_a_click_id_is_told_by_its_text() {
        let (click, malformed) = (click(), Refusal::MalformedClickId);
        let around = "a click ID of this network, but with";
        for text in [
            format!(" {click} "),
            format!("\"{click}\""),
            format!("{click}\n"),
            format!("é{click}"),
            format!("{click}x"),
            format!("x{click}"),
            format!("id={click};x=1"),
        ] {
            check(&text, malformed, around);
        }
        check(&format!("x{click}x"), malformed, "too long");
        check(&click[1..], malformed, "too short");
        check(&format!("{}é", &click[2..]), malformed, "a click ID consists of");
        check(&"0".repeat(33), Refusal::ForgedClickId, "it looks like a click ID");
        check(&format!("{}aB", "0".repeat(31)), Refusal::ForgedClickId, "it looks like a click ID");
        check(&format!("{}ab", "0".repeat(31)), Refusal::ForgedClickId, "all its letters");
        check(&format!("{}AB", "0".repeat(31)), Refusal::ForgedClickId, "all its letters");
        check(&format!("{}-B", "0".repeat(31)), malformed, "a click ID consists of");
    }

    proptest! {
        #[test]
        fn no_text_panics(text: Vec<u8>) {
            let keyring = keyring();
            if let Err(error) = keyring.verify(&text) {
                prop_assert!(bad_click_id(&text, error, &keyring).hint.is_some());
            }
        }
    }
}
