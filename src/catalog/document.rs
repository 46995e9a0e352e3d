//! A catalog as text: what a file holds, what the API takes and gives, what the store keeps.

use std::path::Path;

use super::check::check;
use super::file_offer::NetworkDefaults;
use super::snapshot::Checked;
use crate::checked_toml::{Format, Report, Source, read_text, to_json, to_toml};
use crate::limits::CATALOG_BYTES_MAX;
use crate::store::records::CatalogRecord;

/// A catalog's text and its language.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// The language.
    pub format: Format,
    /// The text.
    pub text: String,
}

impl Document {
    /// Reads a file; its name ends in `.json` if it is JSON. Blocks.
    ///
    /// # Errors
    /// When the file cannot be read or is larger than a catalog may be.
    pub fn read(path: &Path) -> std::io::Result<Self> {
        let text = read_text(path, "a catalog", CATALOG_BYTES_MAX as u64)?;
        let json = path.extension().is_some_and(|extension| extension == "json");
        let format = if json { Format::Json } else { Format::Toml };
        Ok(Self { format, text })
    }

    /// Names the content: the first 8 bytes of its BLAKE3; 0 for no content.
    #[must_use]
    pub fn version(&self) -> u64 {
        CatalogRecord::version_of(blake3::Hasher::new().update(self.text.as_bytes()))
    }

    /// Reads the text; `name` is for the report only.
    ///
    /// # Errors
    /// All mistakes of syntax.
    pub fn source(&self, name: &str) -> Result<Source<'_>, Report> {
        Source::parse_as(self.format, &self.text, name)
    }

    /// Checks the catalog whole, as it is now. The report beside it holds warnings only.
    ///
    /// # Errors
    /// The report of all mistakes and warnings.
    pub fn check(
        &self,
        name: &str,
        defaults: &NetworkDefaults,
        now_ms: u64,
    ) -> Result<(Checked, Report), Report> {
        check(self.source(name)?, defaults, Some(now_ms))
    }

    /// The same catalog in another language. Comments do not come along.
    ///
    /// # Errors
    /// All mistakes of syntax.
    pub fn into_format(self, format: Format) -> Result<Self, Report> {
        if self.format == format {
            return Ok(self);
        }
        let source = self.source("catalog")?;
        let text = match format {
            Format::Toml => to_toml(source.tree()),
            Format::Json => to_json(source.tree()),
        };
        Ok(Self { format, text })
    }
}
