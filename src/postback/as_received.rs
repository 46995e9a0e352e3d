// Hot path: every postback that makes or changes a conversion is written down here. One copy of
// its query where nothing in it can be secret or personal.
//! A postback as it is written down: as received, without secrets, and personal data masked.

use std::net::IpAddr;

use super::answer::Answer;
use super::body::{Body, each_json_member};
use super::decide::{Asker, Verdict};
use super::flow::{PostbackRequest, Postbacks, Received, Sent};
use super::mapping::{Fields, Names, asks_only};
use super::sender::{Address, Sender};
use crate::catalog::{Advertiser, Catalog};
use crate::click_id::RecordId;
use crate::limits::{INBOUND_PATH_BYTES_MAX, INBOUND_TEXT_BYTES_MAX};
use crate::model::fields::Field;
use crate::model::mask::{SECRET, before_secret, is_phone_name, mask, mask_named};
use crate::model::preset::{Preset, bare, is_own_name};
use crate::model::reasons::{AuthOutcome, PostbackResult, Refusal};
use crate::query::{Params, encode_into};
use crate::store::Arrival;
use crate::store::records::{InboundForm, InboundHead, StoredIp, inbound_flags, pack_auth};

/// What is kept of a sender's address.
pub type KeptIp = dyn Fn(IpAddr) -> StoredIp + Send + Sync;

/// A postback, and all that decides how it is written down.
#[derive(Clone, Copy)]
pub(super) struct AsReceived<'a> {
    pub request: &'a PostbackRequest<'a>,
    /// Whose names count.
    pub names: Names<'a>,
    /// The names of the advertiser that the click says, which may be those of its secrets.
    pub others: &'a [(Field, String)],
    /// Where nobody knows whose it is: a secret of any advertiser may be in it, under a name that
    /// one of them has for it.
    pub anybodys: Option<&'a Catalog>,
    /// Where its advertiser has tokens, or one that nobody knows may have: one may be in it under
    /// the name that it had before.
    pub tokens: Option<&'a Catalog>,
    /// What was understood of it, if it was understood whole.
    pub fields: Option<&'a Fields<'a>>,
    pub auth: AuthOutcome,
    pub advertiser: &'a str,
    pub catalog_version: u64,
    pub kept_ip: &'a KeptIp,
}

/// What came of it.
#[derive(Clone, Copy)]
pub(super) struct CameOf<'a> {
    pub result: PostbackResult,
    pub reason: &'a str,
    pub click: Option<[u8; 16]>,
    pub conversion: Option<[u8; 16]>,
}

