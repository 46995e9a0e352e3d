//! What the writer collects and has on its way.

use std::sync::Arc;

use super::super::bounds::{Bounds, Mark};
use super::super::engine::Batch;
use super::super::inbound::Arrivals;
use super::super::keys::RecordKey;
use super::super::ticket::Settle;
use crate::limits;

pub(super) type Tickets = Vec<Arc<dyn Settle>>;

/// A batch being collected.
#[derive(Default)]
pub(super) struct Collected {
    pub(super) batch: Batch,
    /// Postbacks as received, that go with it.
    pub(super) arrivals: Arrivals,
    pub(super) tickets: Tickets,
}

/// What was appended and waits for its fsync: the tickets, and which batches they came in.
#[derive(Default)]
pub struct Appended {
    pub(super) tickets: Tickets,
    pub(super) batches: Vec<u64>,
}

/// What workers and both stages share, under one lock that is held for a few instructions.
#[derive(Default)]
pub(super) struct State {
    pub(super) collected: Collected,
    /// The number of the batch being collected.
    pub(super) batch: u64,
    /// Batches that are no longer collected and not settled yet: a handful.
    pub(super) unsettled: Vec<u64>,
    /// Appended, not yet taken by the sync stage.
    pub(super) appended: Appended,
    /// Commits whose fsync has not returned.
    pub(super) confirming: usize,
    /// Batches taken from `collected` whose append has not returned.
    pub(super) appending: usize,
    /// The conversions so far.
    pub(super) conversions: Option<Mark>,
    /// Which start of the server this is.
    pub(super) start: u64,
    /// What is below brings along what is derived from it.
    pub(super) bounds: Bounds,
    /// The sync stage is at work; only then is the append stage worth waking.
    pub(super) syncing: bool,
    /// What was collected is worth an fsync.
    pub(super) flush: bool,
    pub(super) closed: bool,
    pub(super) sync_waits: bool,
    pub(super) append_waits: bool,
}

impl Collected {
    /// Whether it has as many commits, or bytes, as it may.
    pub(super) fn is_beyond(&self, commits_max: usize, bytes_max: usize) -> bool {
        self.tickets.len() >= commits_max || self.batch.size() + self.arrivals.bytes() >= bytes_max
    }
}

impl State {
    pub(super) fn is_dry(&self) -> bool {
        self.collected.tickets.is_empty() && self.appended.tickets.is_empty() && self.appending == 0
    }

    pub(super) fn has_work_for_sync(&self) -> bool {
        let collected = !self.collected.tickets.is_empty() && (self.flush || self.closed);
        collected || !self.appended.tickets.is_empty()
    }

    pub(super) fn has_chunk(&self) -> bool {
        self.syncing
            && self.collected.tickets.len() >= limits::APPEND_CHUNK_COMMITS
            && self.appended.tickets.len() < limits::UNSYNCED_COMMITS_MAX
    }

    pub(super) fn mark(&self) -> Mark {
        self.conversions.unwrap_or(Mark { below: RecordKey::default(), submitted: 0 })
    }

    pub(super) fn settled(&mut self, batches: &mut Vec<u64>) {
        self.unsettled.retain(|batch| !batches.contains(batch));
        batches.clear();
    }
}
