//! `backup` and `restore`.

use std::io::ErrorKind;
use std::path::PathBuf;

use serde_json::Value;

use super::catalog::{ServerArguments, client, failed};
use super::out::say;
use super::serve::load_config;
use super::verify::{by_server, print};
use super::{ConfigFile, EXIT_FAILED, EXIT_MISTAKES, EXIT_OK};
use crate::admin::{AdminClient, AdminToken, ClientError};
use crate::backup::{BackupError, Backups, restore};
use crate::config::Config;
use crate::store::{copy_closed, database_folder};
use crate::time::Clock;
use crate::tls::Trust;

/// What `backup` is told.
#[derive(clap::Args)]
pub struct BackupArguments {
    #[command(flatten)]
    config: ConfigFile,
    /// The admin listener of a running server, http://HOST:PORT or https://HOST:PORT, where no configuration is at hand.
    #[arg(long, value_name = "URL")]
    admin: Option<String>,
    #[command(flatten)]
    server: ServerArguments,
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
pub fn back_up(arguments: &BackupArguments) -> u8 {
    backed_up(arguments).unwrap_or_else(|code| code)
}

fn backed_up(arguments: &BackupArguments) -> Result<u8, u8> {
    let taken = match &arguments.admin {
        Some(address) => by_server(&client(address, &arguments.server)?, "backup")?,
        None => configured(&load_config(arguments.config.config.as_deref())?)?,
    };
    if taken["verified"].is_object() {
        print(&taken["verified"])?;
    }
    let folder = taken["folder"].as_str().ok_or_else(|| failed("the answer names no backup"))?;
    say!("{} bytes in {} ms", taken["bytes"], taken["took_ms"]);
    say!("{folder}");
    Ok(EXIT_OK)
}

/// Asks the server that the configuration is of; where there is none, copies the store.
fn configured(config: &Config) -> Result<Value, u8> {
    let Some(backups) = Backups::configured(config) else {
        eprintln!("the configuration does not say where backups go: set backup.path");
        return Err(EXIT_MISTAKES);
    };
    if let Some(client) = server(config)? {
        return by_server(&client, "backup");
    }
    let database = database_folder(&config.store.path);
    let copy = |folder: &std::path::Path| Ok(copy_closed(&database, folder)?);
    let taken = backups.take(Clock::System.now_ms(), copy, &|| Ok(())).map_err(failed)?;
    serde_json::to_value(taken).map_err(failed)
}

/// A client of the server; `None` if nobody listens where it would.
pub(super) fn server(config: &Config) -> Result<Option<AdminClient>, u8> {
    let mut address = config.admin.listen;
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            std::net::SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            std::net::SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    match std::net::TcpStream::connect(address) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => return Ok(None),
        Err(error) => return Err(failed(format!("cannot reach {address}: {error}"))),
    }
    let token = match &config.admin.token {
        Some(token) => token.expose().clone(),
        None => {
            let path = config.admin_token_file();
            std::fs::read_to_string(&path)
                .map_err(|error| failed(format!("cannot read {}: {error}", path.display())))?
        }
    };
    // By the certificate itself: it is of another name than the address's.
    let (scheme, trust) = match &config.admin.tls {
        None => ("http", Trust::System),
        Some(tls) => ("https", Trust::Certificate(&tls.certificate)),
    };
    // What the configuration names is an address of this machine.
    let token = AdminToken::new(token.trim().to_owned());
    let client = AdminClient::new(&format!("{scheme}://{address}"), trust, token, false);
    client.map(Some).map_err(|error: ClientError| failed(error))
}

/// Makes a store of a backup.
pub fn run_restore(arguments: &RestoreArguments) -> u8 {
    let restored = match restore(&arguments.folder, &arguments.to, Clock::System.now_ms()) {
        Ok(restored) => restored,
        Err(BackupError::Unsound(report)) => {
            let _ = serde_json::to_value(report).map(|report| print(&report));
            eprintln!("nothing was restored");
            return EXIT_FAILED;
        }
        Err(error) => return failed(error),
    };
    match restored.verified.map(serde_json::to_value) {
        Some(Ok(report)) => _ = print(&report),
        _ => say!("of an earlier format: start the server once, then verify"),
    }
    say!("restored into {}", arguments.to.display());
    EXIT_OK
}