impl AsReceived<'_> {
    /// Shows `take` what is to be written down of one that has made or changed a conversion, which
    /// says which click it is of.
    pub(super) fn of_conversion<T>(
        &self,
        result: PostbackResult,
        conversion: RecordId,
        take: impl FnOnce(&Arrival<'_>) -> T,
    ) -> T {
        let conversion = Some(*conversion.as_bytes());
        self.arrival(&CameOf { result, reason: "", click: None, conversion }, take)
    }

    /// Shows `take` what is to be written down.
    pub(super) fn arrival<T>(&self, of: &CameOf<'_>, take: impl FnOnce(&Arrival<'_>) -> T) -> T {
        let mut path = PathText::default();
        let head = InboundHead {
            time_ms: self.request.booked_ms(),
            result: of.result.index() as u8,
            form: self.form().code(),
            auth: pack_auth(self.auth),
            ip: match self.request.again {
                None => (self.kept_ip)(self.request.ip),
                Some(again) => again.ip,
            },
            catalog_version: self.catalog_version,
            conversion: of.conversion,
            click: of.click,
            path: path.of(self.request.address),
            advertiser: self.advertiser,
            reason: of.reason,
        };
        take(&Arrival { head, text: &|out| self.write(out) })
    }

    const fn form(&self) -> InboundForm {
        let PostbackRequest { body, post, head, again, .. } = self.request;
        match (again, body, post, head) {
            (Some(again), ..) => again.form,
            (_, Body::Form(_), ..) => InboundForm::Form,
            (_, Body::Json(_), ..) => InboundForm::Json,
            (_, Body::None, true, _) => InboundForm::Post,
            (_, Body::None, false, _) => InboundForm::Get,
        }
    }

    /// Appends the parameters as a query string and returns what is missing of them.
    pub(super) fn write(&self, out: &mut Vec<u8>) -> u8 {
        let mut text = Text { of: self, start: out.len(), out, flags: 0 };
        if self.request.again.is_some() {
            text.flags |= inbound_flags::AGAIN;
        }
        text.encoded(self.request.query);
        match self.request.body {
            Body::None => {}
            Body::Form(form) => match str::from_utf8(form) {
                Ok(form) => text.encoded(form),
                Err(_) => text.params(Params::new(form)),
            },
            Body::Json(json) => {
                let whole = each_json_member(json, |name, value| {
                    text.pair(&name, &value, None);
                    Ok(())
                });
                text.flags |= if whole.is_err() { inbound_flags::GARBLED } else { 0 };
            }
        }
        text.flags
    }

    /// Whether a value is a token, whatever it is called.
    fn is_token(&self, value: &str) -> bool {
        self.tokens.is_some_and(|catalog| catalog.is_token(value))
    }

    /// Whether a parameter is kept as given: it has no meaning, or is one of the subs.
    fn is_given(&self, name: &str) -> bool {
        self.names.meaning(name).is_none_or(|field| Field::SUBS.contains(&field))
    }

    /// Whether nothing can be secret or personal in parameters, without a look at each: none had
    /// the name of a secret, and what makes an address or a number does not occur.
    fn is_plain(&self, encoded: &str) -> bool {
        let is_known = |fields: &Fields<'_>| {
            let is_phone = fields.custom().any(|(name, _)| is_phone_name(name));
            !fields.has_secret() && !is_phone && !fields.leaves_out()
        };
        self.names.overrides.is_empty()
            && self.others.is_empty()
            && self.anybodys.is_none()
            && self.tokens.is_none()
            && self.fields.is_some_and(is_known)
            && encoded.len() < INBOUND_TEXT_BYTES_MAX / 2
            && memchr::memchr3(b'@', b'%', b'+', encoded.as_bytes()).is_none()
            && memchr::memchr2(b'(', b'?', encoded.as_bytes()).is_none()
    }
}

impl<'a> Received<'a> {
    /// What is kept of the parameters as given, and whether something secret was cut off or left
    /// out that its name does not tell.
    pub(super) fn kept_params(&self, advertiser: &Advertiser) -> (Vec<(&'a str, &'a str)>, bool) {
        let is_token = |value: &str| self.as_received.is_token(value);
        let hides = |name: &str, value: &str| {
            Preset::names_credential(name) || advertiser.names_credential(name) || is_token(value)
        };
        let mut is_cut = false;
        // Where the path names nobody, its own names were not known.
        let stored = self.fields.stored().filter(|(name, _)| !advertiser.names_secret(name));
        let kept = stored.filter_map(|(name, value)| {
            let public = before_secret(value, hides);
            let is_one = is_token(value);
            is_cut |= is_one || public.len() < value.len();
            (!is_one).then_some((name, public))
        });
        (kept.collect(), is_cut)
    }
}

/// Parameters being written.
struct Text<'t, 'o> {
    of: &'t AsReceived<'t>,
    out: &'o mut Vec<u8>,
    start: usize,
    flags: u8,
}

impl Text<'_, '_> {
    fn encoded(&mut self, encoded: &str) {
        if !self.of.is_plain(encoded) {
            self.params(Params::of_text(encoded));
        } else if !encoded.is_empty() {
            self.separate();
            self.out.extend_from_slice(encoded.as_bytes());
        }
    }

