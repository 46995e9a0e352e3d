//! `admin.tokens`: the named tokens of the admin API. Blocks: it reads files.

use std::fmt::Display;

use jiff::tz::TimeZone;

use super::settings::Settings;
use super::{Secret, SecretSource};
use crate::checked_toml::{Input, Table, end_ms, one_of};
use crate::limits::ADMIN_TOKENS_MAX;
use crate::model::admin::{KnownToken, Role, TAKEN_NAMES};
use crate::model::ids::is_id;

const TOKENS: &str = "admin.tokens";
/// Keys of a token.
const KEYS: &[&str] = &["name", "role", "secret", "until"];
const KEYS_REQUIRED: [&str; 3] = ["name", "role", "secret"];

/// Where a token is written.
enum Place<'p, 't> {
    File(&'p Table<'t>),
    /// The environment, and by which name.
    Environment(&'p Settings<'t>, &'t str),
}

impl Place<'_, '_> {
    fn error(&self, key: &str, complaint: impl Display) {
        match self {
            Self::File(table) => table.error(key, complaint),
            Self::Environment(settings, name) => {
                settings.error(TOKENS, format!("{name:?}: {key} {complaint}"));
            }
        }
    }

    fn warning(&self, key: &str, complaint: impl Display) {
        match self {
            Self::File(table) => table.warning(key, complaint),
            Self::Environment(settings, name) => {
                settings.warning(TOKENS, format!("{name:?}: {complaint}"));
            }
        }
    }
}

/// A token as it is written: name, role and where its secret is.
type Written<'t> = [&'t str; 3];

/// Reads the tokens; mistakes are noted. `first` is the secret of `admin.token`.
pub fn tokens(
    settings: &mut Settings<'_>,
    time_zone: &TimeZone,
    first: Option<&Secret<String>>,
) -> Vec<KnownToken> {
    let (tables, text) = settings.tables(TOKENS, "name", KEYS);
    let mut from_file = Read::new(first);
    for table in &tables {
        let place = Place::File(table);
        let text = |key| table.required(key, Input::text);
        let until_ms = table.optional("until", |input| end_ms(input, time_zone));
        if let [Some(name), Some(role), Some(secret)] = KEYS_REQUIRED.map(text) {
            from_file.add(&place, [name, role, secret], until_ms);
        }
    }
    from_file.count(|what| settings.error(TOKENS, what));
    let Some(text) = text else { return from_file.tokens };
    // What the environment says counts; mistakes of the file are noted all the same.
    let mut from_environment = Read::new(first);
    let items = Some(text).filter(|text| !text.is_empty()).map(|text| text.split(','));
    for item in items.into_iter().flatten() {
        let mut words = item.split_whitespace();
        let (Some(name), Some(role), Some(secret), until, None) =
            (words.next(), words.next(), words.next(), words.next(), words.next())
        else {
            settings.error(TOKENS, "a token is NAME ROLE SECRET, or NAME ROLE SECRET UNTIL");
            continue;
        };
        let place = Place::Environment(settings, name);
        let until = until.map(|until| end_ms(Input::Text(until), time_zone)).transpose();
        match until {
            Ok(until_ms) => from_environment.add(&place, [name, role, secret], until_ms),
            Err(complaint) => place.error("until", complaint),
        }
    }
    from_environment.count(|what| settings.error(TOKENS, what));
    from_environment.tokens
}

/// What was read so far.
struct Read {
    tokens: Vec<KnownToken>,
    /// Whose secret has which hash, and in which words it was named.
    secrets: Vec<(String, Option<blake3::Hash>, String)>,
}

impl Read {
    fn new(first: Option<&Secret<String>>) -> Self {
        let hash = first.map(|secret| blake3::hash(secret.expose().as_bytes()));
        let first = hash.map(|hash| ("admin.token".to_owned(), Some(hash), String::new()));
        Self { tokens: Vec::new(), secrets: first.into_iter().collect() }
    }

    fn add(
        &mut self,
        place: &Place<'_, '_>,
        [name, role, secret]: Written<'_>,
        until: Option<u64>,
    ) {
        let name_is = |token: &KnownToken| *token.name == *name;
        if !is_id(name) {
            place.error("name", format_args!("{name:?} is not 1 to 64 of A-Z a-z 0-9 . _ -"));
        } else if TAKEN_NAMES.contains(&name) {
            place.error("name", format_args!("{name:?} has a meaning of its own; choose another"));
        } else if self.tokens.iter().any(name_is) {
            place.error("name", format_args!("{name:?} is taken by an earlier token"));
        }
        let words: Vec<_> = Role::ALL.iter().map(|role| (role.as_str(), *role)).collect();
        let role = one_of(role, &words).map_err(|complaint| place.error("role", complaint));
        let hash = hash_of(place, secret);
        let same = |(_, other, words): &&(String, Option<blake3::Hash>, String)| {
            words == secret || (hash.is_some() && *other == hash)
        };
        if let Some((whose, ..)) = self.secrets.iter().find(same) {
            place.error("secret", format_args!("is the secret of {whose}, too"));
        }
        self.secrets.push((name.to_owned(), hash, secret.to_owned()));
        // With a mistake nobody uses any of them.
        let role = role.unwrap_or(Role::Read);
        self.tokens.push(KnownToken { name: name.into(), role, hash, until_ms: until });
    }

    fn count(&self, note: impl FnOnce(String)) {
        if self.tokens.len() > ADMIN_TOKENS_MAX {
            note(format!("has more than {ADMIN_TOKENS_MAX} tokens"));
        }
    }
}

const NO_REFERENCE: &str = "holds no secrets: write \"blake3:HEX\", which `postbackd token hash` \
                            prints, \"env:NAME\" or \"file:/PATH\"";

/// The hash of what a reference leads to; `None` if there is nothing, which is noted.
fn hash_of(place: &Place<'_, '_>, reference: &str) -> Option<blake3::Hash> {
    let Some(source) = SecretSource::parse(reference) else {
        place.error("secret", NO_REFERENCE);
        return None;
    };
    match (source, source.read()) {
        (SecretSource::Hash(hash), _) => Some(hash),
        (_, Ok(secret)) => Some(blake3::hash(secret.expose().as_bytes())),
        (_, Err(error)) => {
            place.warning("secret", format_args!("{error}: nothing will match it"));
            None
        }
    }
}
