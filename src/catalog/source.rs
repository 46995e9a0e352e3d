//! Bringing a catalog into force: read, check, number, keep, swap. A bad one leaves the old one.
//!
//! All of it may take seconds for a large catalog and is no work for a thread that others wait
//! for.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use serde_json::json;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use super::check::read;
use super::diff::{self, Diff};
use super::document::Document;
use super::file::ROOT;
use super::file_offer::NetworkDefaults;
use super::once::warn_of_converted;
use super::owners::refuse_moved;
use super::removed::warn_of_removed;
use super::reopened::warn_of_reopened;
use super::retire::outlive;
use super::secrets::changed_secrets;
use super::snapshot::{self, Catalog, Counts, Numbers};
use crate::audit::Author;
use crate::caps::Meters;
use crate::checked_toml::tree::Entries;
use crate::checked_toml::{Format, Report, Source};
use crate::model::admin::AuditAction;
use crate::model::currency::Currency;
use crate::model::ids::{AffiliateNumber, OfferNumber};
use crate::store::records::CatalogRecord;
use crate::store::{
    self, ChangeError, CustomerWindows, NumbersError, OfferOwners, ReadError, Store, WriteError,
};

/// After a failed count of conversions.
const COUNT_AGAIN_AFTER: Duration = Duration::from_secs(1);

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
    /// The catalog has mistakes.
    #[error("the catalog has mistakes:\n{0}")]
    Mistakes(Report),
    /// Another version is in force than the one that was to be replaced.
    #[error("version {} is in force", version_text(*.0))]
    Stale(u64),
    /// The store could not be read.
    #[error(transparent)]
    Store(#[from] ReadError),
    /// The store gave no numbers.
    #[error("the store gave no numbers: {0}")]
    Numbers(#[from] NumbersError),
    /// The numbers do not fit; a bug of ours.
    #[error(transparent)]
    Unnumbered(#[from] snapshot::NumbersError),
    /// The store did not take the text.
    #[error("the catalog was not kept: {0}")]
    Kept(#[from] ChangeError),
    /// The store did not take the entry of the audit log.
    #[error("the change of secrets was not kept: {0}")]
    Noted(#[from] WriteError),
}

/// Where a catalog came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The file that the configuration names.
    File,
    /// The API.
    Api,
}

impl Origin {
    const fn code(self) -> u8 {
        match self {
            Self::File => 1,
            Self::Api => 2,
        }
    }

    /// The word for a kept code.
    #[must_use]
    pub const fn word(code: u8) -> Option<&'static str> {
        match code {
            1 => Some("file"),
            2 => Some("api"),
            _ => None,
        }
    }
}

/// Which versions may be replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replaces {
    /// Whatever is in force.
    Any,
    /// One of these.
    OneOf(Vec<u64>),
}

impl Replaces {
    /// Whether `version` may be replaced.
    #[must_use]
    pub fn allows(&self, version: u64) -> bool {
        match self {
            Self::Any => true,
            Self::OneOf(versions) => versions.contains(&version),
        }
    }
}

/// What a catalog would change.
#[derive(Debug)]
pub struct Comparison {
    /// Its version.
    pub version: u64,
    /// The version in force.
    pub in_force: u64,
    /// What would change.
    pub diff: Diff,
    /// What someone should look at.
    pub warnings: Report,
}

/// Where the catalog comes from and where it is in force.
pub struct CatalogSource {
    path: Option<PathBuf>,
    defaults: NetworkDefaults,
    in_force: Arc<ArcSwap<Catalog>>,
    store: Arc<Store>,
    meters: Arc<Meters>,
    /// Changes come one after the other. What is left to do for the last one waits for the
    /// same of the one before.
    turn: Mutex<Option<JoinHandle<()>>>,
}

impl CatalogSource {
    /// Catalogs from the file `path`, or without one by the API and from the store.
    #[must_use]
    pub fn new(
        path: Option<PathBuf>,
        defaults: NetworkDefaults,
        in_force: Arc<ArcSwap<Catalog>>,
        store: Arc<Store>,
        meters: Arc<Meters>,
    ) -> Self {
        Self { path, defaults, in_force, store, meters, turn: Mutex::default() }
    }

    /// Whether a file is the source, and the API changes nothing.
    #[must_use]
    pub const fn is_file(&self) -> bool {
        self.path.is_some()
    }

    /// Brings the file into force, or without one what the store has kept; returns the warnings.
    ///
    /// # Errors
    /// When it did not come into force; the old one then stays.
    pub async fn load(&self, by: &Author, now_ms: u64) -> Result<Report, LoadError> {
        let mut turn = self.turn.lock().await;
        let is_start = self.in_force.load().version() == 0;
        if let Some(path) = &self.path {
            let document = Document::read(path)
                .map_err(|error| LoadError::Unreadable { path: path.clone(), error })?;
            let name = path.display().to_string();
            let from = Given { name: &name, origin: Origin::File, is_start, by, now_ms };
            return self.bring_into_force(&mut turn, &document, from).await;
        }
        let Some((record, text)) = self.store.catalog().await? else {
            return Ok(Report::new(""));
        };
        let document = document_of(record, text)?;
        let from = Given { name: "the kept catalog", origin: Origin::Api, is_start, by, now_ms };
        self.bring_into_force(&mut turn, &document, from).await
    }

    /// Brings a catalog into force if it replaces what it was meant to; returns the warnings.
    ///
    /// # Errors
    /// When it did not come into force; the old one then stays.
    pub async fn apply(
        &self,
        document: &Document,
        replaces: &Replaces,
        by: &Author,
        now_ms: u64,
    ) -> Result<Report, LoadError> {
        let mut turn = self.turn.lock().await;
        let version = self.in_force.load().version();
        if !replaces.allows(version) {
            return Err(LoadError::Stale(version));
        }
        let (name, origin, is_start) = ("catalog", Origin::Api, false);
        let from = Given { name, origin, is_start, by, now_ms };
        self.bring_into_force(&mut turn, document, from).await
    }

    /// Checks a catalog as [`Self::apply`] would and says what would change; changes nothing.
    ///
    /// # Errors
    /// When it has mistakes, or what is in force cannot be read.
    pub async fn compare(&self, document: &Document, now_ms: u64) -> Result<Comparison, LoadError> {
        let (in_force, kept) = self.current().await?;
        let owners = self.store.offer_owners().await?;
        let new = document.source("catalog").map_err(LoadError::Mistakes)?;
        read(&new.root(ROOT), &self.defaults, Some(now_ms));
        if new.has_errors() || new.lacks_something() {
            return Err(LoadError::Mistakes(new.into_report().refusing_what_lacks()));
        }
        let old = kept.source("the catalog in force").map_err(LoadError::Mistakes)?;
        refuse_moved(&owners, Some(old.tree()), &new);
        if new.has_errors() {
            return Err(LoadError::Mistakes(new.into_report()));
        }
        let diff = compared(old.tree(), &new, self.defaults.currency);
        Ok(Comparison { version: document.version(), in_force, diff, warnings: new.into_report() })
    }

    /// The catalog in force and its version, as it was given.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn current(&self) -> Result<(u64, Document), ReadError> {
        let _turn = self.turn.lock().await;
        Ok(match self.store.catalog().await? {
            Some((record, text)) => (record.version, document_of(record, text)?),
            None => (0, Document { format: Format::Toml, text: String::new() }),
        })
    }

    /// A catalog that was in force, as it was given; `None` if it is not kept any more.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn of_version(&self, version: u64) -> Result<Option<Document>, ReadError> {
        let _turn = self.turn.lock().await;
        let kept = self.store.catalog_of(version).await?;
        kept.map(|(record, text)| document_of(record, text)).transpose()
    }

    async fn bring_into_force(
        &self,
        last: &mut Option<JoinHandle<()>>,
        document: &Document,
        from: Given<'_>,
    ) -> Result<Report, LoadError> {
        let Given { name, is_start, now_ms, .. } = from;
        let owners = self.store.offer_owners().await?;
        let windows = self.store.customer_windows().await?;
        let (change, noted) = self.change(document, name, &owners).await?;
        let of_force =
            |report: Report| if is_start { report } else { report.refusing_what_lacks() };
        let checked = document.check(name, &self.defaults, now_ms);
        let (checked, warnings) =
            checked.map_err(|report| LoadError::Mistakes(of_force(report)))?;
        let mut warnings = of_force(warnings);
        if noted.has_errors() {
            return Err(LoadError::Mistakes(noted));
        }
        warnings.add(noted);
        if warnings.has_errors() {
            return Err(LoadError::Mistakes(warnings));
        }
        let numbers =
            self.store.assign_numbers(checked.offer_ids(), checked.affiliate_ids()).await?;
        let mut catalog = checked.into_catalog(document.version(), &numbers)?;
        catalog.note_departed(&owners, &windows, &numbers);
        drop(numbers);
        let secrets = changed_secrets(&self.in_force.load(), &catalog);
        if !change.is_none(catalog.version()) || !secrets.is_empty() {
            self.keep(&catalog, document, from, &change, &secrets).await?;
        }
        // Not before it is kept: one that is refused after all gives no offer to anybody.
        if let Err(error) = self.keep_of_offers(&catalog, &owners, &windows).await {
            // As long as it is in force it says so of its offers itself.
            tracing::error!(%error, "whose the offers are is written with the next catalog");
        }
        drop((owners, windows));
        let (version, counts) = (version_text(catalog.version()), catalog.counts());
        let Counts { advertisers, offers, affiliates, links } = counts;
        tracing::info!(%version, advertisers, offers, affiliates, links, "catalog in force");
        let metered = catalog.metered();
        let old = self.in_force.swap(Arc::new(catalog));
        let place = self.meters.want(&metered);
        let (meters, store) = (Arc::clone(&self.meters), Arc::clone(&self.store));
        let before = last.take();
        *last = Some(tokio::spawn(async move {
            if let Some(before) = before {
                // An error means that the runtime is ending.
                let _ = before.await;
            }
            outlive(old).await;
            count(&meters, place, &store, now_ms).await;
        }));
        Ok(warnings)
    }

    /// Keeps what counts of its offers when they have left the catalog.
    async fn keep_of_offers(
        &self,
        catalog: &Catalog,
        owners: &OfferOwners,
        windows: &CustomerWindows,
    ) -> Result<(), ChangeError> {
        let offers = || catalog.offers().iter();
        let owned = offers().map(|offer| (&*offer.id, &*offer.advertiser.id));
        self.store.keep_offer_owners(owners, owned).await?;
        let windowed = offers().map(|offer| (&*offer.id, offer.customer_window_ms));
        self.store.keep_customer_windows(windows, windowed).await
    }

    /// What `document` changes in the catalog that is kept, for the audit log, and what is to be
    /// said of that. Looked at first: afterwards it would be in memory beside the checked catalog.
    async fn change(
        &self,
        document: &Document,
        name: &str,
        owners: &OfferOwners,
    ) -> Result<(Change, Report), LoadError> {
        let newest = self.store.catalog_versions().await?.first().map(|kept| kept.record.version);
        if newest == Some(document.version()) {
            let change = Change { before: newest, diff: Some(Diff::default()) };
            return Ok((change, Report::new(name)));
        }
        // One that cannot be read does not keep another from taking its place.
        let kept = if newest.is_some() { self.store.catalog().await.ok().flatten() } else { None };
        let kept = kept.and_then(|(record, text)| document_of(record, text).ok());
        let kept = kept.as_ref().and_then(|kept| kept.source("the kept catalog").ok());
        let mut change = Change { before: newest, diff: None };
        if kept.is_none() && owners.is_empty() {
            return Ok((change, Report::new(name)));
        }
        // Mistakes are for the check to report.
        let Ok(new) = document.source(name) else { return Ok((change, Report::new(name))) };
        let old = kept.as_ref().map(Source::tree);
        change.diff = old.map(|old| compared(old, &new, self.defaults.currency));
        refuse_moved(owners, old, &new);
        Ok((change, new.into_report()))
    }

    /// Keeps the text, if it is another one, and the entry about it.
    async fn keep(
        &self,
        catalog: &Catalog,
        document: &Document,
        from: Given<'_>,
        change: &Change,
        secrets: &[diff::Change],
    ) -> Result<(), LoadError> {
        let Given { origin, by, now_ms, .. } = from;
        let count = |of: usize| u32::try_from(of).unwrap_or(u32::MAX);
        let counts = catalog.counts();
        let record = CatalogRecord {
            version: catalog.version(),
            applied_ms: now_ms,
            source: origin.code(),
            format: code_of(document.format),
            text_bytes: document.text.len() as u64,
            advertisers: count(counts.advertisers),
            offers: count(counts.offers),
            affiliates: count(counts.affiliates),
            links: count(counts.links),
        };
        let subject = version_text(record.version);
        let details = json!({
            "before": change.before.map(version_text),
            "after": subject,
            "entries": {
                "advertisers": record.advertisers, "offers": record.offers,
                "affiliates": record.affiliates, "links": record.links,
            },
            "changes": change.diff.as_ref().map(|diff| diff.summary(secrets)),
        });
        let entry = by.entry(now_ms, AuditAction::Catalog, &subject, &details);
        if change.is_none(record.version) {
            return Ok(self.store.keep_audit(&entry.as_stored()).await?);
        }
        Ok(self.store.keep_catalog(&document.text, record, &entry.as_stored()).await?)
    }
}

