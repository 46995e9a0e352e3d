//! The catalog file's schema: what an advertiser's senders have to show.

use std::fmt::Display;

use ipnet::IpNet;
use jiff::tz::TimeZone;

use super::file::window;
use crate::auth::{Addresses, Auth, Dated, SecretSource, Signatures, SigningKey, Tokens};
use crate::checked_toml::{Complaint, Input, Table, end_ms, one_of, start_ms};
use crate::config::Secret;
use crate::limits::{
    ALLOWED_NETWORKS_MAX, SECRETS_PER_CHECK_MAX, TS_WINDOW_DEFAULT_MS, TS_WINDOW_MS_MAX,
};
use crate::model::network::canonical;
use crate::model::reasons::AuthMode;

/// Keys of `auth`.
const AUTH: &[&str] = &["mode", "modes", "tokens", "hmac", "allow_ips", "ts_window", "nonce"];
/// The checks, by their keys.
const CHECKS: &[&str] = &["tokens", "hmac", "allow_ips"];
/// Keys of a secret.
const SECRET: &[&str] = &["secret", "from", "until"];

/// An advertiser's checks; mistakes are noted. Where a secret cannot be read, which is noted as
/// lacking, nothing will match it.
pub fn auth(table: &Table<'_>, time_zone: &TimeZone) -> Option<Box<Auth>> {
    let table = table.table("auth", AUTH)?;
    if !CHECKS.iter().any(|check| table.has(check)) {
        table.error("mode", "checks nothing: give it tokens, hmac or allow_ips");
    }
    let modes = Modes::read(&table);
    let secrets = |check| table.has(check).then(|| secrets(&table, check, time_zone));
    let tokens = secrets("tokens").map(|found| Tokens {
        mode: modes.of("tokens"),
        secrets: found.into_iter().map(|dated| dated.map(Found::hash)).collect(),
    });
    let ts_window_ms = table.optional("ts_window", ts_window).unwrap_or(TS_WINDOW_DEFAULT_MS);
    let needs_nonce = table.optional("nonce", Input::boolean).unwrap_or(false);
    for key in ["ts_window", "nonce"] {
        if table.has(key) && !table.has("hmac") {
            table.error(key, "belongs to hmac, which is not there");
        }
    }
    let signatures = secrets("hmac").map(|found| Signatures {
        mode: modes.of("hmac"),
        secrets: found.into_iter().map(|dated| dated.and_then(Found::key)).collect(),
        ts_window_ms,
        needs_nonce,
    });
    let networks = table.optional("allow_ips", networks);
    let addresses = networks.map(|networks| Addresses { mode: modes.of("allow_ips"), networks });
    Some(Box::new(Auth { addresses, tokens, signatures }))
}

/// What the checks do: `mode` for all, and `modes` for single ones.
struct Modes {
    all: AuthMode,
    single: Vec<(&'static str, AuthMode)>,
}

impl Modes {
    fn read(table: &Table<'_>) -> Self {
        let words: Vec<_> = AuthMode::ALL.iter().map(|mode| (mode.as_str(), *mode)).collect();
        let read = |input: Input<'_>| one_of(input.text()?, &words);
        let all = table.optional("mode", read).unwrap_or(AuthMode::Enforce);
        let modes = table.table("modes", CHECKS);
        let single = modes.iter().flat_map(|modes| {
            CHECKS.iter().filter_map(|check| Some((*check, modes.optional(check, read)?)))
        });
        let single: Vec<_> = single.collect();
        for (check, _) in single.iter().filter(|(check, _)| !table.has(check)) {
            table.error_in("modes", check, format_args!("there is no {check}"));
        }
        Self { all, single }
    }

    fn of(&self, check: &str) -> AuthMode {
        let single = self.single.iter().find(|(known, _)| *known == check);
        single.map_or(self.all, |(_, mode)| *mode)
    }
}

/// A secret, or a token's hash.
enum Found {
    Hash(blake3::Hash),
    Secret(Secret<String>),
}

impl Found {
    fn hash(self) -> blake3::Hash {
        match self {
            Self::Hash(hash) => hash,
            Self::Secret(secret) => blake3::hash(secret.expose().as_bytes()),
        }
    }

