//! The real binary, started on a folder of its own, spoken to over real sockets.

mod harness;

mod caps;
mod catalog_api;
mod catalog_cli;
mod clicks;
mod crash;
mod drain;
mod hostile;
mod ledger;
mod metrics;
mod money;
mod once;
mod openapi;
mod poison;
mod postbacks;
mod presets;
mod rates;
mod rates_file;
mod records;
mod reports;
mod status;
mod verify;
