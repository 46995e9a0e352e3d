//! The real binary, started on a folder of its own, spoken to over real sockets.

mod harness;

mod clicks;
mod crash;
mod drain;
mod hostile;
mod metrics;
mod money;
mod once;
mod postbacks;
mod rates;
mod records;
mod reports;
