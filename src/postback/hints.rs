//! What to send instead, where finding that out takes a look at the postback. Only refusals come
//! here, and those of plainly forged click IDs come without an allocation.

use std::borrow::Cow;

use super::decide::Refused;
use super::mapping::{Fields, Names};
use super::sender::Sender;
use crate::catalog::Offer;
use crate::click_id::{CLICK_ID_CHARS, ClickIdError, Keyring};
use crate::model::fields::Field;
use crate::model::preset::{Preset, Unnamed};
use crate::model::reasons::Refusal;

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

/// No parameter means the click ID: perhaps one would in another dialect.
pub fn missing_click_id(fields: &Fields<'_>, sender: &Sender<'_>, keyring: &Keyring) -> Refused {
    let names = &sender.names;
    let genuine = |value: &str| keyring.verify(value.as_bytes()).is_ok();
    let is_order = names.meaning(AMBIGUOUS) == Some(Field::TxnId);
    let order = fields.get(Field::TxnId).filter(|_| is_order);
    let foreign = if order.is_some_and(genuine) {
        Some(AMBIGUOUS)
    } else {
        // One letter alone says nothing, nor does a name of this dialect that was overridden.
        let says = |(name, value): &(&str, &str)| {
            (name.len() > 1 || genuine(value))
                && names.preset.meaning(name) != Some(Field::ClickId)
                && with_click(name).next().is_some()
        };
        fields.custom().find(says).map(|(name, _)| name)
    };
    let hint: Cow<'static, str> = match (foreign, order) {
        (Some(name), _) => format!(
            "this looks like the {} dialect: {}, or send the click ID as {}",
            listed(name, ""),
            set_preset(name, sender),
            click_name(names)
        )
        .into(),
        (None, Some(_)) => format!(
            "send the click ID that the landing URL carried, as {}; if {AMBIGUOUS} was meant as the click ID, {}",
            click_name(names),
            set_preset(AMBIGUOUS, sender)
        )
        .into(),
        (None, None) if names.name(Field::ClickId) == Some(Field::ClickId.as_str()) => {
            return Refusal::MissingClickId.into();
        }
        (None, None) => {
            format!("send the click ID that the landing URL carried, as {}", click_name(names))
                .into()
        }
    };
    Refused::with(Refusal::MissingClickId, hint)
}

/// The name that is the click in some dialects and the order in others.
const AMBIGUOUS: &str = "transaction_id";

fn click_name<'c>(names: &Names<'c>) -> &'c str {
    names.name(Field::ClickId).unwrap_or("a name that the advertiser's params give it")
}

/// Presets in which this name means the click ID.
fn with_click(name: &str) -> impl Iterator<Item = &'static Preset> {
    Preset::ALL.iter().filter(move |preset| preset.meaning(name) == Some(Field::ClickId))
}

/// Their names, for a sentence.
fn listed(name: &str, quote: &str) -> String {
    let quoted: Vec<_> = with_click(name).map(|preset| format!("{quote}{preset}{quote}")).collect();
    quoted.join(" or ")
}

fn set_preset(name: &str, sender: &Sender<'_>) -> String {
    let presets = listed(name, "\"");
    let path = match sender.advertiser {
        Some(_) => "",
        None => " and send to /postback/{advertiser}",
    };
    format!("set preset = {presets} for the advertiser{path}")
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
        ClickIdError::Length(_) if holds_click_id(text, keyring) => {
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

/// Whether a genuine click ID is in it: by itself, at the start or at the end.
fn holds_click_id(text: &[u8], keyring: &Keyring) -> bool {
    let words = text.split(|byte| !byte.is_ascii_alphanumeric());
    let by_itself = words.filter(|word| word.len() == CLICK_ID_CHARS).last();
    let start = text.get(..CLICK_ID_CHARS);
    let end = text.len().checked_sub(CLICK_ID_CHARS).and_then(|at| text.get(at..));
    [by_itself, start, end].into_iter().flatten().any(|part| keyring.verify(part).is_ok())
}

/// No event was named, and none can be told from the offer.
pub fn missing_event(names: &Names<'_>, offer: &Offer) -> Refused {
    let advertiser = &offer.advertiser;
    let name = names.name(Field::Event).unwrap_or(Field::Event.as_str());
    if advertiser.default_event.is_some() {
        let hint = format!(
            "the click's offer has no event of the name that is the advertiser's default_event; name one, as {name}=sale"
        );
        return Refused::with(Refusal::MissingEvent, hint);
    }
    match advertiser.preset.dialect().unnamed {
        Unnamed::Missing if name == Field::Event.as_str() => Refusal::MissingEvent.into(),
        Unnamed::Missing => {
            Refused::with(Refusal::MissingEvent, format!("name the event, as {name}=sale"))
        }
        Unnamed::OnlyEvent => Refused::with(
            Refusal::MissingEvent,
            format!(
                "the click's offer has more than one event, or none: name one, as {name}=sale, or set default_event for the advertiser"
            ),
        ),
    }
}
