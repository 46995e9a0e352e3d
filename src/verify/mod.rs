//! Proves that a store is sound: every record decodes, what is derived from conversions is there
//! and leads back to them, the books add up, no sealed day has changed, and the counters, those
//! of caps too, are what clicks and conversions come to.
//!
//! Postbacks as received name conversions that are there.
//!
//! The store is read in key order and never held in memory, but for sums over some time. Whatever is broken is named; the walk
//! goes on behind it.

mod books;
mod caps;
mod conversions;
mod counters;
mod inbound;
mod plain;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::click_id::RecordId;
use crate::limits::BROKEN_NAMED_MAX;
use crate::model::hex::hex;
use crate::store::schema::Table;
use crate::store::{OpenError, ReadError, View};

/// Why a store could not be looked through.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// It could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// What it knows of itself could not be read.
    #[error(transparent)]
    Open(#[from] OpenError),
}

/// What was looked at, and what is broken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Rows looked at, by table; postings and seals of `ledger` apart.
    pub checked: BTreeMap<&'static str, u64>,
    /// Conversions whose index rows and postings are still to be written; no fault.
    pub unfiled: u64,
    /// Rows whose conversions were let go by retention; no fault.
    pub expired: u64,
    /// The first broken records.
    pub broken: Vec<Broken>,
    /// How many more there are.
    pub left_out: u64,
}

/// A broken record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Broken {
    /// The table it is in.
    pub table: &'static str,
    /// Its key: a conversion's ID, or hex digits.
    pub key: String,
    /// What is wrong with it.
    pub fault: String,
}

impl Report {
    fn count(&mut self, what: &'static str) {
        *self.checked.entry(what).or_default() += 1;
    }

    fn fault(&mut self, table: Table, key: &[u8], fault: impl Into<String>) {
        self.add(table.name(), hex(key), fault.into());
    }

    fn fault_of(&mut self, conversion: RecordId, fault: impl Into<String>) {
        let key = conversion.to_text().to_string();
        self.add(Table::Conversions.name(), key, fault.into());
    }

    fn add(&mut self, table: &'static str, key: String, fault: String) {
        if self.broken.len() < BROKEN_NAMED_MAX {
            self.broken.push(Broken { table, key, fault });
        } else {
            self.left_out += 1;
        }
    }
}

/// Looks through a whole store. Blocks, for as long as that takes.
///
/// # Errors
/// When the store cannot be read; a record that does not decode is no error but broken.
pub fn verify(view: &View<'_>) -> Result<Report, VerifyError> {
    let mut report = Report::default();
    let expired = view.expired()?;
    plain::walk(view, &mut report)?;
    let booked = conversions::walk(view, &mut report)?;
    conversions::walk_dedupe(view, &expired, &mut report)?;
    conversions::walk_by_click(view, &expired, &mut report)?;
    conversions::walk_customers(view, &expired, &mut report)?;
    books::walk(view, &expired, &booked, &mut report)?;
    counters::walk(view, &expired, &mut report)?;
    caps::walk(view, &expired, &mut report)?;
    inbound::walk(view, &expired, &mut report)?;
    Ok(report)
}

impl From<crate::store::engine::EngineError> for VerifyError {
    fn from(error: crate::store::engine::EngineError) -> Self {
        Self::Read(error.into())
    }
}
