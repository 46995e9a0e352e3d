//! `check-config` and `catalog check`: all mistakes, no server.

use std::path::Path;

use super::EXIT_OK;
use super::catalog::document;
use super::out::{Ended, failed, mistake, mistakes, say};
use super::serve::{load_config, sound};
use crate::catalog::NetworkDefaults;
use crate::checked_toml::{Mistake, Severity};
use crate::config::{Config, RatesFile, ReadError, Tls};
use crate::rates::{self, FileError};
use crate::time::Clock;
use crate::tls::{Certificates, TlsError};

/// Checks the configuration, and what it names: also where it has mistakes, as far as it can be
/// read.
pub fn config(file: Option<&Path>) -> Result<u8, Ended> {
    let (config, is_sound) = match Config::read_file(file) {
        Err(ReadError::Mistakes { report, rest: Some(mut rest) }) => {
            // By another currency or time zone than the network's it would have other mistakes.
            let is_of_network = |mistake: &&Mistake| {
                mistake.severity == Severity::Error && mistake.key.starts_with("network")
            };
            let ended = mistakes(&report);
            if report.mistakes().iter().any(is_of_network) && rest.catalog.take().is_some() {
                eprintln!("catalog: not checked before [network] is correct");
            }
            (*rest, Err(ended))
        }
        read => (sound(read)?, Ok(())),
    };
    warn_of_ended_tokens(&config, Clock::System.now_ms());
    if is_sound.is_ok() {
        say!("configuration: fine");
    }
    let listeners = [("public", &config.server.tls), ("admin", &config.admin.tls)];
    let tls = listeners.map(|(listener, tls)| tls.as_ref().map(|tls| check_tls(listener, tls)));
    let catalog = config.catalog.as_ref().map(|path| check_catalog(path, defaults(&config)));
    let rates = config.rates.as_ref().map(check_rates);
    // All are checked before the first failure counts.
    [Some(is_sound)]
        .into_iter()
        .chain(tls)
        .chain([catalog, rates])
        .flatten()
        .collect::<Result<(), _>>()?;
    Ok(EXIT_OK)
}

/// Checks a catalog file.
pub fn catalog(path: &Path, config: Option<&Path>) -> Result<u8, Ended> {
    check_catalog(path, defaults(&load_config(config)?))?;
    Ok(EXIT_OK)
}

fn warn_of_ended_tokens(config: &Config, now_ms: u64) {
    let is_over = |until_ms| until_ms <= now_ms;
    for token in config.admin.tokens.iter().filter(|token| token.until_ms.is_some_and(is_over)) {
        eprintln!("warning: admin.tokens {:?}: until has passed: it is refused", token.name);
    }
}

fn check_tls(listener: &'static str, files: &Tls) -> Result<(), Ended> {
    match Certificates::load(listener, files, Clock::System.now_ms()) {
        Ok((_, loaded)) => {
            loaded.warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
            say!("TLS, {listener} listener: fine, valid until {}", loaded.validity);
            Ok(())
        }
        Err(error) => {
            let what = format_args!("TLS, {listener} listener: {error}");
            let is_unread = matches!(error, TlsError::Unreadable { .. });
            Err(if is_unread { failed(what) } else { mistake(what) })
        }
    }
}

fn check_catalog(path: &Path, defaults: NetworkDefaults) -> Result<(), Ended> {
    let (name, now_ms) = (path.display().to_string(), Clock::System.now_ms());
    let checked = document(path)?.check(&name, &defaults, now_ms);
    let (checked, warnings) = checked.map_err(|report| mistakes(&report))?;
    eprint!("{warnings}");
    let (offers, affiliates) = (checked.offer_ids().count(), checked.affiliate_ids().count());
    say!("catalog: fine, {offers} offers, {affiliates} affiliates");
    Ok(())
}

fn check_rates(file: &RatesFile) -> Result<(), Ended> {
    let days = rates::read(file).map_err(|error| match error {
        FileError::Mistakes(report) => mistakes(&report),
        FileError::Unreadable { .. } => failed(error),
    })?;
    let (first, last) = (days.keys().next(), days.keys().next_back());
    let span = first.zip(last).map(|(first, last)| format!(", {first} to {last}"));
    say!("rates: fine, {} days{}", days.len(), span.unwrap_or_default());
    Ok(())
}

/// What a configuration says where a catalog says nothing.
pub(super) fn defaults(config: &Config) -> NetworkDefaults {
    NetworkDefaults {
        currency: config.network.currency,
        time_zone: config.network.time_zone.clone(),
    }
}
