//! `serve`: log, configuration, server, wait.

use std::path::{Path, PathBuf};

use super::{EXIT_FAILED, EXIT_MISTAKES, EXIT_OK, EXIT_STORE_POISONED};
use crate::app::{Server, Stopped};
use crate::config::Config;
use crate::limits::EXIT_MAX;
use crate::telemetry;

/// Runs the server until it is told to stop.
pub fn run(file: Option<&Path>) -> u8 {
    let config = match load_config(file) {
        Ok(config) => config,
        Err(code) => return code,
    };
    telemetry::init(config.log.format, config.log.level.as_str());
    let server = match Server::build(config) {
        Ok(server) => server,
        Err(error) => {
            tracing::error!(%error, "cannot start");
            return EXIT_FAILED;
        }
    };
    match server.run(give_up) {
        Ok(Stopped::Drained) => EXIT_OK,
        Ok(Stopped::StorePoisoned) => EXIT_STORE_POISONED,
        Err(error) => {
            tracing::error!(%error, "stopped by a failure");
            EXIT_FAILED
        }
    }
}

/// Ends the process though threads of it wait for the disk, and may do so for ever.
#[expect(clippy::disallowed_methods, reason = "main does not return while threads hang")]
fn give_up() {
    // What runs at exit waits for the engine's own threads.
    let _ = std::thread::Builder::new().spawn(|| {
        std::thread::sleep(EXIT_MAX);
        std::process::abort();
    });
    std::process::exit(EXIT_STORE_POISONED.into());
}

/// Loads the configuration; relative paths in it are relative to its folder. On failure prints
/// the report and returns the exit code.
pub fn load_config(file: Option<&Path>) -> Result<Config, u8> {
    let (name, text) = match file {
        None => ("environment".to_owned(), None),
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(|error| {
                eprintln!("cannot read {}: {error}", path.display());
                EXIT_FAILED
            })?;
            (path.display().to_string(), Some(text))
        }
    };
    let env = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let loaded = Config::load_with_warnings(text.as_deref(), &name, env);
    let (mut config, warnings) = loaded.map_err(|report| {
        eprint!("{report}");
        EXIT_MISTAKES
    })?;
    if !warnings.is_empty() {
        eprint!("{warnings}");
    }
    let folder = file.and_then(Path::parent).map_or_else(PathBuf::new, Path::to_path_buf);
    config.store.path = folder.join(&config.store.path);
    config.backup.path = config.backup.path.map(|path| folder.join(path));
    config.catalog = config.catalog.map(|path| folder.join(path));
    for tls in [&mut config.server.tls, &mut config.admin.tls].into_iter().flatten() {
        tls.certificate = folder.join(&tls.certificate);
        tls.key = folder.join(&tls.key);
    }
    if let Some(rates) = &mut config.rates {
        rates.path = folder.join(&rates.path);
    }
    Ok(config)
}
