//! Walks over many conversions, for the admin API and for warming up.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::claim::Claim;
use super::engine::{Direction, Engine};
use super::keys::{DedupeKey, RecordKey, Subject};
use super::records::ConversionRecord;
use super::schema::Table;
use super::{ReadError, Store, StoredConversion, identity, keys, records};
use crate::click_id::RecordId;
use crate::limits::{PAGE_BYTES_MAX, PAGE_ROWS_SCANNED_MAX, TRACE_CONVERSIONS_MAX, UNFILED_MANY};

/// Decides whether a conversion belongs on a page.
pub type ConversionFilter = Arc<dyn Fn(&StoredConversion) -> bool + Send + Sync>;

/// Some rows of a listing, and where the next page starts.
#[derive(Clone, Debug)]
pub struct Page<T> {
    /// The rows, oldest first.
    pub rows: Vec<T>,
    /// The last row looked at, if there may be more after it.
    pub next: Option<RecordId>,
}

/// Where an index leads to conversions.
struct Index {
    table: Table,
    /// Of its keys, which end with a conversion.
    ranges: Vec<(Vec<u8>, Vec<u8>)>,
    /// There are none before that it does not know.
    from: RecordKey,
}

impl Store {
    /// Conversions minted in `from_ms..to_ms` that `filter` lets through, oldest first, at most
    /// `limit`, starting after `cursor`. A page may be short and still have a next one: a request
    /// looks at a bounded number of rows.
    ///
    /// # Errors
    /// When the store cannot be read now.
    pub async fn conversions(
        &self,
        from_ms: u64,
        to_ms: u64,
        cursor: Option<RecordId>,
        limit: usize,
        filter: ConversionFilter,
    ) -> Result<Page<StoredConversion>, ReadError> {
        let from = cursor.map_or(keys::first_at(from_ms), |cursor| *cursor.as_bytes());
        let to = keys::first_at(to_ms);
        let read = move |engine: &dyn Engine| {
            let mut page = Page { rows: Vec::new(), next: None };
            let (mut scanned, mut bytes, mut last) = (0, 0, None);
            engine.scan(
                Table::Conversions,
                &from,
                &to,
                Direction::Ascending,
                &mut |key, value| {
                    let Some(id) = keys::record(key) else { return ControlFlow::Continue(()) };
                    if Some(id) == cursor {
                        return ControlFlow::Continue(());
                    }
                    let is_full = page.rows.len() == limit || bytes >= PAGE_BYTES_MAX;
                    if is_full || scanned == PAGE_ROWS_SCANNED_MAX {
                        page.next = last;
                        return ControlFlow::Break(());
                    }
                    (scanned, last) = (scanned + 1, Some(id));
                    let row = StoredConversion { id, bytes: value.to_vec() };
                    if filter(&row) {
                        bytes += row.bytes.len();
                        page.rows.push(row);
                    }
                    ControlFlow::Continue(())
                },
            )?;
            Ok(page)
        };
        self.readers.run(read).await?
    }

    /// The first conversions of a click, oldest first.
    ///
    /// # Errors
    /// When the store cannot be read now.
    pub async fn conversions_of(
        &self,
        click: RecordId,
    ) -> Result<Page<StoredConversion>, ReadError> {
        // One may be older than its click, if a crash has lost the click's record and the clock was
        // set back.
        self.conversions_of_click(click, RecordKey::default(), TRACE_CONVERSIONS_MAX).await
    }

    async fn conversions_of_click(
        &self,
        click: RecordId,
        from: RecordKey,
        limit: usize,
    ) -> Result<Page<StoredConversion>, ReadError> {
        // Rows of conversions that were let go stay until they are compacted.
        let from = self.expired().conversions.max(from);
        let first = keys::by_click(click, RecordId::from_bytes(from)).to_vec();
        let end = keys::by_click_range(click).1.to_vec();
        let (table, ranges) = (Table::ByClick, vec![(first, end)]);
        let index = Index { table, ranges, from };
        let is_meant = move |record: &[u8]| records::click_of(record) == Some(click);
        self.indexed(index, is_meant, limit).await
    }

