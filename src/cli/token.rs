//! `token` and `sign`: secrets of advertisers, what they sign, and tokens of the admin API. No secret
//! is ever an argument, where others on the machine could read it.

use std::io::Read;
use std::time::Duration;

use jiff::Timestamp;

use super::EXIT_OK;
use super::out::{Ended, failed, mistake, say};
use crate::auth::{Canonical, SecretSource, SigningKey, hash_text};
use crate::checked_toml::units;
use crate::limits::{SECRET_BYTES_MAX, TOKEN_CHARS_MIN};
use crate::model::admin::{Role, TAKEN_NAMES};
use crate::model::hex::hex;
use crate::model::ids::is_id;
use crate::query::{Params, encode_into};

/// What `token` does.
#[derive(clap::Subcommand)]
pub enum TokenCommand {
    /// Prints a new secret, and the lines for the catalog.
    New(Made),
    /// Prints a new secret, and the lines for the catalog in which the old one ends later.
    Rotate {
        #[command(flatten)]
        made: Made,
        /// The old secret as the catalog names it: blake3:HEX, env:NAME or file:/PATH.
        #[arg(long, value_name = "REFERENCE")]
        old: String,
        /// For how long both are valid.
        #[arg(long, value_name = "DURATION", default_value = "14d", value_parser = duration)]
        overlap: Duration,
    },
    /// Prints a new token of the admin API, and the lines for the configuration.
    Admin {
        /// Whose it is; in the audit log.
        #[arg(long, value_parser = name)]
        name: String,
        /// What it allows: `read` or `write`.
        #[arg(long, value_parser = role)]
        role: Role,
        /// For how long it is valid; for ever if absent.
        #[arg(long, value_name = "DURATION", value_parser = validity)]
        valid: Option<Duration>,
    },
    /// Prints how a catalog, or the configuration, names a token that there is already; reads it
    /// from standard input.
    Hash,
}

/// How a secret is made.
#[derive(clap::Args)]
pub struct Made {
    /// Makes a secret that signs, and says where the server will find it: env:NAME or file:/PATH.
    /// Without it, a token.
    #[arg(long, value_name = "REFERENCE")]
    hmac: Option<String>,
    /// For how long it is valid: by default a month longer than until the alert of old secrets.
    #[arg(long, value_name = "DURATION", default_value = "120d", value_parser = validity)]
    valid: Duration,
}

/// What `sign` is told.
#[derive(clap::Args)]
pub struct SignArguments {
    /// Where the secret is: env:NAME or file:/PATH.
    #[arg(long, value_name = "REFERENCE")]
    secret: String,
    /// When it was signed, Unix seconds; now if absent.
    #[arg(long, value_name = "SECONDS")]
    ts: Option<u64>,
    /// A text that is used once; a random one if absent.
    #[arg(long, value_name = "TEXT")]
    nonce: Option<String>,
    /// The postback's URL with all its parameters.
    url: String,
}

fn name(text: &str) -> Result<String, String> {
    match is_id(text) && !TAKEN_NAMES.contains(&text) {
        true => Ok(text.to_owned()),
        false => Err(format!("1 to 64 of A-Z a-z 0-9 . _ -, and none of {TAKEN_NAMES:?}")),
    }
}

fn role(text: &str) -> Result<Role, String> {
    Role::parse(text).ok_or_else(|| "neither read nor write".to_owned())
}

fn duration(text: &str) -> Result<Duration, String> {
    units::duration(text).map_err(|complaint| complaint.to_string())
}

/// Secrets are valid from one second to another.
fn validity(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        valid if valid < Duration::from_secs(1) => {
            Err("it would never be valid; 1s is the shortest".to_owned())
        }
        valid => Ok(valid),
    }
}

/// Runs `token`.
pub fn run(command: &TokenCommand) -> Result<u8, Ended> {
    let text = match command {
        TokenCommand::New(made) => new(made, None),
        TokenCommand::Rotate { made, old, overlap } => new(made, Some((old, *overlap))),
        TokenCommand::Admin { name, role, valid } => admin(name, *role, *valid),
        TokenCommand::Hash => hash(),
    }?;
    say!("{text}");
    Ok(EXIT_OK)
}

/// Prints a URL, signed.
pub fn sign(arguments: &SignArguments) -> Result<u8, Ended> {
    say!("{}", signed(arguments)?);
    Ok(EXIT_OK)
}

/// 64 hex digits by chance.
fn random() -> Result<String, Ended> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(failed)?;
    Ok(hex(&bytes))
}

fn new(made: &Made, old: Option<(&String, Duration)>) -> Result<String, Ended> {
    let is_reference = |text: &str| SecretSource::parse(text).is_some() && !text.contains('"');
    let is_place = |text: &str| is_reference(text) && !text.starts_with("blake3:");
    if made.hmac.as_deref().is_some_and(|place| !is_place(place)) {
        return Err(mistake("--hmac is env:NAME or file:/PATH"));
    }
    if old.is_some_and(|(old, _)| !is_reference(old)) {
        return Err(mistake("--old is blake3:HEX, env:NAME or file:/PATH"));
    }
    if let (Some(place), Some((old, _))) = (&made.hmac, old) {
        if old.starts_with("blake3:") {
            return Err(mistake(
                "--old is env:NAME or file:/PATH: a signature cannot be checked by a hash of its secret",
            ));
        }
        if SecretSource::parse(place) == SecretSource::parse(old) {
            return Err(mistake(
                "--hmac is the same as --old: give the new secret a place of its own, or both names would be the new one",
            ));
        }
    }
    let secret = random()?;
    let (check, name, whose) = match &made.hmac {
        Some(place) => {
            let whose = format!(", and for the server: put it where that looks for it, {place}");
            ("hmac", place.clone(), whose)
        }
        None => {
            let name = hash_text(&secret);
            let whose = format!("; the server needs {name}");
            ("tokens", name, whose)
        }
    };
    // Whole seconds: a file that people read.
    let now = Timestamp::from_second(Timestamp::now().as_second()).map_err(failed)?;
    let until = now.checked_add(made.valid).map_err(failed)?;
    let mut lines = String::new();
    if let Some((old, overlap)) = old {
        let ends = now.checked_add(overlap).map_err(failed)?;
        lines += &format!("    {{ secret = \"{old}\", until = \"{ends}\" }},\n");
    }
    lines += &format!("    {{ secret = \"{name}\", from = \"{now}\", until = \"{until}\" }},\n");
    Ok(format!(
        "# The secret, for the advertiser{whose}. It is not shown again.\n{secret}\n\n# In auth of the advertiser:\n{check} = [\n{lines}]"
    ))
}

