// Hot path: no allocation but for decoded values and custom parameters.
//! From parameter names to meanings, per advertiser.

use std::borrow::Cow;

use super::decide::Refused;
use super::placeholder::{is_nobody, is_unfilled};
use crate::catalog::Advertiser;
use crate::limits::{
    CUSTOM_PARAMETERS_MAX, NAME_BYTES_MAX, PARAMETERS_MAX, TXN_ID_BYTES_MAX, VALUE_BYTES_MAX,
};
use crate::model::fields::Field;
use crate::model::preset::{Preset, bare};
use crate::model::reasons::Refusal;
use crate::model::status::Status;

/// The name that is the click in some dialects and the order in others.
pub(super) const AMBIGUOUS: &str = "transaction_id";

/// What a switch that is off may say, in any case.
const NO: [&str; 4] = ["0", "false", "no", "off"];

/// Whose parameter names count: a preset's, and an advertiser's own on top of them.
#[derive(Clone, Copy, Debug)]
pub struct Names<'c> {
    /// Where to start from.
    pub preset: Preset,
    /// Meanings that have another name, and that name. An overridden meaning is reached by its
    /// new name only.
    pub overrides: &'c [(Field, String)],
}

impl Names<'static> {
    /// Our own.
    pub const STANDARD: Self = Self { preset: Preset::Standard, overrides: &[] };
}

impl<'c> Names<'c> {
    /// Whether these are the names that the catalog gives an advertiser.
    #[must_use]
    pub fn are_those_of(&self, advertiser: &Advertiser) -> bool {
        self.preset == advertiser.preset && self.overrides == advertiser.params
    }

    /// The meaning of a name.
    #[must_use]
    pub fn meaning(&self, name: &str) -> Option<Field> {
        if let Some((field, _)) = self.overrides.iter().find(|(_, theirs)| theirs == name) {
            return Some(*field);
        }
        let field = self.preset.meaning(name)?;
        let overridden = self.overrides.iter().any(|(ours, _)| *ours == field);
        (!overridden).then_some(field)
    }

    /// Whether what is sent under a name must never be kept or shown: a secret by this mapping,
    /// or one in another dialect that means nothing here.
    #[must_use]
    pub fn hides(&self, name: &str) -> bool {
        self.meaning(name).map_or_else(|| Preset::names_secret(name), Field::is_secret)
    }

    /// Whether a token or signature is sent under a name.
    #[must_use]
    pub fn is_credential(&self, name: &str) -> bool {
        let ours = self.meaning(bare(name));
        ours.map_or_else(|| Preset::names_credential(name), Field::is_credential)
    }

    /// The name under which a meaning should be sent; `None` if others have taken all its names.
    #[must_use]
    pub fn name(&self, field: Field) -> Option<&'c str> {
        let overrides = self.overrides.iter().filter(|(ours, _)| *ours == field);
        let own = overrides.map(|(_, theirs)| theirs.as_str()).next();
        own.or_else(|| self.preset.names(field).find(|name| self.meaning(name) == Some(field)))
    }
}

/// What a postback says, by meaning. An empty value counts as absent, and one of blanks alone.
#[derive(Debug, Default)]
pub struct Fields<'a> {
    known: [Option<Cow<'a, str>>; Field::COUNT],
    custom: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    count: u32,
    /// Whether parameters without a meaning were too many, or too long, to be kept.
    leaves_out: bool,
    /// Whether a list of status words is among them.
    lacks_list: bool,
    /// Whether anything came under a name that is a secret's in any dialect.
    has_secret: bool,
    /// Whether the transaction came under [`AMBIGUOUS`].
    has_ambiguous: bool,
}

