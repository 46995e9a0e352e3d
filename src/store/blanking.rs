//! Postbacks as received of somebody who is erased, blanked in the pages they are in.
//!
//! A page is written anew in one commit, under its name; many are on their way to the disk at the
//! same time. Nobody else changes a page that is written, and erasures come one after the other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::engine::{Batch, Engine};
use super::keys::{self, RecordKey};
use super::received::StoredInbound;
use super::records::{
    InboundHead, InboundRow, RecordError, StoredIp, begin_inbound_page, decode_inbound_page,
    encode_inbound, inbound_flags,
};
use super::schema::Table;
use super::ticket::Ticket;
use super::{ChangeError, ReadError, Store, SubmitError};
use crate::click_id::RecordId;
use crate::limits::ERASED_AT_ONCE_MAX;

impl Store {
    /// Removes parameters, paths and addresses of rows that were just read; each page is a commit.
    /// Done once more with the same rows, it changes nothing. Returns how many were not erased
    /// before. Only one erasure may be under way.
    ///
    /// # Errors
    /// When a page does not decode, the store takes no writes or the disk did not confirm.
    pub async fn erase_inbound(&self, found: &[StoredInbound]) -> Result<u64, ChangeError> {
        let mut pages: BTreeMap<RecordKey, (&[u8], BTreeSet<u16>)> = BTreeMap::new();
        for row in found {
            let page = pages.entry(row.id.page).or_insert((row.page(), BTreeSet::new()));
            page.1.insert(row.id.row);
        }
        let (pages, mut erased): (Vec<_>, _) = (pages.into_iter().collect(), 0);
        for some in pages.chunks(ERASED_AT_ONCE_MAX) {
            let mut on_their_way = Vec::with_capacity(some.len());
            for (id, (bytes, meant)) in some {
                let (page, left) = blanked(bytes, meant).map_err(ReadError::from)?;
                if left > 0 {
                    on_their_way.push(self.write_anew(id, &page)?);
                    erased += left;
                }
            }
            for ticket in on_their_way {
                self.durable(&ticket).await?;
            }
        }
        Ok(erased)
    }

    /// Empties a page that does not decode: nobody knows whose postbacks are in it. False if it is
    /// left as it is, because a later release may have written it.
    ///
    /// # Errors
    /// When the store cannot be read or takes no writes, or the disk did not confirm.
    pub async fn empty_inbound(&self, page: RecordKey) -> Result<bool, ChangeError> {
        let read =
            move |engine: &dyn Engine| engine.value(Table::Inbound, &keys::inbound_page(&page));
        let bytes = self.readers.run(read).await.map_err(ReadError::from)??;
        match bytes.map(|bytes| decode_inbound_page(&bytes).map(|_| ())) {
            None | Some(Ok(())) => Ok(true),
            Some(Err(error)) if error.is_newer() => Ok(false),
            Some(Err(_)) => {
                let mut empty = Vec::new();
                begin_inbound_page(&mut empty);
                self.durable(&*self.write_anew(&page, &empty)?).await?;
                Ok(true)
            }
        }
    }

    /// The commit has to be flushed.
    fn write_anew(&self, id: &RecordKey, page: &[u8]) -> Result<Arc<Ticket>, SubmitError> {
        if self.health().is_disk_full() {
            return Err(SubmitError::DiskFull);
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
        let ticket = Arc::new(Ticket::default());
        self.writer.submit(Arc::clone(&ticket) as _, put)?;
        Ok(ticket)
    }
}

/// A page without what tells of the rows that are meant, and how many of them had not been erased.
fn blanked(bytes: &[u8], meant: &BTreeSet<u16>) -> Result<(Vec<u8>, u64), RecordError> {
    let (mut page, mut left) = (Vec::with_capacity(bytes.len()), 0);
    begin_inbound_page(&mut page);
    for (row, place) in decode_inbound_page(bytes)?.iter().zip(0..) {
        let is_left = meant.contains(&place) && row.flags & inbound_flags::ERASED == 0;
        let anew = if is_left { blank(row) } else { *row };
        left += u64::from(is_left);
        let text = |out: &mut Vec<u8>| {
            out.extend_from_slice(anew.text.as_bytes());
            anew.flags
        };
        encode_inbound(&anew.head, text, &mut page);
    }
    Ok((page, left))
}

fn blank<'a>(row: &InboundRow<'a>) -> InboundRow<'a> {
    let head = InboundHead { ip: StoredIp::None, path: "", ..row.head };
    InboundRow { head, flags: row.flags | inbound_flags::ERASED, text: "" }
}
