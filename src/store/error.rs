//! Why the store has no answer.

use super::FORMAT_VERSION;
use super::engine::EngineError;
use super::reader::Busy;
use super::records::{RecordError, WalkError};
use super::writer::SubmitError;

/// Why the store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The engine refused.
    #[error("cannot open the store: {0}")]
    Engine(#[from] EngineError),
    /// The store was written by a newer release.
    #[error("the store has format {found}, this release reads up to {FORMAT_VERSION}")]
    NewerFormat {
        /// The format found.
        found: u32,
    },
    /// The store was written by an older release, and has never been served by this one.
    #[error("the store has format {found}; start the server once, which brings it up to date")]
    OlderFormat {
        /// The format found.
        found: u32,
    },
    /// A record must not be passed over.
    #[error("cannot read the store: {0}")]
    Record(#[from] RecordError),
    /// A value in `meta` has the wrong length.
    #[error("the store's meta table is damaged at {0:?}")]
    DamagedMeta(&'static str),
    /// The row that says how far the counters go does not decode.
    #[error("the store's counters table does not say how far it goes")]
    DamagedCounters,
    /// What caps have counted is damaged, and cannot be counted anew.
    #[error(
        "the row {0} of the store's counters table, what caps in total have counted, is damaged and its conversions are no longer all there: restore a backup"
    )]
    DamagedCaps(String),
    /// The system gave no thread.
    #[error("cannot start the store's threads: {0}")]
    Threads(#[from] std::io::Error),
}

impl From<WalkError> for OpenError {
    fn from(error: WalkError) -> Self {
        match error {
            WalkError::Engine(error) => error.into(),
            WalkError::Record(error) => error.into(),
        }
    }
}

impl From<WalkError> for ReadError {
    fn from(error: WalkError) -> Self {
        match error {
            WalkError::Engine(error) => error.into(),
            WalkError::Record(error) => error.into(),
        }
    }
}

/// Why a read has no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReadError {
    /// The readers have too much to do.
    #[error(transparent)]
    Busy(#[from] Busy),
    /// The engine failed.
    #[error("cannot read the store: {0}")]
    Engine(#[from] EngineError),
    /// A record does not decode.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// It can be read, but the disk never confirmed it and never will.
    #[error("the store is poisoned")]
    Poisoned,
}

/// Why nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The store takes no writes.
    #[error(transparent)]
    Submit(#[from] SubmitError),
    /// The disk did not confirm.
    #[error("the disk did not confirm the change")]
    NotDurable,
}

/// Why nothing was changed in what is stored.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ChangeError {
    /// The store could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The store takes no writes.
    #[error(transparent)]
    Submit(#[from] SubmitError),
    /// The disk did not confirm.
    #[error("the disk did not confirm the change")]
    NotDurable,
}

impl From<WriteError> for ChangeError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Submit(error) => Self::Submit(error),
            WriteError::NotDurable => Self::NotDurable,
        }
    }
}

impl From<EngineError> for ChangeError {
    fn from(error: EngineError) -> Self {
        Self::Read(error.into())
    }
}

impl From<RecordError> for ChangeError {
    fn from(error: RecordError) -> Self {
        Self::Read(error.into())
    }
}
