//! The real binary, started on a folder of its own, spoken to over real sockets.

mod harness;

mod auth;
mod backup;
mod base;
mod caps;
mod catalog_api;
mod catalog_cli;
mod clicks;
mod crash;
mod customers;
mod drain;
mod erase;
mod faults;
mod fraud;
mod hostile;
mod ledger;
mod metrics;
mod money;
mod month;
mod once;
mod openapi;
mod poison;
mod postbacks;
mod presets;
mod privacy;
mod rates;
mod rates_file;
mod records;
mod report_sums;
mod reports;
#[path = "../model/rng.rs"]
mod rng;
mod status;
mod steps;
mod totals;
mod upgrade;
mod verify;
