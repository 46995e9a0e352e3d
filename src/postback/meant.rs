//! What a postback speaks of. Where its path names no advertiser its click does, and then that
//! advertiser's names count: an order that they name must count once, whatever the path.

use super::decide::{Asker, Bound, Meant, Refused, Rules, meant};
use super::flow::{PostbackRequest, Postbacks};
use super::hints;
use super::mapping::{Fields, Names};
use super::placeholder::refuse_unresolved;
use super::sender::Sender;
use crate::catalog::{Advertiser, Catalog};
use crate::model::fields::Field;
use crate::model::preset::Preset;
use crate::model::reasons::Refusal;

impl<'c> Sender<'c> {
    /// The same sender, when its click has said for which advertiser it speaks; `None` if that
    /// changes no name. On a preset's path that preset stays.
    #[must_use]
    #[inline]
    pub fn of_click(&self, advertiser: &'c Advertiser) -> Option<Self> {
        if self.advertiser.is_some() {
            return None;
        }
        let preset = match self.names.preset {
            Preset::Standard => advertiser.preset,
            preset => preset,
        };
        let is_same = preset == self.names.preset && advertiser.params.is_empty();
        let names = Names { preset, overrides: &advertiser.params };
        (!is_same).then_some(Self { names, advertiser: None })
    }
}

impl Postbacks {
    /// As [`meant`]; `fields` are read again where the click's advertiser has other names than the
    /// path. Who sends has shown by the path's names that it may; the click that it showed stays.
    #[inline]
    pub(super) fn identify<'a, 'f>(
        &'a self,
        fields: &mut Fields<'f>,
        sender: &Sender<'a>,
        admitted: Option<u32>,
        bound: Option<Bound>,
        (request, catalog): (&PostbackRequest<'f>, &'a Catalog),
        asker: &mut Asker,
    ) -> Result<Meant<'a>, Refused> {
        let by = Rules { catalog, keyring: &self.keyring, market: &self.market };
        let mut meant =
            meant(fields, sender, bound, &by, asker, |advertiser, asker| match admitted {
                Some(flags) => Ok(flags),
                None => self.admit(advertiser, sender, fields, request, asker),
            })?;
        if let Some(sender) = sender.of_click(&meant.offer.advertiser) {
            fields.read_anew(&meant.sender.names, &sender.names, request)?;
            refuse_unresolved(fields, &sender)?;
            meant.sender = sender;
        }
        Ok(meant)
    }
}

impl<'a> Fields<'a> {
    /// Takes all parameters of a request in. Filled in place: it is large.
    pub(super) fn read(
        &mut self,
        sender: &Sender<'_>,
        request: &PostbackRequest<'a>,
    ) -> Result<(), Refused> {
        let taken = request.each(|name, value| self.take(&sender.names, name, value));
        taken.map_err(|reason| hints::unread(reason, self, sender, request))
    }

    /// Reads a request that was read by the path's names again, by the advertiser's `own`. What
    /// has no meaning by these keeps that of the path; so does the click, and what is secret.
    ///
    /// # Errors
    /// As [`Fields::take`]; also when one meaning has two values, one by each.
    #[cold]
    pub(super) fn read_anew(
        &mut self,
        path: &Names<'_>,
        own: &Names<'_>,
        request: &PostbackRequest<'a>,
    ) -> Result<(), Refusal> {
        let first = std::mem::take(self);
        self.keep(Field::ClickId, &first);
        let left = |name: &str| {
            let own = own.meaning(name).filter(|own| *own != Field::ClickId);
            let stays = |path: &Field| path.is_secret() || *path == Field::ClickId;
            path.meaning(name).filter(|path| own.is_none() || stays(path))
        };
        // The click is the one that the path's names have found.
        let is_click = |name: &str| own.meaning(name) == Some(Field::ClickId);
        request.each(|name, value| match left(&name) {
            Some(_) => Ok(()),
            None if is_click(&name) => self.take_custom(own.preset, name, value),
            None => self.take(own, name, value),
        })?;
        request.each(|name, _| {
            let Some(field) = left(&name) else { return Ok(()) };
            match (self.get(field), first.get(field)) {
                (None, _) => self.keep(field, &first),
                (Some(one), Some(other)) if one != other && !field.is_secret() => {
                    return Err(Refusal::AmbiguousParameter);
                }
                _ => {}
            }
            Ok(())
        })
    }
}