impl<'a> Fields<'a> {
    /// Takes one parameter in.
    ///
    /// # Errors
    /// When there are too many, one is too long, or one meaning has two values.
    pub fn take(
        &mut self,
        names: &Names<'_>,
        name: Cow<'a, str>,
        value: Cow<'a, str>,
    ) -> Result<(), Refusal> {
        self.count += 1;
        if self.are_too_many() {
            return Err(Refusal::TooManyParameters);
        }
        if name.len() > NAME_BYTES_MAX {
            return Err(Refusal::BadEncoding);
        }
        // `&amp;` was copied out of a page: what it keeps from its name would be missing.
        if name.starts_with("amp;") {
            return Err(Refusal::BadEncoding);
        }
        let Some(field) = names.meaning(&name) else {
            return self.take_custom(names.preset, name, value);
        };
        // Who only wants to ask has asked, even by a blank.
        if value.is_empty() || field != Field::DryRun && value.trim_ascii().is_empty() {
            return Ok(());
        }
        if value.len() > longest(field) {
            return Err(Refusal::BadEncoding);
        }
        // No reason to lose a sale that has its click.
        if field == Field::CustomerId && is_nobody(&value) {
            return Ok(());
        }
        self.has_secret |= field.is_secret();
        self.has_ambiguous |= field == Field::TxnId && name == AMBIGUOUS;
        let place = &mut self.known[field.index()];
        match place {
            Some(other) if *other != value => Err(Refusal::AmbiguousParameter),
            _ => {
                *place = Some(value);
                Ok(())
            }
        }
    }

    /// Takes one in that has no meaning.
    ///
    /// # Errors
    /// When there are too many, or it is too long; in presets of other systems never.
    pub(super) fn take_custom(
        &mut self,
        preset: Preset,
        name: Cow<'a, str>,
        value: Cow<'a, str>,
    ) -> Result<(), Refusal> {
        if value.trim_ascii().is_empty() {
            return Ok(());
        }
        // Under the name that it had before, or has in another dialect, it is a secret all the same.
        if Preset::names_secret(&name) {
            self.has_secret = true;
            return Ok(());
        }
        let is_list = |name: &str| {
            let mut lists = preset.dialect().status_lists.iter();
            lists.any(|(known, _)| *known == name)
        };
        let is_full = self.custom.len() == CUSTOM_PARAMETERS_MAX;
        // What says how another is meant comes first, and takes the place of the last one.
        let at = if is_list(&name) { 0 } else { self.custom.len() };
        let refusal = if is_full && at > 0 {
            Some(Refusal::TooManyParameters)
        } else {
            (value.len() > VALUE_BYTES_MAX).then_some(Refusal::BadEncoding)
        };
        let left_out = match refusal {
            // Other systems have more of them, and longer ones, and their senders cannot be changed.
            Some(refusal) if preset == Preset::Standard => return Err(refusal),
            Some(_) => Some(name),
            None => {
                let last = if is_full { self.custom.pop() } else { None };
                self.custom.insert(at, (name, value));
                last.map(|(name, _)| name)
            }
        };
        if let Some(name) = left_out {
            self.leaves_out = true;
            self.lacks_list |= is_list(&name);
        }
        Ok(())
    }

    /// The value with this meaning.
    #[must_use]
    pub fn get(&self, field: Field) -> Option<&str> {
        self.known[field.index()].as_deref()
    }

    /// Takes over what another reading of the same parameters found.
    pub(super) fn keep(&mut self, field: Field, other: &Self) {
        self.known[field.index()].clone_from(&other.known[field.index()]);
        self.has_secret |= other.has_secret;
    }

    /// The transaction, if it came under [`AMBIGUOUS`].
    pub(super) fn ambiguous(&self) -> Option<&str> {
        self.get(Field::TxnId).filter(|_| self.has_ambiguous)
    }

    /// The parameters without a meaning, as given.
    pub fn custom(&self) -> impl Iterator<Item = (&str, &str)> {
        self.custom.iter().map(|(name, value)| (&**name, &**value))
    }

