//! What is readable of a store, for those who walk over much of it: the ledger and `verify`.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::engine::{Direction, Engine, EngineError, Visit};
use super::keys::{self, Numbered, PostingKey, RecordKey};
use super::postings::{Posting, postings};
use super::records::{ConversionRecord, PostingRecord, RecordError, SealRecord, click_of};
use super::schema::Table;
use super::{Expired, OpenError, ReadError, RocksEngine, Store, StoredConversion, meta};
use crate::click_id::RecordId;
use crate::model::ids::{AffiliateNumber, NUMBER_MAX, OfferNumber};
use crate::model::period::Day;

/// A store as it can be read. Its methods block.
#[derive(Clone, Copy)]
pub struct View<'e> {
    engine: &'e dyn Engine,
    filed_below: RecordKey,
}

impl<'e> View<'e> {
    /// What was filed when it was taken; later conversions are read from their records alone.
    #[must_use]
    pub const fn filed_below(&self) -> RecordKey {
        self.filed_below
    }

    pub(crate) const fn engine(&self) -> &'e dyn Engine {
        self.engine
    }

    /// Walks a table's rows, in key order; all of them between empty `from` and [`keys::KEY_END`].
    ///
    /// # Errors
    /// When the engine cannot read.
    pub fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        visit: Visit<'_>,
    ) -> Result<(), EngineError> {
        self.engine.scan(table, from, to, Direction::Ascending, visit)
    }

    /// A row's value.
    ///
    /// # Errors
    /// When the engine cannot read.
    pub fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        self.engine.value(table, key)
    }

    /// A conversion's record.
    ///
    /// # Errors
    /// When the engine cannot read.
    pub fn conversion(&self, id: RecordId) -> Result<Option<StoredConversion>, EngineError> {
        let bytes = self.get(Table::Conversions, id.as_bytes())?;
        Ok(bytes.map(|bytes| StoredConversion { id, bytes }))
    }

    /// What retention has let go.
    ///
    /// # Errors
    /// When the engine cannot read, or a value is damaged.
    pub fn expired(&self) -> Result<Expired, OpenError> {
        Expired::read(self.engine)
    }

    /// The store's own click ID key.
    ///
    /// # Errors
    /// When the engine cannot read, or the value is damaged.
    pub fn click_key(&self) -> Result<[u8; 32], OpenError> {
        let key = meta(self.engine, keys::META_CLICK_KEY, "click_key")?;
        key.ok_or(OpenError::DamagedMeta("click_key"))
    }

    /// The number of the offer with this ID, whether it is in the catalog still or not.
    ///
    /// # Errors
    /// When the engine cannot read.
    pub fn offer_number(&self, id: &str) -> Result<Option<OfferNumber>, EngineError> {
        Ok(self.number(Numbered::Offer, id)?.and_then(OfferNumber::new))
    }

    /// The same of an affiliate.
    ///
    /// # Errors
    /// When the engine cannot read.
    pub fn affiliate_number(&self, id: &str) -> Result<Option<AffiliateNumber>, EngineError> {
        Ok(self.number(Numbered::Affiliate, id)?.and_then(AffiliateNumber::new))
    }

    fn number(&self, of: Numbered, id: &str) -> Result<Option<u32>, EngineError> {
        let value = self.get(Table::Catalog, &keys::number(of, id))?;
        Ok(value.and_then(|bytes| Some(u32::from_be_bytes(bytes.try_into().ok()?))))
    }

    /// Says of each of those numbers whose it is, if it is anybody's.
    ///
    /// # Errors
    /// When the engine cannot read.
    pub fn names(
        &self,
        of: Numbered,
        wanted: &mut HashMap<u32, Option<String>>,
    ) -> Result<(), EngineError> {
        if wanted.is_empty() {
            return Ok(());
        }
        let (from, to) = keys::number_range(of);
        self.scan(Table::Catalog, &from, &to, &mut |key, value| {
            if let (Some(id), Ok(number)) = (keys::numbered_id(key), value.try_into())
                && let Some(name) = wanted.get_mut(&u32::from_be_bytes(number))
            {
                *name = Some(id.to_owned());
            }
            ControlFlow::Continue(())
        })
    }

    /// An affiliate's filed postings from `from` on and before the day `to`, in key order.
    ///
    /// # Errors
    /// When the engine cannot read or a row does not decode.
    pub fn postings(
        &self,
        affiliate: AffiliateNumber,
        from: &[u8],
        to: Day,
        visit: &mut dyn FnMut(Posting) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        let to = keys::postings_from(affiliate, to);
        self.engine.walk(Table::Ledger, from, &to, |key, value| {
            let posting = decode_posting(key, value)?;
            let is_filed = *posting.key.conversion.as_bytes() < self.filed_below;
            Ok::<_, ReadError>(if is_filed { visit(posting) } else { ControlFlow::Continue(()) })
        })?;
        Ok(())
    }

    /// The postings of an affiliate's conversions that are not filed yet.
    ///
    /// # Errors
    /// When the engine cannot read or a record does not decode.
    pub fn unfiled_postings(
        &self,
        affiliate: AffiliateNumber,
        visit: &mut dyn FnMut(Posting),
    ) -> Result<(), ReadError> {
        let (from, to) = (self.filed_below, keys::KEY_END);
        self.engine.walk(Table::Conversions, &from, &to, |key, value| {
            // Most conversions are another affiliate's, which the click's ID says at once.
            if click_of(value).is_some_and(|click| click.affiliate() == affiliate) {
                let record = ConversionRecord::decode(value)?;
                let id = keys::record(key).ok_or(RecordError::Corrupt)?;
                postings(id, &record).for_each(&mut *visit);
            }
            Ok::<_, ReadError>(ControlFlow::Continue(()))
        })?;
        Ok(())
    }

    /// Whether there is a conversion minted before a day that is not filed yet.
    ///
    /// # Errors
    /// When the engine cannot read.
    pub fn is_unfiled_before(&self, day: Day) -> Result<bool, EngineError> {
        let (from, to) = (self.filed_below, keys::first_at(day.begins_ms()));
        self.engine.has_any(Table::Conversions, &from, &to)
    }

    /// The first affiliate with this number or a higher one that has postings.
    ///
    /// # Errors
    /// When the engine cannot read.
    pub fn affiliate_from(&self, number: u32) -> Result<Option<AffiliateNumber>, EngineError> {
        let Some(first) = AffiliateNumber::new(number.min(NUMBER_MAX + 1)) else {
            return Ok(None);
        };
        let (from, (_, to)) = (keys::postings_from(first, Day::new(0)), keys::all_postings());
        let first =
            self.engine.first(Table::Ledger, &from, &to, Direction::Ascending, |key, _| {
                PostingKey::decode(key).map(|key| key.affiliate)
            })?;
        Ok(first.flatten())
    }

    /// The newest of an affiliate's seals before a day.
    ///
    /// # Errors
    /// When the engine cannot read or it does not decode.
    pub fn seal_before(
        &self,
        affiliate: AffiliateNumber,
        day: Day,
    ) -> Result<Option<(Day, SealRecord)>, ReadError> {
        let (from, to) = (keys::seal(affiliate, Day::new(0)), keys::seal(affiliate, day));
        let seal =
            self.engine.first(Table::Ledger, &from, &to, Direction::Descending, decode_seal)?;
        Ok(seal.transpose()?)
    }

    /// Whether a later day of an affiliate is sealed.
    ///
    /// # Errors
    /// When the engine cannot read.
    pub fn is_sealed_after(
        &self,
        affiliate: AffiliateNumber,
        day: Day,
    ) -> Result<bool, EngineError> {
        let after = day.next();
        let to = keys::seal(affiliate, Day::new(u32::MAX));
        self.engine.has_any(Table::Ledger, &keys::seal(affiliate, after), &to)
    }

    /// Whether an affiliate has postings on a day.
    ///
    /// # Errors
    /// When the engine cannot read.
    pub fn has_postings(&self, affiliate: AffiliateNumber, day: Day) -> Result<bool, EngineError> {
        let after = day.next();
        let (from, to) =
            (keys::postings_from(affiliate, day), keys::postings_from(affiliate, after));
        self.engine.has_any(Table::Ledger, &from, &to)
    }

    /// An affiliate's seals from a day on and before another, oldest first.
    ///
    /// # Errors
    /// When the engine cannot read or one does not decode.
    pub fn seals(
        &self,
        affiliate: AffiliateNumber,
        from: Day,
        to: Day,
    ) -> Result<Vec<(Day, SealRecord)>, ReadError> {
        let (from, to) = (keys::seal(affiliate, from), keys::seal(affiliate, to));
        let mut seals = Vec::new();
        self.engine.walk(Table::Ledger, &from, &to, |key, value| {
            seals.push(decode_seal(key, value)?);
            Ok::<_, ReadError>(ControlFlow::Continue(()))
        })?;
        Ok(seals)
    }
}