fn admin(name: &str, role: Role, valid: Option<Duration>) -> Result<String, Ended> {
    let secret = random()?;
    let mut lines = format!(
        "[[admin.tokens]]\nname = \"{name}\"\nrole = \"{role}\"\nsecret = \"{}\"",
        hash_text(&secret)
    );
    if let Some(valid) = valid {
        let now = Timestamp::from_second(Timestamp::now().as_second()).map_err(failed)?;
        let until = now.checked_add(valid).map_err(failed)?;
        lines += &format!("\nuntil = \"{until}\"");
    }
    Ok(format!("# The token. It is not shown again.\n{secret}\n\n# In the configuration:\n{lines}"))
}

fn hash() -> Result<String, Ended> {
    let mut token = String::new();
    let limit = 2 * SECRET_BYTES_MAX as u64;
    std::io::stdin().take(limit).read_to_string(&mut token).map_err(failed)?;
    match token.trim() {
        "" => Err(mistake("there is no token on standard input")),
        token if token.len() > SECRET_BYTES_MAX => Err(mistake("a token has at most 1024 bytes")),
        token if token.len() < TOKEN_CHARS_MIN => Err(mistake(format!(
            "a token of fewer than {TOKEN_CHARS_MIN} characters can be guessed by its hash: write env:NAME or file:/PATH where it is, or make a new one"
        ))),
        token => Ok(hash_text(token)),
    }
}

fn signed(arguments: &SignArguments) -> Result<String, Ended> {
    let source = SecretSource::parse(&arguments.secret);
    let source = source.ok_or_else(|| mistake("--secret is env:NAME or file:/PATH"))?;
    let key = SigningKey::new(source.read().map_err(failed)?);
    if arguments.url.contains('#') {
        return Err(mistake(
            "what comes behind # is never sent: write it as %23 where it is part of a value",
        ));
    }
    let (address, query) = arguments.url.split_once('?').unwrap_or((&arguments.url, ""));
    let mut query = query.trim_end_matches('&').to_owned();
    let has = |query: &str, name: &str| {
        Params::new(query.as_bytes()).any(|param| param.name.as_encoded() == name.as_bytes())
    };
    if has(&query, "sig") {
        return Err(mistake("the URL has a sig already"));
    }
    let told = [("ts", arguments.ts.is_some()), ("nonce", arguments.nonce.is_some())];
    if let Some((name, _)) = told.iter().find(|(name, is_told)| *is_told && has(&query, name)) {
        return Err(mistake(format!("the URL has a {name} already: leave out --{name}")));
    }
    let mut add = |name: &str, value: &str| {
        let mut encoded = Vec::new();
        encode_into(value.as_bytes(), &mut encoded);
        let value = String::from_utf8(encoded).expect("percent-encoding is ASCII");
        let mark = if query.is_empty() { "" } else { "&" };
        if !has(&query, name) {
            query += &format!("{mark}{name}={value}");
        }
    };
    let now = u64::try_from(Timestamp::now().as_second()).unwrap_or_default();
    add("ts", &arguments.ts.unwrap_or(now).to_string());
    match &arguments.nonce {
        Some(nonce) => add("nonce", nonce),
        None => add("nonce", &random()?[..32]),
    }
    let mut canonical = Canonical::default();
    for param in Params::new(query.as_bytes()) {
        let (name, value) = (param.name.decode(), param.value.decode());
        let (Ok(name), Ok(value)) = (name, value) else {
            return Err(mistake("the URL is not percent-encoded UTF-8"));
        };
        canonical.add(&name, &value);
    }
    let signature = hex(&key.sign(&canonical.into_text()));
    Ok(format!("{address}?{query}&sig={signature}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_secret_is_not_put_where_the_old_one_is() {
        let check = |hmac: Option<&str>, old: &str, is_taken: bool| {
            let made = Made { hmac: hmac.map(str::to_owned), valid: Duration::from_secs(60) };
            let old = old.to_owned();
            let rotated = new(&made, Some((&old, Duration::from_secs(1))));
            assert_eq!(rotated.is_ok(), is_taken, "{hmac:?} {old}");
        };
        check(Some("file:/run/key"), "file:/run/key", false);
        check(Some("file:/run/key"), "file:/run//key", false);
        check(Some("env:KEY"), "env:KEY", false);
        check(Some("env:KEY_2"), "env:KEY", true);
        check(Some("file:/run/key"), "env:KEY", true);
        // What signs is known by more than its hash.
        let hash = hash_text("x");
        check(Some("env:KEY"), &hash, false);
        check(None, &hash, true);
    }
}