    /// What a status word means by the lists of the postback itself.
    ///
    /// # Errors
    /// When a list was not kept: the word may be in it.
    pub(super) fn status_listed(
        &self,
        word: &str,
        preset: Preset,
    ) -> Result<Option<Option<Status>>, Refused> {
        if self.lacks_list {
            let hint = "a list of status words is longer than 512 bytes, or there are more than 20: the status may be in it";
            return Err(Refused::with(Refusal::BadEncoding, hint));
        }
        let has = |list: &str| {
            list.split([',', ';']).any(|listed| listed.trim().eq_ignore_ascii_case(word))
        };
        let says = |name: &str| self.custom().any(|(known, list)| known == name && has(list));
        let lists = preset.dialect().status_lists;
        Ok(lists.iter().find(|(name, _)| says(name)).map(|(_, meaning)| *meaning))
    }

    /// Whether there were more parameters without a meaning, or longer ones, than are kept.
    #[must_use]
    pub const fn leaves_out(&self) -> bool {
        self.leaves_out
    }

    /// Whether there were more parameters than are read.
    pub(super) const fn are_too_many(&self) -> bool {
        self.count as usize > PARAMETERS_MAX
    }

    /// Whether a secret is among the parameters.
    #[must_use]
    pub const fn has_secret(&self) -> bool {
        self.has_secret
    }

    /// Whether it only asks what would happen: whatever is said but a no, so that nobody who only
    /// wants to ask is taken at his word.
    #[must_use]
    pub fn is_dry_run(&self) -> bool {
        self.get(Field::DryRun).is_some_and(asks_only)
    }

    /// Whether a template left it open if it is a dry run.
    pub fn leaves_dry_run_open(&self) -> bool {
        self.get(Field::DryRun).is_some_and(|said| !is_no(said) && is_unfilled(said))
    }

    /// What is stored as given: `sub1`..`sub10` and the custom parameters.
    pub fn stored(&self) -> impl Iterator<Item = (&str, &str)> {
        let subs = Field::SUBS.iter().filter_map(|sub| Some((sub.as_str(), self.get(*sub)?)));
        subs.chain(self.custom())
    }
}

/// Whether `dry_run` says that nothing is to be counted.
pub(super) fn asks_only(said: &str) -> bool {
    !is_no(said) && !is_unfilled(said)
}

fn is_no(said: &str) -> bool {
    NO.iter().any(|no| said.eq_ignore_ascii_case(no))
}