/// Where a catalog comes from.
#[derive(Clone, Copy)]
struct Given<'f> {
    /// For reports.
    name: &'f str,
    origin: Origin,
    /// Whether there is no better one: then clicks, and the other advertisers, go on by it.
    is_start: bool,
    by: &'f Author,
    now_ms: u64,
}

/// What a catalog changes.
struct Change {
    before: Option<u64>,
    /// Nothing if there was none before, or it cannot be read.
    diff: Option<Diff>,
}

/// What turns a catalog into another one. What has to be said of that is noted in the new one.
/// `network` is the currency of events that name none.
#[must_use]
pub fn compared(old: &Entries<'_>, new: &Source<'_>, network: Currency) -> Diff {
    warn_of_removed(old, new);
    warn_of_converted(old, new);
    warn_of_reopened(old, new, network);
    Diff::between(old, new.tree())
}

impl Change {
    /// Whether the text is that of before.
    fn is_none(&self, version: u64) -> bool {
        self.before == Some(version)
    }
}

/// Counts the offers that have come to have caps or tiers, until it succeeds.
async fn count(meters: &Meters, catalog: u64, store: &Store, now_ms: u64) {
    while let Err(error) = meters.count(catalog, store, now_ms).await {
        tracing::warn!(%error, "capped offers are not counted yet and take no postbacks");
        tokio::time::sleep(COUNT_AGAIN_AFTER).await;
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

/// A version as people see it.
#[must_use]
pub fn version_text(version: u64) -> String {
    format!("{version:016x}")
}

const fn code_of(format: Format) -> u8 {
    match format {
        Format::Toml => 1,
        Format::Json => 2,
    }
}

fn document_of(record: CatalogRecord, text: String) -> Result<Document, ReadError> {
    let format = match record.format {
        1 => Format::Toml,
        2 => Format::Json,
        _ => return Err(store::records::RecordError::Corrupt.into()),
    };
    Ok(Document { format, text })
}
