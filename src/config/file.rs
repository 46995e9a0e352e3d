//! The configuration of this process: its file, and its environment over it.

use std::path::{Path, PathBuf};

use super::Config;
use super::settings::PREFIX;
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
    /// A variable of ours is no text.
    #[error("the environment variable {0} is not UTF-8")]
    NotText(String),
    /// It has mistakes.
    #[error("the configuration has mistakes:\n{report}")]
    Mistakes {
        /// All of them.
        report: Report,
        /// What could be read beside them, for whoever checks what it names; nothing to serve by.
        rest: Option<Box<Config>>,
    },
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
        let mut env = Vec::new();
        for (name, value) in std::env::vars_os() {
            // What is no text is not called as ours are.
            let Ok(name) = name.into_string() else { continue };
            match value.into_string() {
                Ok(value) => env.push((name, value)),
                Err(_) if name.starts_with(PREFIX) => return Err(ReadError::NotText(name)),
                Err(_) => {}
            }
        }
        let folder = file.and_then(Path::parent).unwrap_or(Path::new(""));
        let read = Self::read_below(folder, text.as_deref(), &name, env);
        let (config, report) = read.map_err(|report| ReadError::Mistakes { report, rest: None })?;
        if report.has_errors() {
            return Err(ReadError::Mistakes { report, rest: Some(Box::new(config)) });
        }
        Ok((config, report))
    }

    /// Relative paths start at a folder.
    pub(super) fn begin_paths_at(&mut self, folder: &Path) {
        let begin = |path: &mut PathBuf| *path = folder.join(&*path);
        begin(&mut self.store.path);
        self.backup.path.iter_mut().for_each(begin);
        self.catalog.iter_mut().for_each(begin);
        for tls in [&mut self.server.tls, &mut self.admin.tls].into_iter().flatten() {
            begin(&mut tls.certificate);
            begin(&mut tls.key);
        }
        self.rates.iter_mut().for_each(|rates| begin(&mut rates.path));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backups_and_store_are_kept_apart_wherever_the_configuration_is_read_from() {
        let folder = tempfile::tempdir().expect("a folder");
        let read = |backups: &str| {
            let store = folder.path().join("data");
            let text = format!("[store]\npath = {store:?}\n[backup]\npath = {backups:?}\n");
            Config::read_below(folder.path(), Some(&text), "postbackd.toml", []).expect("TOML")
        };
        let refused = read("data/backups").1.to_string();
        assert!(refused.contains("backup.path: is the store's folder, in it"), "{refused}");
        let (config, report) = read("backups");
        assert!(!report.has_errors(), "{report}");
        assert_eq!(config.backup.path, Some(folder.path().join("backups")));
    }
}