const fn longest(field: Field) -> usize {
    match field {
        Field::TxnId | Field::ReversalId | Field::CustomerId => TXN_ID_BYTES_MAX,
        _ => VALUE_BYTES_MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(
        overrides: &[(Field, String)],
        pairs: &[(&'static str, &'static str)],
    ) -> Result<Fields<'static>, Refusal> {
        read_as(&Names { preset: Preset::Standard, overrides }, pairs)
    }

    fn read_as(
        names: &Names<'_>,
        pairs: &[(&'static str, &'static str)],
    ) -> Result<Fields<'static>, Refusal> {
        let mut fields = Fields::default();
        for (name, value) in pairs {
            fields.take(names, (*name).into(), (*value).into())?;
        }
        Ok(fields)
    }

    #[test]
    fn aliases_lead_to_one_meaning() {
        let check = |name, field| {
            let fields = read(&[], &[(name, "v")]).expect("fine");
            assert_eq!(fields.get(field), Some("v"), "{name}");
        };
        check("click_id", Field::ClickId);
        check("cid", Field::ClickId);
        check("clickid", Field::ClickId);
        check("txid", Field::TxnId);
        check("transaction_id", Field::TxnId);
        check("goal", Field::Event);
        check("sub10", Field::Sub10);
    }

    #[test]
    fn one_meaning_with_two_values_is_ambiguous_and_with_one_value_is_not() {
        assert_eq!(
            read(&[], &[("cid", "a"), ("click_id", "b")]).err(),
            Some(Refusal::AmbiguousParameter)
        );
        assert!(read(&[], &[("cid", "a"), ("click_id", "a")]).is_ok());
        assert!(read(&[], &[("cid", "a"), ("click_id", "")]).is_ok(), "empty counts as absent");
    }

    #[test]
    fn an_override_replaces_the_standard_names() {
        let overrides = [(Field::ClickId, "aff_sub2".to_owned())];
        let fields = read(&overrides, &[("aff_sub2", "C"), ("click_id", "theirs")]).expect("fine");
        assert_eq!(fields.get(Field::ClickId), Some("C"));
        assert_eq!(fields.stored().collect::<Vec<_>>(), [("click_id", "theirs")]);
    }

    #[test]
    fn an_override_goes_on_top_of_the_preset() {
        let overrides = [(Field::TxnId, "transaction_id".to_owned())];
        let names = Names { preset: Preset::Tune, overrides: &overrides };
        let fields = read_as(&names, &[("transaction_id", "T"), ("goal_id", "9")]).expect("fine");
        assert_eq!((fields.get(Field::TxnId), fields.get(Field::ClickId)), (Some("T"), None));
        assert_eq!(fields.get(Field::Event), Some("9"));
        assert_eq!(names.name(Field::TxnId), Some("transaction_id"));
        assert_eq!(names.name(Field::Event), Some("goal_id"));
        assert_eq!(names.name(Field::ClickId), None, "its only name was taken");
    }

    #[test]
    fn a_dry_run_is_one_under_every_preset() {
        for preset in Preset::ALL {
            let names = Names { preset: *preset, overrides: &[] };
            assert!(read_as(&names, &[("dry_run", "1")]).expect("fine").is_dry_run(), "{preset}");
        }
    }

    #[test]
    fn secrets_are_never_stored() {
        let ours = ["token", "sig", "ts", "nonce"];
        let all: Vec<_> =
            Preset::ALL.iter().flat_map(|preset| preset.names(Field::Token)).chain(ours).collect();
        let renamed = [(Field::Token, "key".to_owned()), (Field::Sig, "mac".to_owned())];
        for preset in Preset::ALL {
            for overrides in [&[][..], &renamed] {
                let names = Names { preset: *preset, overrides };
                // By a name of another dialect, too, or the one that was replaced.
                for name in &all {
                    let fields = read_as(&names, &[(name, "s")]).expect("fine");
                    assert_eq!(fields.stored().count(), 0, "{name} in {preset}");
                }
            }
        }
    }

    #[test]
    fn a_secret_is_reached_by_its_new_name_only() {
        let overrides = [(Field::Token, "api_key".to_owned()), (Field::Ts, "sig_time".to_owned())];
        let pairs = [("api_key", "A"), ("token", "B"), ("sig_time", "1"), ("ts", "2")];
        let fields = read(&overrides, &pairs).expect("one value for each");
        assert_eq!((fields.get(Field::Token), fields.get(Field::Ts)), (Some("A"), Some("1")));
        assert!(fields.has_secret());
        let old = read(&overrides, &pairs[1..2]).expect("fine");
        assert_eq!(old.get(Field::Token), None);
        assert!(old.has_secret());
    }

    #[test]
    fn twenty_custom_parameters_are_kept_and_the_next_is_refused() {
        let mut fields = Fields::default();
        for n in 0..CUSTOM_PARAMETERS_MAX {
            fields.take(&Names::STANDARD, format!("x{n}").into(), "v".into()).expect("fine");
        }
        assert_eq!(fields.stored().count(), CUSTOM_PARAMETERS_MAX);
        assert_eq!(
            fields.take(&Names::STANDARD, "x".into(), "v".into()),
            Err(Refusal::TooManyParameters)
        );
    }

    #[test]
    fn a_value_too_long_to_keep_is_refused_not_cut() {
        let long = "x".repeat(TXN_ID_BYTES_MAX + 1);
        let mut fields = Fields::default();
        assert_eq!(
            fields.take(&Names::STANDARD, "txn_id".into(), long.into()),
            Err(Refusal::BadEncoding)
        );
    }
}
