// Hot path: asked for each commit.
//! Whose a commit is, and how much room that leaves it.

use crate::limits;

/// Whose commit it is: when the disk is slower than the traffic, postbacks leave the last room to
/// clicks and to the store itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// A click, or the store's own.
    Click,
    /// A conversion, or its change.
    Postback,
}

impl Origin {
    /// Commits and bytes in the batch being collected beyond which no more are taken.
    pub(super) const fn room(self) -> (usize, usize) {
        match self {
            Self::Click => (limits::BATCH_COMMITS_MAX, limits::BATCH_BYTES_MAX),
            Self::Postback => {
                (limits::BATCH_COMMITS_POSTBACKS_MAX, limits::BATCH_BYTES_POSTBACKS_MAX)
            }
        }
    }
}
