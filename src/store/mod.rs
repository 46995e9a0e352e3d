//! The store, in the domain's words: record a click, look a claim up, commit a conversion.
//!
//! Nothing of the engine leaks out of here. A commit is *durable* only when its ticket says so;
//! what was submitted may be readable earlier, and whoever reads must know from the claims that
//! it is not yet settled.

mod audit;
mod blanking;
mod bounds;
mod cap_sums;
mod catalogs;
mod changes;
mod chunk;
mod claimed;
mod commit;
mod counting;
mod erasing;
mod error;
mod filing;
mod health;
mod identity;
mod inbound;
mod listing;
mod numbers;
mod options;
mod origin;
mod own_ids;
mod owners;
mod rates;
mod reader;
mod received;
mod refusals;
mod restored;
mod retention;
mod retention_time;
mod rocks;
mod sampling;
mod seals;
mod sum_rows;
mod sums;
mod view;
mod writer;

pub mod claim;
pub mod counters;
pub mod engine;
pub mod keys;
pub mod postings;
pub mod records;
pub mod schema;
pub mod ticket;

use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

pub use audit::{AuditEntry, AuditFilter, AuditPage, StoredAudit};
pub use bounds::Bounds;
pub use cap_sums::{ByAffiliate, CapSums};
pub use catalogs::CatalogVersion;
pub use changes::ConversionChange;
pub use counting::{AtOnce, Turn};
pub use erasing::{ClickErasure, ErasedClicks, Touched};
pub use error::{ChangeError, OpenError, ReadError, WriteError};
pub use filing::{Progress, yield_to_others};
pub use health::Health;
pub use identity::Identity;
pub use inbound::Arrival;
pub use listing::{ConversionFilter, Page};
pub use numbers::{Numbers, NumbersError};
pub use owners::{CustomerWindows, OfferOwners};
pub use rates::{ToPrice, days_to_price};
pub use reader::Busy;
pub use received::{FoundInbound, InboundFilter, InboundListing, StoredInbound};
pub use refusals::Refusals;
pub use restored::{copy_closed, part_from_lost_time};
pub use retention::{Expired, Retention};
pub use rocks::{RocksEngine, is_database, is_written_elsewhere};
pub use sampling::Sampling;
pub use sums::{Part, Sums, SumsError, Wanted};
pub use view::{Archive, View, database_folder, decode_posting};
pub use writer::{AppendBuffers, Appended, Observe, SubmitError, Unobserved, Writer};

use crate::click_id::RecordId;
use crate::limits;
use audit::AuditKeys;
use counting::Counting;
use engine::{Engine, Lookup, Tier};
use filing::Filing;
use identity::{identify, meta, newest};
use origin::Origin;
use reader::ReaderPool;
use records::{ClickRecord, ConversionRecord, RecordError};
use retention::LetGo;
use schema::Table;
use ticket::Settle;

/// The store format this release writes.
///
/// 2: index rows may be written after their conversion, see `meta`'s `filed`.
/// 3: every conversion that is filed has its postings in `ledger`.
/// 4: every conversion that is filed and names a customer has its row in `customers`.
/// 5: records have versions that releases before do not know.
/// 6: every seal is before the day that `meta`'s `unsealed` says.
pub const FORMAT_VERSION: u32 = 6;

/// A click's record as it was stored.
#[derive(Clone, Debug)]
pub struct StoredClick(Vec<u8>);

impl StoredClick {
    /// The record.
    ///
    /// # Errors
    /// When the bytes do not decode.
    pub fn record(&self) -> Result<ClickRecord<'_>, RecordError> {
        ClickRecord::decode(&self.0)
    }
}

/// A conversion as it was stored.
#[derive(Clone, Debug)]
pub struct StoredConversion {
    /// Its ID.
    pub id: RecordId,
    bytes: Vec<u8>,
}

impl StoredConversion {
    /// One that would be stored as these bytes.
    #[must_use]
    pub const fn new(id: RecordId, bytes: Vec<u8>) -> Self {
        Self { id, bytes }
    }

    /// The record.
    ///
    /// # Errors
    /// When the bytes do not decode.
    pub fn record(&self) -> Result<ConversionRecord<'_>, RecordError> {
        ConversionRecord::decode(&self.bytes)
    }
}

