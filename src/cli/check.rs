//! `check-config` and `catalog check`: all mistakes, no server.

use std::path::Path;

use super::out::say;
use super::serve::load_config;
use super::{EXIT_FAILED, EXIT_MISTAKES, EXIT_OK};
use crate::catalog::{Document, NetworkDefaults};
use crate::checked_toml::Report;
use crate::config::{Config, RatesFile, Tls};
use crate::rates::{self, FileError};
use crate::time::Clock;
use crate::tls::{Certificates, TlsError};

/// Checks the configuration, and the catalog and the rates it names.
pub fn config(file: Option<&Path>) -> u8 {
    let config = match load_config(file) {
        Ok(config) => config,
        Err(code) => return code,
    };
    say!("configuration: fine");
    let listeners = [("public", &config.server.tls), ("admin", &config.admin.tls)];
    let tls = listeners.map(|(listener, tls)| tls.as_ref().map(|tls| check_tls(listener, tls)));
    let catalog = config.catalog.as_ref().map(|path| check_catalog(path, defaults(&config)));
    let rates = config.rates.as_ref().map(check_rates);
    // All are checked before the first failure counts.
    tls.into_iter()
        .chain([catalog, rates])
        .flatten()
        .find(|code| *code != EXIT_OK)
        .unwrap_or(EXIT_OK)
}

/// Checks a catalog file.
pub fn catalog(path: &Path, config: Option<&Path>) -> u8 {
    match load_config(config) {
        Ok(config) => check_catalog(path, defaults(&config)),
        Err(code) => code,
    }
}

fn check_tls(listener: &'static str, files: &Tls) -> u8 {
    match Certificates::load(listener, files, Clock::System.now_ms()) {
        Ok((_, loaded)) => {
            loaded.warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
            say!("TLS, {listener} listener: fine, valid until {}", loaded.validity);
            EXIT_OK
        }
        Err(error) => {
            eprintln!("TLS, {listener} listener: {error}");
            if matches!(error, TlsError::Unreadable { .. }) { EXIT_FAILED } else { EXIT_MISTAKES }
        }
    }
}

fn check_catalog(path: &Path, defaults: NetworkDefaults) -> u8 {
    let document = match Document::read(path) {
        Ok(document) => document,
        Err(error) => {
            eprintln!("cannot read {}: {error}", path.display());
            return EXIT_FAILED;
        }
    };
    match document.check(&path.display().to_string(), &defaults) {
        Ok((checked, warnings)) => {
            print_all(&warnings);
            let (offers, affiliates) =
                (checked.offer_ids().count(), checked.affiliate_ids().count());
            say!("catalog: fine, {offers} offers, {affiliates} affiliates");
            EXIT_OK
        }
        Err(report) => {
            print_all(&report);
            EXIT_MISTAKES
        }
    }
}

fn check_rates(file: &RatesFile) -> u8 {
    match rates::read(file) {
        Ok(days) => {
            let (first, last) = (days.keys().next(), days.keys().next_back());
            let span = first.zip(last).map(|(first, last)| format!(", {first} to {last}"));
            say!("rates: fine, {} days{}", days.len(), span.unwrap_or_default());
            EXIT_OK
        }
        Err(FileError::Mistakes(report)) => {
            print_all(&report);
            EXIT_MISTAKES
        }
        Err(error @ FileError::Unreadable { .. }) => {
            eprintln!("{error}");
            EXIT_FAILED
        }
    }
}

fn defaults(config: &Config) -> NetworkDefaults {
    NetworkDefaults {
        currency: config.network.currency,
        time_zone: config.network.time_zone.clone(),
    }
}

fn print_all(report: &Report) {
    if !report.is_empty() {
        eprint!("{report}");
    }
}
