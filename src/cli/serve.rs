//! `serve`: log, configuration, server, wait.

use std::path::Path;

use super::out::{Ended, failed, mistake, mistakes};
use super::{EXIT_FAILED, EXIT_OK, EXIT_STORE_POISONED};
use crate::app::{Server, ServerError, Signals, Stopped};
use crate::checked_toml::Report;
use crate::config::{Config, ReadError};
use crate::telemetry;

/// Runs the server until it is told to stop.
pub fn run(file: Option<&Path>) -> Result<u8, Ended> {
    // Before anything else, so that none ends the process or is lost.
    let signals = Signals::hear();
    let config = load_config(file)?;
    // Until the end, which waits for its last lines.
    let log = telemetry::init(config.log.format, config.log.level.as_str())
        .map_err(|error| failed(format_args!("cannot start: {error}")))?;
    let built = signals
        .map_err(ServerError::from)
        .and_then(|signals| Server::build(config, file, signals, log.left_out(), give_up));
    let server = match built {
        Ok(server) => server,
        Err(ServerError::ToldToStop) => {
            tracing::info!("stopped before it served");
            return Ok(EXIT_OK);
        }
        Err(error) => {
            tracing::error!(%error, "cannot start");
            return Err(EXIT_FAILED);
        }
    };
    match server.run() {
        Ok(Stopped::Drained) => Ok(EXIT_OK),
        Ok(Stopped::StorePoisoned) => Err(EXIT_STORE_POISONED),
        Err(error) => {
            tracing::error!(%error, "stopped by a failure");
            Err(EXIT_FAILED)
        }
    }
}

/// Ends the process at once, whatever its threads are at: what else runs at an exit waits for the
/// engine's own threads, which a disk may keep for ever, and takes from those that still read what
/// they stand on.
pub fn end(code: u8) -> ! {
    signal_hook::low_level::exit(code.into())
}

fn give_up() {
    end(EXIT_STORE_POISONED);
}

/// Loads the configuration. On failure prints the report and returns the exit code.
pub fn load_config(file: Option<&Path>) -> Result<Config, Ended> {
    sound(Config::read_file(file))
}

/// A configuration that was read, as [`load_config`].
pub fn sound(read: Result<(Config, Report), ReadError>) -> Result<Config, Ended> {
    match read {
        Ok((config, warnings)) => {
            eprint!("{warnings}");
            Ok(config)
        }
        Err(ReadError::Mistakes { report, .. }) => Err(mistakes(&report)),
        Err(error @ ReadError::NotText(_)) => Err(mistake(error)),
        Err(error @ ReadError::Unreadable { .. }) => Err(failed(error)),
    }
}
