//! Whether the store may be written to: poisoned for good by a failed write, closed for a while
//! by a full disk: for strangers before it is for conversions.

use std::fmt::Display;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

use super::error::ReadError;
use crate::limits::RESERVES_BESIDE_STRANGERS;

/// The store's condition, shared by its threads and everybody who asks.
#[derive(Debug, Default)]
pub struct Health {
    poison: OnceLock<String>,
    poisoned: Notify,
    disk_full: AtomicBool,
    disk_low: AtomicBool,
}

impl Health {
    /// Marks the store as failed, for good; the first reason is kept. A failing disk is never
    /// tried again: what an fsync has dropped once, a second one will not bring back.
    pub(super) fn poison(&self, during: &str, error: &dyn Display) {
        let reason = format!("{during} failed: {error}");
        // First of all: whatever becomes of the log line, nothing more is acknowledged.
        if self.poison.set(reason.clone()).is_ok() {
            self.poisoned.notify_waiters();
        }
        tracing::error!(%reason, "store poisoned");
    }

    /// Why the store failed, if it did.
    #[must_use]
    pub fn poison_reason(&self) -> Option<&str> {
        self.poison.get().map(String::as_str)
    }

    /// After a failed write or fsync, what was appended is still readable though it may be gone
    /// after the restart: nobody may be told of it. The store is poisoned before whoever waits for
    /// such a commit hears of its end, so whoever reads afterwards and asks here sees the poison.
    ///
    /// # Errors
    /// When the store failed.
    pub fn unless_poisoned(&self) -> Result<(), ReadError> {
        match self.poison_reason() {
            Some(_) => Err(ReadError::Poisoned),
            None => Ok(()),
        }
    }

    /// Waits until the store fails.
    pub async fn poisoned(&self) {
        loop {
            let mut poisoned = std::pin::pin!(self.poisoned.notified());
            poisoned.as_mut().enable();
            if self.poison.get().is_some() {
                return;
            }
            poisoned.await;
        }
    }

    /// Says how much space is free, and how much of it is the reserve.
    pub fn set_free_space(&self, free: u64, reserve: u64) {
        let low = free < reserve.saturating_mul(RESERVES_BESIDE_STRANGERS);
        let crossed = |flag: &AtomicBool, to| flag.swap(to, Ordering::Relaxed) != to;
        match (crossed(&self.disk_low, low), low) {
            (true, true) => tracing::warn!(
                free,
                reserve,
                "free disk space is below twice the reserve: clicks are redirected and not recorded"
            ),
            (true, false) => tracing::info!(free, reserve, "there is disk space for clicks again"),
            (false, _) => {}
        }
        let full = free < reserve;
        match (crossed(&self.disk_full, full), full) {
            (true, true) => tracing::error!(
                free,
                reserve,
                "free disk space is below the reserve: postbacks are refused with 503"
            ),
            (true, false) => {
                tracing::info!(free, reserve, "there is disk space for postbacks again");
            }
            (false, _) => {}
        }
    }

    /// Says whether free space has fallen below the reserve.
    pub fn set_disk_full(&self, full: bool) {
        self.disk_full.store(full, Ordering::Relaxed);
    }

    /// Whether free space is below the reserve.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        self.disk_full.load(Ordering::Relaxed)
    }

    /// Whether what strangers send as often as they like may be written down, clicks and refused
    /// postbacks: what is left of the disk otherwise belongs to conversions.
    #[must_use]
    pub fn has_room_for_strangers(&self) -> bool {
        !self.disk_low.load(Ordering::Relaxed) && !self.is_disk_full()
    }
}
