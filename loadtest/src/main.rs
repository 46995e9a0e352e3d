//! `loadtest`: load generator and book checker for postbackd.
//!
//! In reading order: [`cli`] names the subcommands; [`run`], [`table`] and [`soak`] prepare a
//! [`target`] with one [`server`]; [`scenario`] writes requests and judges answers; [`drive`] is the
//! loop that moves them over [`connection`]s, at the [`pace`] asked for, reading with
//! [`answer`], counting in [`tally`]; [`books`] compares what was answered with what [`admin`]
//! finds stored, and [`money`] what sales should earn by the [`catalog`], unless they were taken
//! back, with what they did; [`floor`] is the server that does nothing, or nothing but wait for its
//! [`journal`]; [`tls`] is for both sides.

mod admin;
mod answer;
mod books;
mod catalog;
mod cli;
mod connection;
mod drive;
#[cfg(test)]
mod fake;
mod floor;
mod journal;
mod machine;
mod money;
mod pace;
mod run;
mod scenario;
mod server;
mod soak;
mod table;
mod tally;
mod target;
mod text;
mod tls;

use std::process::ExitCode;

use clap::Parser;

/// A measured answer was no: books that do not match, a budget that is not met.
const EXIT_MISMATCH: u8 = 1;
/// Nothing could be measured.
const EXIT_FAILED: u8 = 2;

fn main() -> ExitCode {
    let result = match cli::Cli::parse().command {
        cli::Command::Floor(args) => floor::run(&args).map(|()| true),
        cli::Command::Catalog(args) => {
            print!("{}", catalog::Catalog::new(&args).toml());
            Ok(true)
        }
        cli::Command::Run(args) => run::run(&args),
        cli::Command::Table(args) => table::run(&args),
        cli::Command::Soak(args) => soak::run(&args),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(EXIT_MISMATCH),
        Err(error) => {
            eprintln!("loadtest: {error}");
            ExitCode::from(EXIT_FAILED)
        }
    }
}
