//! The configuration of this process: its file, and its environment over it.

use std::path::{Path, PathBuf};

use super::Config;
use crate::checked_toml::Report;

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// It has mistakes.
    #[error("the configuration has mistakes:\n{0}")]
    Mistakes(Report),
}

impl Config {
    /// Reads `file` (`None`: there is none) and the environment over it; relative paths in it are
    /// relative to its folder. The report beside the configuration holds warnings only. Blocks.
    ///
    /// # Errors
    /// When it cannot be read or has mistakes.
    pub fn read_file(file: Option<&Path>) -> Result<(Self, Report), ReadError> {
        let (name, text) = match file {
            None => ("environment".to_owned(), None),
            Some(path) => {
                let unreadable = |error| ReadError::Unreadable { path: path.to_owned(), error };
                let text = std::fs::read_to_string(path).map_err(unreadable)?;
                (path.display().to_string(), Some(text))
            }
        };
        let env = std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        let loaded = Self::load_with_warnings(text.as_deref(), &name, env);
        let (mut config, warnings) = loaded.map_err(ReadError::Mistakes)?;
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
        Ok((config, warnings))
    }
}