    /// A page of the conversions of a click or a customer, from one on, oldest first. Those that are
    /// not filed are all looked through for each page, so where they are many they are filed soon.
    ///
    /// # Errors
    /// When the store cannot be read now.
    pub async fn conversions_from(
        &self,
        of: Subject,
        from: Option<RecordKey>,
        limit: usize,
    ) -> Result<Page<StoredConversion>, ReadError> {
        if self.progress().unfiled() >= UNFILED_MANY {
            let _ = self.file_soon();
        }
        let from = from.unwrap_or_default();
        match of {
            Subject::Click(click) => self.conversions_of_click(click, from, limit).await,
            Subject::Customer(key) => self.conversions_of_keys([key].into(), from, limit).await,
        }
    }

    /// The conversions of one or more customers, oldest first, at most `limit`. Those that are not
    /// filed yet are decoded one by one: `UNFILED_MAX` at most, a second's work of a reader thread;
    /// ten minutes' conversions as a rule.
    ///
    /// # Errors
    /// When the store cannot be read now.
    pub async fn conversions_of_customers(
        &self,
        customers: impl Iterator<Item = Claim<'_>>,
        limit: usize,
    ) -> Result<Page<StoredConversion>, ReadError> {
        let customers = customers.map(|customer| customer.store_key()).collect();
        self.conversions_of_keys(customers, RecordKey::default(), limit).await
    }

    async fn conversions_of_keys(
        &self,
        customers: BTreeSet<DedupeKey>,
        from: RecordKey,
        limit: usize,
    ) -> Result<Page<StoredConversion>, ReadError> {
        let from = self.expired().conversions.max(from);
        let range = |customer: &DedupeKey| {
            let (from, to) = keys::of_customer_range(*customer, from);
            (from.to_vec(), to.to_vec())
        };
        let ranges = customers.iter().map(range).collect();
        let is_meant = move |record: &[u8]| {
            // One that does not decode is nobody's.
            let record = ConversionRecord::decode(record);
            let named = record.ok().and_then(|it| it.customer_key());
            named.is_some_and(|named| customers.contains(&named))
        };
        let index = Index { table: Table::Customers, ranges, from };
        self.indexed(index, is_meant, limit).await
    }

    /// The conversions to which an index leads, and those that it does not know yet, oldest first,
    /// at most `limit`. `is_meant` says by a conversion's record whether the index would lead to it.
    async fn indexed(
        &self,
        index: Index,
        is_meant: impl Fn(&[u8]) -> bool + Send + 'static,
        limit: usize,
    ) -> Result<Page<StoredConversion>, ReadError> {
        // Looked at before the index: what is filed meanwhile is seen twice, never not at all.
        let from = self.filing.below().max(index.from);
        let read = move |engine: &dyn Engine| {
            let mut ids = BTreeSet::new();
            let until_full = |found: usize| {
                if found < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            };
            // The first of each: the first of all are among them.
            let up = Direction::Ascending;
            for (from, to) in &index.ranges {
                let mut found = 0;
                engine.scan(index.table, from, to, up, &mut |key, _| {
                    ids.extend(keys::conversion_of(key));
                    found += 1;
                    until_full(found)
                })?;
            }
            let mut found = 0;
            engine.scan(Table::Conversions, &from, &keys::KEY_END, up, &mut |key, value| {
                if is_meant(value) {
                    ids.extend(keys::record(key));
                    found += 1;
                }
                until_full(found)
            })?;
            Ok::<_, ReadError>(ids)
        };
        let mut ids = self.readers.run(read).await??;
        // Not by what is there of them: one that was let go may have its row still.
        let next = ids.iter().nth(limit.saturating_sub(1)).copied();
        let mut page = Page { rows: Vec::new(), next };
        if let Some(last) = next {
            ids.split_off(&RecordId::from_bytes(keys::after(last)));
        }
        for id in ids {
            page.rows.extend(self.conversion(id).await?);
        }
        Ok(page)
    }

