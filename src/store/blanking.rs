//! Postbacks as received of somebody who is erased, blanked in the pages they are in.
//!
//! A page is written anew in one commit, under its name. Nobody else changes a page that is
//! written, and erasures come one after the other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

use super::engine::{Batch, Engine};
use super::keys::{self, RecordKey};
use super::received::StoredInbound;
use super::records::{
    InboundHead, InboundRow, StoredIp, begin_inbound_page, decode_inbound_page, encode_inbound,
    inbound_flags,
};
use super::schema::Table;
use super::{EraseError, ReadError, Store, SubmitError};
use crate::click_id::RecordId;

impl Store {
    /// Removes parameters, paths and addresses of rows that were just read; each page is a commit.
    /// Returns how many were not erased before. Only one erasure may be under way.
    ///
    /// # Errors
    /// When a page does not decode, the store takes no writes or the disk did not confirm.
    pub async fn erase_inbound(&self, found: &[StoredInbound]) -> Result<u64, EraseError> {
        let mut pages: BTreeMap<RecordKey, (&[u8], BTreeSet<u16>)> = BTreeMap::new();
        for row in found {
            let page = pages.entry(row.id.page).or_insert((row.page(), BTreeSet::new()));
            page.1.insert(row.id.row);
        }
        let mut erased = 0;
        for (id, (bytes, meant)) in pages {
            let rows = decode_inbound_page(bytes).map_err(ReadError::from)?;
            let is_left = |row: &InboundRow<'_>, place: u16| {
                meant.contains(&place) && row.flags & inbound_flags::ERASED == 0
            };
            let left = rows.iter().zip(0..).filter(|(row, place)| is_left(row, *place)).count();
            if left == 0 {
                continue;
            }
            let mut page = Vec::with_capacity(bytes.len());
            begin_inbound_page(&mut page);
            for (row, place) in rows.iter().zip(0..) {
                let anew = if is_left(row, place) { blank(row) } else { *row };
                let text = |out: &mut Vec<u8>| {
                    out.extend_from_slice(anew.text.as_bytes());
                    anew.flags
                };
                encode_inbound(&anew.head, text, &mut page);
            }
            self.write_anew(&id, &page).await?;
            erased += left as u64;
        }
        Ok(erased)
    }

    /// Empties a page that does not decode: nobody knows whose postbacks are in it. False if it is
    /// left as it is, because a later release may have written it.
    ///
    /// # Errors
    /// When the store cannot be read or takes no writes, or the disk did not confirm.
    pub async fn empty_inbound(&self, page: RecordKey) -> Result<bool, EraseError> {
        let read =
            move |engine: &dyn Engine| engine.value(Table::Inbound, &keys::inbound_page(&page));
        let bytes = self.readers.run(read).await.map_err(ReadError::from)??;
        match bytes.map(|bytes| decode_inbound_page(&bytes).map(|_| ())) {
            None | Some(Ok(())) => Ok(true),
            Some(Err(error)) if error.is_newer() => Ok(false),
            Some(Err(_)) => {
                let mut empty = Vec::new();
                begin_inbound_page(&mut empty);
                self.write_anew(&page, &empty).await?;
                Ok(true)
            }
        }
    }

    async fn write_anew(&self, id: &RecordKey, page: &[u8]) -> Result<(), EraseError> {
        if self.health().is_disk_full() {
            return Err(SubmitError::DiskFull.into());
        }
        let (key, time_ms) = (keys::inbound_page(id), RecordId::from_bytes(*id).time_ms());
        let put = |batch: &mut Batch| {
            // Under the writer's lock: retention may have let go of it since it was read.
            if time_ms < self.let_go.inbound_before_ms.load(Ordering::Acquire) {
                batch.delete(Table::Inbound, &key);
            } else {
                batch.put(Table::Inbound, &key, |out| out.extend_from_slice(page));
            }
        };
        Ok(self.change(put).await?)
    }
}

fn blank<'a>(row: &InboundRow<'a>) -> InboundRow<'a> {
    let head = InboundHead { ip: StoredIp::None, path: "", ..row.head };
    InboundRow { head, flags: row.flags | inbound_flags::ERASED, text: "" }
}
