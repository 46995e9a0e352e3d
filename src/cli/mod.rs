//! The command line.

mod audit;
mod backup;
mod catalog;
mod check;
mod conversions;
mod erase;
mod fraud;
mod inbound;
mod ledger;
mod out;
mod report;
mod serve;
mod server;
mod token;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use self::out::Ended;

/// Exit code of a server or check that succeeded.
pub const EXIT_OK: u8 = 0;
/// Exit code of a run that failed.
pub const EXIT_FAILED: u8 = 1;
/// Exit code of a configuration or catalog with mistakes; clap uses it for wrong arguments, too.
pub const EXIT_MISTAKES: u8 = 2;
/// Exit code of a server whose disk failed, or hung beyond the drain deadline; a restart recovers.
pub const EXIT_STORE_POISONED: u8 = 3;
/// Exit code of `catalog diff` when there are differences, and of `catalog apply` when another
/// version is in force than the one to be replaced.
pub const EXIT_DIFFERENT: u8 = 4;
/// Exit code of `ledger check` when nothing in a proof is wrong, and nothing is proved by it.
pub const EXIT_NOTHING_PROVED: u8 = 5;

#[derive(Parser)]
#[command(
    name = "postbackd",
    version,
    about = "Tracking server for performance-marketing networks"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the server.
    Serve(ConfigFile),
    /// Checks the configuration, and the catalog and the rates it names, and reports all mistakes.
    CheckConfig(ConfigFile),
    /// Prints what was changed at a running server, by whom, from what to what.
    Audit(audit::AuditArguments),
    /// Works on the catalog.
    #[command(subcommand)]
    Catalog(CatalogCommand),
    /// Works on conversions.
    #[command(subcommand)]
    Conversions(ConversionsCommand),
    /// Says what fraud rules have hit, and what it is worth.
    Fraud(fraud::FraudArguments),
    /// Prints everything that a running server knows by an ID.
    Trace(inbound::TraceArguments),
    /// Prints postbacks as a running server received them, a line of JSON for each.
    Inbound(inbound::InboundArguments),
    /// Judges refused postbacks again by today's catalog: says what would come of them, or does it.
    Reprocess(inbound::ReprocessArguments),
    /// Works on the ledger.
    #[command(subcommand)]
    Ledger(LedgerCommand),
    /// Prints clicks, conversions and money of a running server, by time, offer, affiliate and more.
    Report(report::ReportArguments),
    /// Prints a postback's URL, signed as an advertiser does.
    Sign(token::SignArguments),
    /// Makes secrets of advertisers, and tokens of the admin API.
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Proves that a store is sound, or names what is broken.
    Verify(ledger::StoreArguments),
    /// Has a running server erase what it knows of a click's visitor or an advertiser's customer.
    Erase(erase::EraseArguments),
    /// Makes a verified copy of the store below backup.path, while the server runs or not.
    Backup(backup::BackupArguments),
    /// Makes a store of a backup, in a folder that is empty or not there, and verifies it.
    Restore(backup::RestoreArguments),
}

#[derive(Subcommand)]
enum ConversionsCommand {
    /// Tells a running server what has become of conversions; prints a line for each.
    Status(conversions::StatusArguments),
}

#[derive(Subcommand)]
enum LedgerCommand {
    /// Prints a proof that a conversion's postings are in the ledger, for the affiliate to check.
    Prove {
        #[command(flatten)]
        store: ledger::StoreArguments,
        /// The conversion's ID.
        conversion: String,
    },
    /// Checks a proof by itself, without the store.
    Check {
        /// What `ledger prove` has printed.
        file: PathBuf,
    },
}

#[derive(Subcommand)]
enum CatalogCommand {
    /// Checks a catalog file and reports all mistakes.
    Check {
        /// The catalog file; JSON if its name ends in .json.
        file: PathBuf,
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Says what differs between two catalogs, and which of it is about money, and checks the first.
    Diff {
        /// The catalog file; JSON if its name ends in .json.
        file: PathBuf,
        /// The catalog it is compared with: a file, or http://HOST:PORT or https://HOST:PORT of a server's admin
        /// listener.
        #[arg(long, value_name = "FILE|URL")]
        against: String,
        #[command(flatten)]
        config: ConfigFile,
        #[command(flatten)]
        access: server::Access,
    },
    /// Brings a catalog into force at a running server that has no catalog file.
    Apply(catalog::ApplyArguments),
    /// Prints the catalog in force at a running server, or an earlier one, as TOML.
    Show(catalog::ShowArguments),
}

#[derive(clap::Args)]
struct ConfigFile {
    /// The configuration file; without one, defaults and environment variables count.
    #[arg(long, env = "POSTBACKD_CONFIG")]
    config: Option<PathBuf>,
}

/// Runs the command that the process's arguments name.
#[must_use]
pub fn run() -> ExitCode {
    let ended = match Arguments::parse().command {
        // Its store is closed; somebody may still read in a copy of it.
        Command::Serve(file) => serve::end(code(serve::run(file.config.as_deref()))),
        Command::CheckConfig(file) => check::config(file.config.as_deref()),
        Command::Catalog(CatalogCommand::Check { file, config }) => {
            check::catalog(&file, config.config.as_deref())
        }
        Command::Catalog(CatalogCommand::Diff { file, against, config, access }) => {
            catalog::diff(&file, &against, &access, config.config.as_deref())
        }
        Command::Ledger(LedgerCommand::Prove { store, conversion }) => {
            ledger::prove(&store, &conversion)
        }
        Command::Ledger(LedgerCommand::Check { file }) => ledger::check(&file),
        Command::Audit(arguments) => audit::run(&arguments),
        Command::Fraud(arguments) => fraud::run(&arguments),
        Command::Trace(arguments) => inbound::trace(&arguments),
        Command::Inbound(arguments) => inbound::list(&arguments),
        Command::Reprocess(arguments) => inbound::reprocess(&arguments),
        Command::Report(arguments) => report::run(&arguments),
        Command::Sign(arguments) => token::sign(&arguments),
        Command::Token(command) => token::run(&command),
        Command::Verify(store) => verify::run(&store),
        Command::Erase(arguments) => erase::run(&arguments),
        Command::Backup(arguments) => backup::back_up(&arguments),
        Command::Restore(arguments) => backup::run_restore(&arguments),
        Command::Catalog(CatalogCommand::Apply(arguments)) => catalog::apply(&arguments),
        Command::Catalog(CatalogCommand::Show(arguments)) => catalog::show(&arguments),
        Command::Conversions(ConversionsCommand::Status(arguments)) => {
            conversions::status(&arguments)
        }
    };
    ExitCode::from(code(ended))
}

/// The exit code, however it came to it.
fn code(ended: Result<u8, Ended>) -> u8 {
    ended.unwrap_or_else(|code| code)
}
