//! `check-config` and `catalog check`: all mistakes, no server.

use std::path::Path;

use super::serve::load_config;
use super::{EXIT_FAILED, EXIT_MISTAKES, EXIT_OK};
use crate::catalog::{Document, NetworkDefaults};
use crate::checked_toml::Report;
use crate::config::Config;

/// Checks the configuration and the catalog it names.
pub fn config(file: Option<&Path>) -> u8 {
    let config = match load_config(file) {
        Ok(config) => config,
        Err(code) => return code,
    };
    println!("configuration: fine");
    match &config.catalog {
        Some(path) => check_catalog(path, defaults(&config)),
        None => EXIT_OK,
    }
}

/// Checks a catalog file.
pub fn catalog(path: &Path, config: Option<&Path>) -> u8 {
    match load_config(config) {
        Ok(config) => check_catalog(path, defaults(&config)),
        Err(code) => code,
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
            println!("catalog: fine, {offers} offers, {affiliates} affiliates");
            EXIT_OK
        }
        Err(report) => {
            print_all(&report);
            EXIT_MISTAKES
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
