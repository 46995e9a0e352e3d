//! `ledger prove` and `ledger check`: a proof from a store or a running server, and its check
//! without either.

use std::path::{Path, PathBuf};

use super::out::{Ended, failed, mistake, read, say};
use super::server::{Access, Server};
use super::{EXIT_NOTHING_PROVED, EXIT_OK};
use crate::admin::Call;
use crate::click_id::RecordId;
use crate::ledger;
use crate::limits::VERIFY_CACHE_BYTES;
use crate::model::currency::Currency;
use crate::model::money::Sum;
use crate::store::{Archive, database_folder, is_written_elsewhere};

/// Where a store is: a folder, or behind a server.
#[derive(clap::Args)]
pub struct StoreArguments {
    /// The folder that `store.path` names, of a server that does not run. It is only read.
    #[arg(long, value_name = "PATH", conflicts_with = "admin")]
    store: Option<PathBuf>,
    /// The admin listener of a running server, http://HOST:PORT or https://HOST:PORT.
    #[arg(long, value_name = "URL")]
    admin: Option<String>,
    #[command(flatten)]
    access: Access,
}

/// A store that a command was pointed to.
pub enum Source {
    /// Opened to be read.
    Archive(Archive),
    /// Behind a server's admin listener.
    Server(Server),
}

impl StoreArguments {
    /// Opens what the arguments name.
    ///
    /// # Errors
    /// The exit code; why is printed.
    pub fn open(&self) -> Result<Source, Ended> {
        match (&self.store, &self.admin) {
            (Some(path), _) => {
                let folder = database_folder(path);
                if is_written_elsewhere(&folder) {
                    return Err(failed(format_args!(
                        "{}: a server has this store open, and its files change while they are \
                         read; ask it instead: --admin URL --token-file FILE",
                        path.display()
                    )));
                }
                let opened = Archive::open(&folder, VERIFY_CACHE_BYTES);
                opened.map(Source::Archive).map_err(failed)
            }
            (None, Some(address)) => self.access.server(address).map(Source::Server),
            (None, None) => {
                Err(mistake("say which store: --store PATH, or --admin URL --token-file FILE"))
            }
        }
    }
}

/// Prints the proof of a conversion's postings.
pub fn prove(arguments: &StoreArguments, conversion: &str) -> Result<u8, Ended> {
    let Some(id) = RecordId::parse(conversion.as_bytes()) else {
        let what = format!("{conversion:?} is not a conversion ID: 22 characters of 0-9A-Za-z");
        return Err(mistake(what));
    };
    let text = match arguments.open()? {
        Source::Archive(archive) => {
            let proof = ledger::prove(&archive.view(), id).map_err(failed)?;
            serde_json::to_string_pretty(&proof).map_err(failed)?
        }
        Source::Server(server) => {
            server.call(&format!("ledger/proofs/{conversion}"), &Call::default())?
        }
    };
    say!("{text}");
    if serde_json::from_str(&text).is_ok_and(|proof: ledger::Proof| proof.is_empty()) {
        eprintln!(
            "it proves nothing: the conversion has no posting of a day that is sealed, an hour after its end"
        );
    }
    Ok(EXIT_OK)
}

/// Checks a proof by itself and prints what it proves.
pub fn check(file: &Path) -> Result<u8, Ended> {
    let name = file.display();
    let proof = serde_json::from_str(&read(file)?)
        .map_err(|error| failed(format_args!("{name}: not a proof: {error}")))?;
    let checked = ledger::check(&proof)
        .map_err(|error| failed(format_args!("{name}: does not hold: {error}")))?;
    say!("conversion {}", checked.conversion_id);
    let is_proved = !checked.postings.is_empty();
    for posting in checked.postings {
        let ledger::CheckedPosting { day, step, currency, owed, worth } = posting;
        let mut amount = amount(owed, &currency);
        for (base, owed) in worth {
            amount.push_str(&format!(" ({})", self::amount(owed, &base)));
        }
        say!("step {step}: {amount} owed to the affiliate, sealed on {day}");
    }
    for day in checked.unsealed_days {
        say!("{day} is not sealed yet and nothing is proved of it");
    }
    match checked.newest_seal {
        Some((day, hash)) => say!("newest seal, of {day}: {hash}"),
        None => say!("no seal"),
    }
    if !is_proved {
        eprintln!("nothing is proved: the proof has no posting of a sealed day");
        return Ok(EXIT_NOTHING_PROVED);
    }
    Ok(EXIT_OK)
}

fn amount(micros: i128, currency: &str) -> String {
    let known = Currency::parse(currency).unwrap_or(Currency::USD);
    format!("{} {currency}", Sum::new(micros).display(known))
}