/// The store: one writer, a few readers, an engine.
pub struct Store {
    engine: Arc<dyn Engine>,
    writer: Arc<Writer>,
    filing: Arc<Filing>,
    counting: Arc<Counting>,
    refusals: Refusals,
    sampling: Sampling,
    readers: ReaderPool,
    health: Arc<Health>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// When the newest record that was there at the opening was minted.
    opened_newest_ms: u64,
    /// Every click that this process minted from this time on has its record, Unix milliseconds.
    /// The end of time until [`Store::minting_from`]; later once a click went unrecorded.
    clicks_from_ms: AtomicU64,
    let_go: LetGo,
    audit_keys: AuditKeys,
    unsealed_from: AtomicU32,
}

impl Store {
    /// Opens or creates the store in `path` and starts its threads. `fresh_key` becomes the click
    /// ID key if the store has none.
    ///
    /// # Errors
    /// When the store cannot be opened or is of a newer format.
    pub fn open(
        path: &Path,
        cache_bytes: usize,
        reader_threads: usize,
        fresh_key: [u8; 32],
        observe: Arc<dyn Observe>,
    ) -> Result<(Self, Identity), OpenError> {
        let engine: Arc<dyn Engine> = Arc::new(RocksEngine::open(path, cache_bytes)?);
        let (store, identity) = Self::on(engine, reader_threads, fresh_key, observe)?;
        store.lock_threads().extend(writer::spawn(&store.writer)?);
        let filing = store.spawn("store-file", &store.filing, filing::file_until_closed)?;
        let counting = store.spawn("store-count", &store.counting, counting::count_until_closed)?;
        store.lock_threads().extend([filing, counting]);
        Ok((store, identity))
    }

