//! How the senders of other systems speak: names, status words, paths and the answer they expect.
//! One table for each system, all of them in `tables.rs`, each readable by itself.

mod tables;

use super::fields::Field;
use super::status::Status;
use super::words::words;

words! {
    /// A named parameter mapping, for an advertiser to start from.
    Preset {
        /// Our own names and a few common aliases.
        Standard = "standard",
        /// Voluum.
        Voluum = "voluum",
        /// Keitaro.
        Keitaro = "keitaro",
        /// Binom.
        Binom = "binom",
        /// RedTrack.
        Redtrack = "redtrack",
        /// Everflow.
        Everflow = "everflow",
        /// TUNE, once HasOffers.
        Tune = "tune",
        /// Affise.
        Affise = "affise",
        /// Scaleo.
        Scaleo = "scaleo",
        /// AffTrax.
        Afftrax = "afftrax",
        /// Trackier.
        Trackier = "trackier",
        /// BeMob.
        Bemob = "bemob",
        /// CAKE.
        Cake = "cake",
    }
}

words! {
    /// The form of the answer to a postback. Whatever the form, `unavailable` is a 503: a sender
    /// that would try again must learn that it has to.
    AnswerForm {
        /// Our JSON, and a status that says what happened.
        Json = "json",
        /// Our JSON, and 200 even if it is refused.
        Always200 = "always_200",
        /// `success=true;` or `success=false; err_msg=…;`, and 200 in both cases.
        Tune = "tune",
        /// `OK`, or the reason as text with the status that belongs to it.
        Ok = "ok",
    }
}

/// Whether a path that is no postback's is that of a visitor, who may come by a link that was put
/// wrong, such as `/click&offer=…`.
#[must_use]
pub fn is_of_clicks(path: &str) -> bool {
    path == "/c" || path.starts_with("/c/") || path.starts_with("/click")
}

/// What it means that a postback names no event, if the advertiser has no `default_event`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unnamed {
    /// It is refused.
    Missing,
    /// It is the offer's event, if the offer has one only.
    OnlyEvent,
}

/// One system's way of speaking.
#[derive(Debug)]
pub struct Dialect {
    /// Their parameter names and what they mean; of several names for one meaning, the one to
    /// recommend comes first. A meaning that is not listed keeps our name, unless the name is
    /// listed with another meaning.
    pub params: &'static [(&'static str, Field)],
    /// Their status words beside ours.
    pub statuses: &'static [(&'static str, Status)],
    /// Parameters in which a postback itself lists words, and what these mean; `None`: they are not
    /// to be taken. Of several the first counts.
    pub status_lists: &'static [(&'static str, Option<Status>)],
    /// The status word that a postback without one means; `None`: it says no status.
    pub unsaid_status: Option<&'static str>,
    /// Whether `rejected` is also their word for what takes an approved conversion back.
    pub rejects_approved: bool,
    /// Paths of their postbacks, for senders that cannot be given another.
    pub paths: &'static [&'static str],
    /// What a postback without an event means.
    pub unnamed: Unnamed,
    /// The answer that their senders expect.
    pub answer: AnswerForm,
}

/// A parameter's name as it was meant: `&amp;token=` and `??token=` name no less than `&token=`.
#[must_use]
pub fn bare(name: &str) -> &str {
    name.trim_start_matches('?').trim_start_matches("amp;")
}

/// Whether a name is one of an advertiser's own `params` for such a field, whatever its case, as a
/// page writes it, and behind a second question mark.
#[must_use]
pub fn is_own_name(params: &[(Field, String)], name: &str, is_meant: fn(Field) -> bool) -> bool {
    let name = bare(name);
    params.iter().any(|(field, theirs)| is_meant(*field) && theirs.eq_ignore_ascii_case(name))
}

impl Preset {
    /// The preset's table.
    #[must_use]
    pub const fn dialect(self) -> &'static Dialect {
        tables::of(self)
    }

    /// The meaning of a parameter's name.
    #[inline]
    #[must_use]
    pub fn meaning(self, name: &str) -> Option<Field> {
        // The most common preset is not searched but matched, which is quicker.
        match self {
            Self::Standard => Field::standard(name),
            _ => self.dialect().meaning(name),
        }
    }

    /// Whether a name is that of a secret in any dialect, whatever its case, as a page writes it,
    /// and behind a second question mark.
    #[must_use]
    pub fn names_secret(name: &str) -> bool {
        Self::names_one(name, Field::is_secret)
    }

    /// Whether a name is that of a token or signature, as [`Preset::names_secret`].
    #[must_use]
    pub fn names_credential(name: &str) -> bool {
        Self::names_one(name, Field::is_credential)
    }

    /// Whether a name is that of the event, as [`Preset::names_secret`].
    #[must_use]
    pub fn names_event(name: &str) -> bool {
        Self::names_one(name, |field| field == Field::Event)
    }

    fn names_one(name: &str, is_meant: fn(Field) -> bool) -> bool {
        let name = bare(name);
        let theirs = Self::ALL.iter().flat_map(|preset| preset.dialect().params).copied();
        let ours = Field::ALL.iter().map(|field| (field.as_str(), *field));
        let mut meant = theirs.chain(ours).filter(|(_, field)| is_meant(*field));
        meant.any(|(known, _)| known.eq_ignore_ascii_case(name))
    }

    /// The names that have this meaning, the one to recommend first.
    pub fn names(self, field: Field) -> impl Iterator<Item = &'static str> {
        let dialect = self.dialect();
        let theirs = dialect.params.iter().filter(move |(_, known)| *known == field);
        let ours = Some(field.as_str()).filter(move |ours| {
            dialect.meaning(ours) == Some(field) && !dialect.params.iter().any(|(n, _)| n == ours)
        });
        theirs.map(|(name, _)| *name).chain(ours)
    }

    /// The preset that has a path, and the advertiser that may follow it: `/aff_lsr` or
    /// `/aff_lsr/acme`.
    #[must_use]
    pub fn at(path: &str) -> Option<(Self, Option<&str>)> {
        let paths = Self::ALL
            .iter()
            .flat_map(|preset| preset.dialect().paths.iter().map(move |known| (*preset, *known)));
        let rest = |known: &str| match path.strip_prefix(known)? {
            "" => Some(None),
            rest => {
                let id = rest.strip_prefix('/')?;
                (!id.is_empty() && !id.contains('/')).then_some(Some(id))
            }
        };
        paths.into_iter().find_map(|(preset, known)| Some((preset, rest(known)?)))
    }
}

impl Dialect {
    fn meaning(&self, name: &str) -> Option<Field> {
        if let Some((_, field)) = self.params.iter().find(|(known, _)| *known == name) {
            return Some(*field);
        }
        let named = |field: Field| self.params.iter().any(|(_, known)| *known == field);
        Field::parse(name).filter(|field| !named(*field))
    }
}

#[cfg(test)]
mod tests;