    fn key(self) -> Option<SigningKey> {
        match self {
            Self::Hash(_) => None,
            Self::Secret(secret) => Some(SigningKey::new(secret)),
        }
    }
}

fn secrets(table: &Table<'_>, check: &str, time_zone: &TimeZone) -> Vec<Dated<Found>> {
    match table.count(check) {
        0 => table.error(check, "has no secret: every postback would be refused"),
        1..=SECRETS_PER_CHECK_MAX => {}
        _ => table.error(check, format_args!("at most {SECRETS_PER_CHECK_MAX} secrets")),
    }
    // In reports a secret goes by its first day, never by itself.
    let tables = table.each_table(check, "from", SECRET);
    let mut known = Vec::new();
    let dated = |table| dated(&table, check, time_zone, &mut known);
    tables.take(SECRETS_PER_CHECK_MAX).map(dated).collect()
}

/// A secret and its times; `known` has where those before it are.
fn dated<'t>(
    table: &Table<'t>,
    check: &str,
    time_zone: &TimeZone,
    known: &mut Vec<SecretSource<'t>>,
) -> Dated<Found> {
    let source = table.required("secret", |input| {
        SecretSource::parse(input.text()?).ok_or_else(|| {
            Complaint::new(
                "a catalog holds no secrets: write \"env:NAME\", \"file:/PATH\" or, of a token, \"blake3:HEX\", which `postbackd token hash` prints",
            )
        })
    });
    if let Some(source) = source {
        // Whoever wrote the new one over the old one has lost the overlap, and would see nothing. A
        // catalog that is in force is no reason not to start.
        if known.contains(&source) {
            let what = "is the same as an earlier one, so that no old one is valid beside a new \
                        one: give each a place of its own; a start takes it, in a running server \
                        the catalog in force stays";
            table.lacking("secret", what);
        }
        known.push(source);
    }
    let unreadable = |why: &dyn Display| {
        let then =
            "after a start nothing will match it, in a running server the catalog in force stays";
        table.lacking("secret", format_args!("{why}: {then}"));
    };
    let secret = match source {
        Some(SecretSource::Hash(_)) if check == "hmac" => {
            table.error("secret", "a signature cannot be checked by a hash of its secret");
            None
        }
        Some(SecretSource::Hash(hash)) => Some(Found::Hash(hash)),
        Some(source) => source.read().map_err(|error| unreadable(&error)).ok().map(Found::Secret),
        None => None,
    };
    let from_ms = table.optional("from", |input| start_ms(input, time_zone));
    let until_ms = table.optional("until", |input| end_ms(input, time_zone));
    if let (Some(from), Some(until)) = (from_ms, until_ms)
        && from >= until
    {
        table.error("until", "is not after from");
    }
    Dated { secret, from_ms, until_ms }
}

impl<T> Dated<T> {
    fn map<U>(self, to: impl FnOnce(T) -> U) -> Dated<U> {
        self.and_then(|secret| Some(to(secret)))
    }

    fn and_then<U>(self, to: impl FnOnce(T) -> Option<U>) -> Dated<U> {
        let Self { secret, from_ms, until_ms } = self;
        Dated { secret: secret.and_then(to), from_ms, until_ms }
    }
}

fn networks(input: Input<'_>) -> Result<Vec<IpNet>, Complaint> {
    let list = input.list()?;
    if list.is_empty() || list.len() > ALLOWED_NETWORKS_MAX {
        return Err(Complaint::new(format!("must have 1 to {ALLOWED_NETWORKS_MAX} networks")));
    }
    list.into_iter().map(network).collect()
}

/// A network, or one address.
fn network(input: Input<'_>) -> Result<IpNet, Complaint> {
    let text = input.text()?;
    let address = || text.parse().map(|address: std::net::IpAddr| IpNet::from(address));
    text.parse().or_else(|_| address()).map(canonical).map_err(|_| {
        Complaint::new(format!("{text:?} is not a network such as \"203.0.113.0/24\""))
    })
}

fn ts_window(input: Input<'_>) -> Result<u64, Complaint> {
    let window_ms = window(input)?;
    if !(1000..=TS_WINDOW_MS_MAX).contains(&window_ms) {
        return Err(Complaint::new("must be from \"1s\" to \"7d\""));
    }
    Ok(window_ms)
}
