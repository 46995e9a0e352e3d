//! The statuses a conversion can have.

use super::words::words;

words! {
    /// A conversion's status.
    Status {
        /// Waits for approval.
        Pending = "pending",
        /// Counts and pays.
        Approved = "approved",
        /// Does not count.
        Rejected = "rejected",
        /// Counted once, taken back.
        Reversed = "reversed",
    }
}

impl Status {
    /// What it means for a conversion of this status to be said to have the status `said`, in
    /// the order in which it is heard. `reapprove`: whether what was rejected may be approved yet.
    #[must_use]
    pub const fn step(self, said: Self, reapprove: bool) -> Step {
        match (self, said) {
            (Self::Pending, Self::Approved | Self::Rejected) | (Self::Approved, Self::Reversed) => {
                Step::Change
            }
            (Self::Rejected, Self::Approved) if reapprove => Step::Change,
            // Nothing becomes pending again: that is an old word that arrives late.
            (_, Self::Pending)
            | (Self::Approved, Self::Approved)
            | (Self::Rejected, Self::Rejected)
            | (Self::Reversed, Self::Reversed) => Step::Stay,
            _ => Step::Illegal,
        }
    }

    /// The number in the store; part of its format.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Pending => 1,
            Self::Approved => 2,
            Self::Rejected => 3,
            Self::Reversed => 4,
        }
    }

    /// Reads the number in the store.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.iter().copied().find(|status| status.code() == code)
    }
}

/// What becomes of a conversion that is said to have a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It has it already, or has left it behind.
    Stay,
    /// It gets it.
    Change,
    /// It cannot get it.
    Illegal,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_changes_only_along_the_machine() {
        const S: Step = Step::Stay;
        const C: Step = Step::Change;
        const X: Step = Step::Illegal;
        // From above, to the right: pending, approved, rejected, reversed.
        let check = |reapprove, expected: [[Step; 4]; 4]| {
            for (from, steps) in Status::ALL.iter().zip(expected) {
                for (to, step) in Status::ALL.iter().zip(steps) {
                    assert_eq!(from.step(*to, reapprove), step, "{from} {to} {reapprove}");
                }
            }
        };
        check(false, [[S, C, C, X], [S, S, X, C], [S, X, S, X], [S, X, X, S]]);
        check(true, [[S, C, C, X], [S, S, X, C], [S, C, S, X], [S, X, X, S]]);
    }
}
