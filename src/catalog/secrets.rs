//! By what secrets are known, and whose are others than before. A catalog only says where they are,
//! so other ones may be there though its text is the same.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::diff::{Change, Kind};
use super::snapshot::{Advertiser, Catalog};
use crate::auth::{Auth, Dated, SigningKey};
use crate::model::preset::bare;

/// By what the secrets of all advertisers are known.
#[derive(Debug, Default)]
pub(super) struct Secrets {
    /// Their own names of something secret, in lower case, and whether any is of a token or
    /// signature.
    names: HashMap<Box<str>, bool>,
    /// Hashes of tokens, whenever they are valid.
    tokens: HashSet<blake3::Hash>,
}

impl Secrets {
    pub(super) fn of(advertisers: &[Arc<Advertiser>]) -> Self {
        let params = advertisers.iter().flat_map(|advertiser| &advertiser.params);
        let mut names = HashMap::new();
        for (field, theirs) in params.filter(|(field, _)| field.is_secret()) {
            let is_one: &mut bool = names.entry(theirs.to_ascii_lowercase().into()).or_default();
            *is_one |= field.is_credential();
        }
        let tokens = advertisers.iter().flat_map(|advertiser| tokens(advertiser.auth.as_deref()));
        Self { names, tokens: tokens.filter_map(|token| token.secret).collect() }
    }
}

impl Advertiser {
    /// Whether its senders show tokens.
    #[must_use]
    pub fn has_tokens(&self) -> bool {
        !tokens(self.auth.as_deref()).is_empty()
    }
}

impl Catalog {
    /// Whether any advertiser has a name of its own for something secret.
    #[must_use]
    pub fn has_secret_names(&self) -> bool {
        !self.secrets.names.is_empty()
    }

    /// Whether any advertiser has tokens.
    #[must_use]
    pub fn has_tokens(&self) -> bool {
        !self.secrets.tokens.is_empty()
    }

    /// Whether a value is any advertiser's token, valid now or not: whoever sends it under a name
    /// that it had before says no less of it.
    #[must_use]
    pub fn is_token(&self, value: &str) -> bool {
        self.secrets.tokens.contains(&blake3::hash(value.trim().as_bytes()))
    }

    /// Whether a name is any advertiser's own for something secret, as [`Preset::names_secret`].
    ///
    /// [`Preset::names_secret`]: crate::model::preset::Preset::names_secret
    #[must_use]
    pub fn names_secret(&self, name: &str) -> bool {
        self.secrets.names.contains_key(&*bare(name).to_ascii_lowercase())
    }

    /// Whether a name is any advertiser's own for a token or signature.
    #[must_use]
    pub fn names_credential(&self, name: &str) -> bool {
        self.secrets.names.get(&*bare(name).to_ascii_lowercase()).is_some_and(|is_one| *is_one)
    }
}

/// The advertisers of both catalogs that have other secrets in the new one, by ID, and under which
/// keys; nothing of the secrets themselves. Times at which they are valid do not count.
pub(super) fn changed_secrets(old: &Catalog, new: &Catalog) -> Vec<Change> {
    let changed = new.advertiser_ids().filter_map(|id| {
        let (before, now) =
            (old.advertiser(id)?.auth.as_deref(), new.advertiser(id)?.auth.as_deref());
        let mut keys = Vec::new();
        if !are_the_same(tokens(before), tokens(now)) {
            keys.push("auth.tokens".to_owned());
        }
        if !are_the_same(signing_keys(before), signing_keys(now)) {
            keys.push("auth.hmac".to_owned());
        }
        let change =
            |keys| Change { change: Kind::Changed, id: id.into(), keys, money: Vec::new() };
        (!keys.is_empty()).then(|| change(keys))
    });
    let mut changed: Vec<_> = changed.collect();
    changed.sort_unstable_by(|one, other| one.id.cmp(&other.id));
    changed
}

fn tokens(auth: Option<&Auth>) -> &[Dated<blake3::Hash>] {
    auth.and_then(|auth| auth.tokens.as_ref()).map_or(&[], |tokens| &tokens.secrets)
}

fn signing_keys(auth: Option<&Auth>) -> &[Dated<SigningKey>] {
    auth.and_then(|auth| auth.signatures.as_ref()).map_or(&[], |signatures| &signatures.secrets)
}

/// Whether each of the secrets is among the others, and the other way round.
fn are_the_same<T: PartialEq>(some: &[Dated<T>], others: &[Dated<T>]) -> bool {
    let within = |some: &[Dated<T>], all: &[Dated<T>]| {
        some.iter().all(|one| all.iter().any(|other| other.secret == one.secret))
    };
    within(some, others) && within(others, some)
}