    /// A store on any engine, without writer threads: whoever has the [`Writer`] runs its stages.
    /// With no reader threads either, [`Store::read_once`] is the reader.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn on(
        engine: Arc<dyn Engine>,
        reader_threads: usize,
        fresh_key: [u8; 32],
        observe: Arc<dyn Observe>,
    ) -> Result<(Self, Identity), OpenError> {
        let identity = identify(&*engine, fresh_key)?;
        let health = Arc::new(Health::default());
        let writer = Arc::new(Writer::new(Arc::clone(&engine), Arc::clone(&health), observe));
        writer.close_below(identity.filed_below);
        writer.number_start(identity.starts);
        writer.close_days(identity.unsealed);
        let filing = Arc::new(Filing::new(identity.filed_below, Arc::clone(writer.progress())));
        let readers = ReaderPool::spawn(&engine, reader_threads)?;
        let (threads, opened_newest_ms) = (Mutex::default(), identity.newest_ms);
        let clicks_from_ms = AtomicU64::new(u64::MAX);
        let let_go = LetGo::read(&*engine, identity.newest_ms)?;
        let expired = let_go.expired();
        cap_sums::make(&*engine)?;
        cap_sums::mend(&*engine, &expired)?;
        let counted = sums::counted(&*engine)?;
        writer.close_counting(counted);
        let counting = Arc::new(Counting::new(counted, expired.subs_before()));
        let refusals = Refusals::new(identity.starts);
        let audit_keys = AuditKeys::of_start(identity.starts);
        let store = Self {
            engine,
            writer,
            filing,
            counting,
            refusals,
            sampling: Sampling::new(limits::INBOUND_REFUSED_BYTES_PER_DAY),
            readers,
            health,
            threads,
            opened_newest_ms,
            clicks_from_ms,
            let_go,
            audit_keys,
            unsealed_from: AtomicU32::new(identity.unsealed.get()),
        };
        Ok((store, identity))
    }

    /// Makes log files ready to be overwritten, before the first commit: an fsync of what is
    /// overwritten is cheaper than one of a file that grows.
    ///
    /// # Errors
    /// When the log cannot be written.
    pub fn prepare_log(&self, files: usize) -> Result<(), OpenError> {
        Ok(self.engine.prepare_log(files, limits::LOG_PREPARATION_MAX)?)
    }

    /// Queues a click. `ticket` hears when it is durable.
    ///
    /// # Errors
    /// When it could not be queued, or what is left of the disk belongs to conversions; the
    /// ticket will hear nothing then.
    pub fn record_click(
        &self,
        click: RecordId,
        record: &ClickRecord<'_>,
        ticket: Arc<dyn Settle>,
    ) -> Result<(), SubmitError> {
        let submitted = if self.health.has_room_for_strangers() {
            self.writer.submit_derived(Origin::Click, ticket, |batch, bounds, _| {
                batch.put(Table::Clicks, click.as_bytes(), |out| record.encode(out));
                if click.as_bytes() < &bounds.counted.clicks {
                    counting::put_late_click(batch, click, record);
                }
            })
        } else {
            Err(SubmitError::DiskFull)
        };
        if submitted.is_err() {
            self.clicks_from_ms.fetch_max(click.time_ms() + 1, Ordering::Relaxed);
        }
        submitted
    }

    /// Says that from `now_ms` on whatever this process mints is recorded, or
    /// [`Store::record_click`] fails.
    pub fn minting_from(&self, now_ms: u64) {
        self.clicks_from_ms.store(now_ms, Ordering::Relaxed);
    }

    /// Whether a click that this process minted may lack its record.
    #[must_use]
    pub fn may_lack(&self, click: RecordId) -> bool {
        click.time_ms() < self.clicks_from_ms.load(Ordering::Relaxed)
    }

    /// Queues a conversion. Its record says which claims it holds; their rows, and its click's
    /// index, follow in bulk (`filing.rs`). `ticket` hears when it is durable, or that it is not.
    ///
    /// # Errors
    /// When it could not be queued; the ticket will hear nothing then.
    pub fn commit_conversion(
        &self,
        conversion: RecordId,
        record: &ConversionRecord<'_>,
        ticket: Arc<dyn Settle>,
    ) -> Result<(), SubmitError> {
        self.commit_with_changes((conversion, record), &[], None, ticket)
    }

    /// One turn of filing index rows, for a store without threads; with `now`, however few there
    /// are. A failure poisons the store.
    pub fn file_once(&self, now: bool) {
        if self.health.poison_reason().is_some() {
            return;
        }
        if let Err(error) = self.filing.turn(&self.writer, &*self.engine, now) {
            self.health.poison("filing", &error);
        }
    }

    /// Has the conversions that were submitted so far filed soon, however few they are; returns how
    /// many of [`Store::progress`] that is.
    #[must_use]
    pub fn file_soon(&self) -> u64 {
        self.filing.want_all()
    }

    /// A thread of what follows the writer.
    fn spawn<T: Send + Sync + 'static>(
        &self,
        name: &str,
        work: &Arc<T>,
        until_closed: fn(&T, &Writer, &dyn Engine, &Health),
    ) -> std::io::Result<JoinHandle<()>> {
        let (work, writer) = (Arc::clone(work), Arc::clone(&self.writer));
        let (engine, health) = (Arc::clone(&self.engine), Arc::clone(&self.health));
        let thread = std::thread::Builder::new().name(name.into());
        thread.spawn(move || until_closed(&work, &writer, &*engine, &health))
    }

    /// One turn of counting, for a store without threads; with `due`, however little there is.
    ///
    /// # Errors
    /// When the engine cannot read.
    pub fn count_once(&self, due: bool, at_once: AtOnce) -> Result<Turn, ReadError> {
        if self.health.poison_reason().is_some() {
            return Ok(Turn::Nothing);
        }
        Ok(self.counting.turn(&self.writer, &*self.engine, due, at_once)?)
    }

    /// Counts postbacks that are refused.
    #[must_use]
    pub const fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    /// How many conversions were submitted since the store was opened, and how many are filed.
    #[must_use]
    pub fn progress(&self) -> &Arc<Progress> {
        self.filing.progress()
    }

    /// Whether the click's record is there.
    ///
    /// # Errors
    /// When the store cannot tell now.
    pub async fn has_click(&self, click: RecordId) -> Result<bool, ReadError> {
        Ok(self.read(Table::Clicks, *click.as_bytes(), |_| ()).await?.is_some())
    }

    /// Whether the click's record is there, as far as memory knows.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn has_click_now(&self, click: RecordId) -> Result<Lookup<()>, ReadError> {
        self.look(Table::Clicks, click.as_bytes(), |_| ())
    }

    /// The bits of a click's flags; `None` if its record is not there.
    ///
    /// # Errors
    /// When the store cannot tell now.
    pub async fn click_flags(&self, click: RecordId) -> Result<Option<u32>, ReadError> {
        self.read(Table::Clicks, *click.as_bytes(), records::click_flags).await
    }

    /// As [`Store::click_flags`], as far as memory knows.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn click_flags_now(&self, click: RecordId) -> Result<Lookup<u32>, ReadError> {
        self.look(Table::Clicks, click.as_bytes(), records::click_flags)
    }

    /// A click's record.
    ///
    /// # Errors
    /// When the store cannot tell now.
    pub async fn click(&self, click: RecordId) -> Result<Option<StoredClick>, ReadError> {
        let bytes = self.read(Table::Clicks, *click.as_bytes(), <[u8]>::to_vec).await?;
        Ok(bytes.map(StoredClick))
    }

    /// A conversion's record.
    ///
    /// # Errors
    /// When the store cannot tell now.
    pub async fn conversion(&self, id: RecordId) -> Result<Option<StoredConversion>, ReadError> {
        let bytes = self.read(Table::Conversions, *id.as_bytes(), <[u8]>::to_vec).await?;
        Ok(bytes.map(|bytes| StoredConversion { id, bytes }))
    }

    /// Memory first, on the caller's thread; the disk on a reader's, only where memory cannot tell.
    async fn read<T: Send + 'static>(
        &self,
        table: Table,
        key: [u8; 16],
        decode: impl Fn(&[u8]) -> T + Send + 'static,
    ) -> Result<Option<T>, ReadError> {
        match self.look(table, &key, &decode)? {
            Lookup::Found(value) => return Ok(Some(value)),
            Lookup::Absent => return Ok(None),
            Lookup::Unknown => {}
        }
        let read = move |engine: &dyn Engine| {
            let mut value = None;
            engine
                .get(table, &key, Tier::Disk, &mut |bytes| value = Some(decode(bytes)))
                .map(|_| value)
        };
        Ok(self.readers.run(read).await??)
    }

    /// What memory alone can tell of a key.
    fn look<T>(
        &self,
        table: Table,
        key: &[u8; 16],
        decode: impl Fn(&[u8]) -> T,
    ) -> Result<Lookup<T>, ReadError> {
        let mut value = None;
        let lookup =
            self.engine.get(table, key, Tier::Memory, &mut |bytes| value = Some(decode(bytes)))?;
        Ok(match (lookup, value) {
            (Lookup::Found(()), Some(value)) => Lookup::Found(value),
            (Lookup::Absent, _) => Lookup::Absent,
            _ => Lookup::Unknown,
        })
    }

    /// The store's condition.
    #[must_use]
    pub fn health(&self) -> &Arc<Health> {
        &self.health
    }

    /// The writer, for its queue lengths and for those who run its stages themselves.
    #[must_use]
    pub fn writer(&self) -> &Arc<Writer> {
        &self.writer
    }

    /// One round of the reader, in a store without reader threads: answers one read that memory
    /// could not; false if none waits.
    pub fn read_once(&self) -> bool {
        self.readers.run_once(&*self.engine)
    }

    /// Whether the disk is so much slower than the traffic that nobody should read or write who
    /// can wait.
    #[must_use]
    pub fn is_overloaded(&self) -> bool {
        self.writer.queued().0 >= limits::BATCH_COMMITS_ADMIN_MAX
            || self.readers.queued() >= limits::READ_QUEUE_ADMIN_MAX
    }

    /// The engine's own gauges, as (name, table, value), without a table if of all.
    pub fn gauges(&self, mut visit: impl FnMut(&'static str, Option<Table>, u64)) {
        self.engine.gauges(&mut visit);
    }

    /// Lets a purge that is under way come to an end before it is done.
    pub fn end_purges(&self) {
        self.engine.end_purges();
    }

    /// Takes no more commits, waits until the queued ones are settled, and ends what the engine
    /// does beside. Blocks.
    pub fn close(&self) {
        self.writer.close();
        let threads = std::mem::take(&mut *self.lock_threads());
        for thread in threads {
            // A writer thread that panicked has already reported it; its tickets stay unsettled.
            let _ = thread.join();
        }
        self.engine.close();
    }

    fn lock_threads(&self) -> std::sync::MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.close();
    }
}
