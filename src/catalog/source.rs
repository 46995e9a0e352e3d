//! Loading the catalog into force: read, check, number, swap. A bad file leaves the old one.

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::check::parse;
use super::file_offer::NetworkDefaults;
use super::snapshot::{self, Catalog, Numbers};
use crate::checked_toml::Report;
use crate::model::ids::{AffiliateNumber, OfferNumber};
use crate::store::{self, NumbersError, Store};

/// Why a catalog did not come into force.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("cannot read the catalog {}: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The file has mistakes.
    #[error("the catalog has mistakes:\n{0}")]
    Mistakes(Report),
    /// The store gave no numbers.
    #[error("the store gave no numbers: {0}")]
    Numbers(#[from] NumbersError),
    /// The numbers do not fit; a bug of ours.
    #[error(transparent)]
    Unnumbered(#[from] snapshot::NumbersError),
}

/// Where the catalog comes from and where it is in force.
pub struct CatalogSource {
    /// The file; without one the catalog stays empty.
    pub path: Option<PathBuf>,
    /// What it leaves to the network.
    pub defaults: NetworkDefaults,
    /// The catalog in force.
    pub in_force: Arc<ArcSwap<Catalog>>,
    /// Gives numbers.
    pub store: Arc<Store>,
}

impl CatalogSource {
    /// Loads the file and swaps it in; returns the warnings. Blocks on the file.
    ///
    /// # Errors
    /// When it did not come into force; the old one then stays.
    pub async fn load(&self) -> Result<Report, LoadError> {
        let Some(path) = &self.path else { return Ok(Report::new("")) };
        let text = std::fs::read_to_string(path)
            .map_err(|error| LoadError::Unreadable { path: path.clone(), error })?;
        let (checked, warnings) = parse(&text, &path.display().to_string(), &self.defaults)
            .map_err(LoadError::Mistakes)?;
        let numbers =
            self.store.assign_numbers(checked.offer_ids(), checked.affiliate_ids()).await?;
        let catalog = checked.into_catalog(version_of(&text), &numbers)?;
        tracing::info!(version = %format_args!("{:016x}", catalog.version()), counts = ?catalog.counts(), "catalog in force");
        self.in_force.store(Arc::new(catalog));
        Ok(warnings)
    }
}

impl Numbers for store::Numbers {
    fn offer(&self, id: &str) -> Option<OfferNumber> {
        self.offer(id)
    }

    fn affiliate(&self, id: &str) -> Option<AffiliateNumber> {
        self.affiliate(id)
    }
}

/// Names a catalog's content: the first 8 bytes of its BLAKE3.
fn version_of(text: &str) -> u64 {
    let mut version = [0; 8];
    version.copy_from_slice(&blake3::hash(text.as_bytes()).as_bytes()[..8]);
    u64::from_be_bytes(version)
}
