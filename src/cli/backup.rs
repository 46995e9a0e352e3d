//! `backup` and `restore`.

use std::path::PathBuf;

use serde_json::Value;

use super::out::{Ended, failed, mistake, say};
use super::serve::load_config;
use super::server::{Access, Server};
use super::verify::print;
use super::{ConfigFile, EXIT_OK};
use crate::backup::{BackupError, Backups, restore};
use crate::config::Config;
use crate::store::{copy_closed, database_folder};
use crate::time::Clock;

/// What `backup` is told.
#[derive(clap::Args)]
pub struct BackupArguments {
    #[command(flatten)]
    config: ConfigFile,
    /// The admin listener of a running server, http://HOST:PORT or https://HOST:PORT, where no configuration is at hand.
    #[arg(long, value_name = "URL")]
    admin: Option<String>,
    #[command(flatten)]
    access: Access,
}

/// What `restore` is told.
#[derive(clap::Args)]
pub struct RestoreArguments {
    /// The backup: a folder below backup.path.
    folder: PathBuf,
    /// The folder that store.path will name; empty or not there yet.
    #[arg(long, value_name = "PATH")]
    to: PathBuf,
}

/// Has a backup made, by the server if it runs, and prints where it is.
pub fn back_up(arguments: &BackupArguments) -> Result<u8, Ended> {
    let taken = match &arguments.admin {
        Some(address) => arguments.access.server(address)?.work("backup", None)?,
        None => {
            arguments.access.refuse_without_address()?;
            configured(&load_config(arguments.config.config.as_deref())?)?
        }
    };
    if taken["verified"].is_object() {
        print(&taken["verified"])?;
    }
    let folder = taken["folder"].as_str().ok_or_else(|| failed("the answer names no backup"))?;
    if taken["linked"] == true {
        eprintln!("on the store's own file system: it goes with that disk");
    }
    say!("{} bytes in {} ms", taken["bytes"], taken["took_ms"]);
    say!("{folder}");
    Ok(EXIT_OK)
}

/// Asks the server that the configuration is of; where there is none, copies the store.
fn configured(config: &Config) -> Result<Value, Ended> {
    let Some(backups) = Backups::configured(config) else {
        return Err(mistake(
            "no configuration says where backups go: give --config, and set backup.path in it",
        ));
    };
    if let Some(server) = Server::configured(config)? {
        return server.work("backup", None);
    }
    let database = database_folder(&config.store.path);
    let copy = |folder: &std::path::Path| Ok(copy_closed(&database, folder)?);
    let taken = backups.take(Clock::System.now_ms(), copy, &|| Ok(())).map_err(failed)?;
    serde_json::to_value(taken).map_err(failed)
}

/// Makes a store of a backup.
pub fn run_restore(arguments: &RestoreArguments) -> Result<u8, Ended> {
    let verified = match restore(&arguments.folder, &arguments.to, Clock::System.now_ms()) {
        Ok(verified) => verified,
        Err(BackupError::Unsound(report)) => {
            let _ = serde_json::to_value(report).map(|report| print(&report));
            return Err(failed("nothing was restored"));
        }
        Err(error) => return Err(failed(error)),
    };
    match verified.map(serde_json::to_value) {
        Some(Ok(report)) => _ = print(&report),
        _ => say!("of an earlier format: start the server once, then verify"),
    }
    say!("restored into {}", arguments.to.display());
    Ok(EXIT_OK)
}