/// Reads a posting's row.
///
/// # Errors
/// When its key or value does not decode.
pub fn decode_posting(key: &[u8], value: &[u8]) -> Result<Posting, RecordError> {
    let key = PostingKey::decode(key).ok_or(RecordError::Corrupt)?;
    Ok(Posting { key, record: PostingRecord::decode(value)? })
}

fn decode_seal(key: &[u8], value: &[u8]) -> Result<(Day, SealRecord), RecordError> {
    let (_, day) = keys::seal_of(key).ok_or(RecordError::Corrupt)?;
    Ok((day, SealRecord::decode(value)?))
}

impl Store {
    /// Conversions below have their rows; taken before a walk over several parts of the ledger.
    #[must_use]
    pub fn filed_below(&self) -> RecordKey {
        self.filing.below()
    }

    /// Looks at the store on a reader's thread, for no longer than a moment.
    ///
    /// # Errors
    /// When the readers are busy.
    pub async fn read_view<T: Send + 'static>(
        &self,
        filed_below: RecordKey,
        look: impl FnOnce(&View<'_>) -> T + Send + 'static,
    ) -> Result<T, ReadError> {
        let look = move |engine: &dyn Engine| look(&View { engine, filed_below });
        Ok(self.readers.run(look).await?)
    }

    /// Looks at the store on the caller's thread, which may take its time.
    #[must_use]
    pub fn view(&self) -> View<'_> {
        View { engine: &*self.engine, filed_below: self.filed_below() }
    }

    /// Makes a copy of the store as it is now, in a folder that is not there yet. Blocks.
    ///
    /// # Errors
    /// When the engine cannot copy.
    pub fn copy_to(&self, folder: &Path) -> Result<(), EngineError> {
        self.engine.copy_to(folder)
    }
}