    fn params(&mut self, params: Params<'_>) {
        for param in params {
            let (name, value) = (param.name.decode_lossy(), param.value.decode_lossy());
            if param.name.decode().is_err() || param.value.decode().is_err() {
                self.flags |= inbound_flags::GARBLED;
            }
            self.pair(&name, &value, Some((param.name.as_encoded(), param.value.as_encoded())));
        }
    }

    /// One parameter, and how it was encoded if that can be kept.
    fn pair(&mut self, name: &str, value: &str, sent: Option<(&[u8], &[u8])>) {
        if self.flags & inbound_flags::CUT != 0 || self.hides(name) {
            return;
        }
        // Before it is looked at: what does not fit may be long.
        if name.len() + value.len() > INBOUND_TEXT_BYTES_MAX {
            self.flags |= inbound_flags::CUT;
            return;
        }
        if self.of.is_given(name) && self.of.is_token(value) {
            return;
        }
        let hides = |name: &str, value: &str| self.is_credential(name) || self.of.is_token(value);
        let public = before_secret(value, hides);
        let (masked_name, masked) = (mask(name), mask_named(name, public));
        let is_masked = masked_name.is_some() || masked.is_some() || public != value;
        let before = self.out.len();
        self.separate();
        match sent.filter(|(name, value)| !is_masked && name.is_ascii() && value.is_ascii()) {
            Some((name, value)) => {
                self.out.extend_from_slice(name);
                self.out.push(b'=');
                self.out.extend_from_slice(value);
            }
            None => {
                encode_into(masked_name.as_deref().unwrap_or(name).as_bytes(), self.out);
                self.out.push(b'=');
                encode_into(masked.as_deref().unwrap_or(public).as_bytes(), self.out);
                if public != value {
                    encode_into(SECRET.as_bytes(), self.out);
                }
            }
        }
        if self.out.len() - self.start > INBOUND_TEXT_BYTES_MAX {
            self.out.truncate(before);
            self.flags |= inbound_flags::CUT;
        } else if is_masked {
            self.flags |= inbound_flags::MASKED;
        }
    }

    fn hides(&self, name: &str) -> bool {
        let name = bare(name);
        self.of.names.hides(name)
            || is_own_name(self.of.others, name, Field::is_secret)
            || self.of.anybodys.is_some_and(|catalog| catalog.names_secret(name))
    }

    fn is_credential(&self, name: &str) -> bool {
        self.of.names.is_credential(name)
            || is_own_name(self.of.others, name, Field::is_credential)
            || self.of.anybodys.is_some_and(|catalog| catalog.names_credential(name))
    }

    fn separate(&mut self) {
        if self.out.len() > self.start {
            self.out.push(b'&');
        }
    }
}

/// Room for a path.
struct PathText {
    bytes: [u8; INBOUND_PATH_BYTES_MAX],
}

impl Default for PathText {
    fn default() -> Self {
        Self { bytes: [0; INBOUND_PATH_BYTES_MAX] }
    }
}

impl PathText {
    /// The path that leads to an address; of a preset with several, the first. Too long, it is cut.
    fn of<'t>(&'t mut self, address: Address<'t>) -> &'t str {
        let (base, advertiser) = match address {
            Address::Own(path) => return cut(path, INBOUND_PATH_BYTES_MAX),
            Address::Shared { preset, advertiser } => {
                let paths = preset.map_or(&[][..], |preset| preset.dialect().paths);
                (paths.first().copied().unwrap_or("/postback"), advertiser)
            }
        };
        let Some(advertiser) = advertiser else { return base };
        let advertiser = cut(advertiser, INBOUND_PATH_BYTES_MAX - base.len() - 1);
        let mut end = 0;
        for part in [base, "/", advertiser] {
            self.bytes[end..end + part.len()].copy_from_slice(part.as_bytes());
            end += part.len();
        }
        str::from_utf8(&self.bytes[..end]).expect("texts put together")
    }
}

fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