    /// Of the newest conversions those that `filter` lets through, newest first, at most `limit`. A
    /// bounded number is looked at.
    ///
    /// # Errors
    /// When the store cannot be read now.
    pub async fn newest_that(
        &self,
        limit: usize,
        filter: ConversionFilter,
    ) -> Result<Vec<StoredConversion>, ReadError> {
        let read = move |engine: &dyn Engine| {
            let (mut rows, mut scanned) = (Vec::new(), 0);
            let (table, newest_first) = (Table::Conversions, Direction::Descending);
            engine.scan(table, &[], &keys::KEY_END, newest_first, &mut |key, value| {
                let row =
                    keys::record(key).map(|id| StoredConversion { id, bytes: value.to_vec() });
                rows.extend(row.filter(|row| filter(row)));
                scanned += 1;
                if rows.len() == limit || scanned == PAGE_ROWS_SCANNED_MAX {
                    return ControlFlow::Break(());
                }
                ControlFlow::Continue(())
            })?;
            Ok::<_, ReadError>(rows)
        };
        self.readers.run(read).await?
    }

    /// The newest conversion.
    ///
    /// # Errors
    /// When the store cannot be read now.
    pub async fn newest_conversion(&self) -> Result<Option<RecordId>, ReadError> {
        let read = |engine: &dyn Engine| identity::newest(engine, Table::Conversions);
        Ok(self.readers.run(read).await??)
    }

    /// Shows `visit` the newest `count` of the conversions that were there when the store was
    /// opened, newest first, on a reader's thread. Later ones may be readable and not durable yet.
    ///
    /// # Errors
    /// When the store cannot be read now.
    pub async fn newest_conversions(
        &self,
        count: usize,
        mut visit: impl FnMut(&StoredConversion) + Send + 'static,
    ) -> Result<usize, ReadError> {
        // Whoever mints continues after the newest record of the opening.
        let end = keys::first_at(self.opened_newest_ms.saturating_add(1));
        let read = move |engine: &dyn Engine| {
            let mut seen = 0;
            engine.scan(
                Table::Conversions,
                &[],
                &end,
                Direction::Descending,
                &mut |key, value| {
                    if let Some(id) = keys::record(key) {
                        visit(&StoredConversion { id, bytes: value.to_vec() });
                        seen += 1;
                    }
                    if seen < count { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
                },
            )?;
            Ok(seen)
        };
        self.readers.run(read).await?
    }

    /// Shows `visit` every conversion minted from a moment on, oldest first, as its record's
    /// bytes, on a reader's thread; others' reads may come in between.
    ///
    /// # Errors
    /// When the store cannot be read now.
    pub async fn fold_conversions<T: Send + 'static>(
        &self,
        from_ms: u64,
        mut folded: T,
        visit: fn(&mut T, RecordId, &[u8]),
    ) -> Result<T, ReadError> {
        let mut next = Some(keys::first_at(from_ms));
        while let Some(from) = next {
            let read = move |engine: &dyn Engine| {
                let (mut scanned, mut next) = (0, None);
                engine.scan(
                    Table::Conversions,
                    &from,
                    &keys::KEY_END,
                    Direction::Ascending,
                    &mut |key, value| {
                        if scanned == PAGE_ROWS_SCANNED_MAX {
                            next = key.try_into().ok();
                            return ControlFlow::Break(());
                        }
                        scanned += 1;
                        if let Some(id) = keys::record(key) {
                            visit(&mut folded, id, value);
                        }
                        ControlFlow::Continue(())
                    },
                )?;
                Ok::<_, ReadError>((folded, next))
            };
            (folded, next) = self.readers.run(read).await??;
        }
        Ok(folded)
    }
}