/// A store that nobody serves: opened to be read, and left as it is.
pub struct Archive {
    engine: Arc<dyn Engine>,
    filed_below: RecordKey,
}

impl Archive {
    /// Opens the database in `folder`.
    ///
    /// # Errors
    /// When it cannot be read, or is of a newer format.
    pub fn open(folder: &Path, cache_bytes: usize) -> Result<Self, OpenError> {
        Self::on(Arc::new(RocksEngine::open_read_only(folder, cache_bytes)?))
    }

    /// An archive on any engine.
    ///
    /// # Errors
    /// As [`Archive::open`].
    pub fn on(engine: Arc<dyn Engine>) -> Result<Self, OpenError> {
        let format = meta(&*engine, keys::META_FORMAT, "format")?.map_or(0, u32::from_be_bytes);
        if format > super::FORMAT_VERSION {
            return Err(OpenError::NewerFormat { found: format });
        }
        if format < super::FORMAT_VERSION {
            return Err(OpenError::OlderFormat { found: format });
        }
        let filed_below = meta(&*engine, keys::META_FILED, "filed")?.unwrap_or_default();
        Ok(Self { engine, filed_below })
    }

    /// What is readable.
    #[must_use]
    pub fn view(&self) -> View<'_> {
        View { engine: &*self.engine, filed_below: self.filed_below }
    }
}

/// Where the database is below the folder that `store.path` names.
#[must_use]
pub fn database_folder(store_path: &Path) -> PathBuf {
    store_path.join("db")
}