impl Postbacks {
    /// What is handed on of a postback that was judged.
    pub(super) fn received<'a>(
        &'a self,
        sent: &Sent<'a, 'a>,
        verdict: &Verdict<'a>,
        catalog: &'a Catalog,
        asker: &Asker,
    ) -> Received<'a> {
        let Sent { fields, sender, request, .. } = *sent;
        let as_received = AsReceived {
            request,
            names: sender.names,
            others: &verdict.offer.advertiser.params,
            anybodys: None,
            tokens: verdict.offer.advertiser.has_tokens().then_some(catalog),
            fields: Some(fields),
            auth: asker.auth,
            advertiser: &verdict.offer.advertiser.id,
            catalog_version: catalog.version(),
            kept_ip: &*self.kept_ip,
        };
        let (now_ms, counts_ms) = (request.booked_ms(), request.counts_ms(asker));
        let first_ms = asker.came.map(|came| came.first_ms);
        let replay_of_ms = first_ms.filter(|first_ms| *first_ms != request.now_ms);
        Received { fields, catalog, meter: None, now_ms, counts_ms, replay_of_ms, as_received }
    }

    /// Writes a postback down that was refused, or was a duplicate; unless it only asked.
    // Rare: of a flood only a sample comes here.
    #[cold]
    pub(super) fn note(&self, request: &PostbackRequest<'_>, answer: &Answer, asker: &Asker) {
        let catalog = self.catalog.load();
        let sender = Sender::at_or_nobody(request.address, &catalog);
        let mut fields = Fields::default();
        let is_read = fields.read(&sender, request).is_ok();
        let owner = asker.click.and_then(|click| catalog.owner_of(click.offer()));
        let own = owner.and_then(|owner| sender.of_click(owner));
        // By the names of its advertiser it may only ask, too.
        let asks = own.is_some_and(|own| {
            let dry = |said: &str| asks_only(said).then_some(());
            request.pick(&own.names, Field::DryRun, dry).is_some()
        });
        if request.head || fields.is_dry_run() || asks {
            return;
        }
        // Also behind what cannot be read, within other text and under another name: by its click it
        // is found, and erased.
        let genuine = |text: &[u8]| self.keyring.find(text).map(|it| it.record());
        let named = || {
            let says = |id: &str| genuine(id.as_bytes());
            let meant = match is_read {
                true => fields.get(Field::ClickId).and_then(says),
                false => request.pick(&sender.names, Field::ClickId, says),
            };
            meant.or_else(|| genuine(request.query.as_bytes())).or_else(|| match request.body {
                Body::None => None,
                Body::Form(text) | Body::Json(text) => genuine(text),
            })
        };
        let (click, conversion, reason) = match answer {
            Answer::Duplicate { original, click, .. } => {
                (Some(click.record()), Some(original.conversion), None)
            }
            Answer::Refused(refused) => (asker.click.or_else(named), None, Some(refused.reason)),
            _ => return,
        };
        let of_click = click.and_then(|click| catalog.owner_of(click.offer()));
        let gone = click.and_then(|click| catalog.departed(click.offer()));
        let of_path = sender.advertiser.map(|advertiser| &*advertiser.id);
        let as_received = AsReceived {
            request,
            names: sender.names,
            others: of_click.map_or(&[][..], |advertiser| &advertiser.params),
            anybodys: (of_path.is_none() && of_click.is_none() && catalog.has_secret_names())
                .then_some(&**catalog),
            tokens: catalog.has_tokens().then_some(&**catalog),
            fields: is_read.then_some(&fields),
            auth: asker.auth,
            advertiser: of_path
                .or(of_click.map(|it| &*it.id))
                .or(gone.map(|it| &*it.advertiser))
                .unwrap_or_default(),
            catalog_version: catalog.version(),
            kept_ip: &*self.kept_ip,
        };
        let of = CameOf {
            result: answer.result(),
            reason: reason.map_or("", Refusal::as_str),
            click: click.map(|click| *click.as_bytes()),
            conversion: conversion.map(|conversion| *conversion.as_bytes()),
        };
        as_received.arrival(&of, |arrival| self.store.note_arrival(arrival, reason));
    }
}
