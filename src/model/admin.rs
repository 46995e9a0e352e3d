//! Words of the admin API: who may do what, what became of a request, what was changed.

use std::sync::Arc;

use super::words::words;

words! {
    /// What a token of the admin API allows.
    Role {
        /// To look at everything and change nothing.
        Read = "read",
        /// Everything.
        Write = "write",
    }
}

impl Role {
    /// Whether a token of this role may make a call that needs `needed`.
    #[must_use]
    pub const fn allows(self, needed: Self) -> bool {
        matches!((self, needed), (Self::Write, _) | (_, Self::Read))
    }
}

/// A token of the admin API as the server knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownToken {
    /// Whose; in the audit log.
    pub name: Arc<str>,
    /// What it allows.
    pub role: Role,
    /// BLAKE3 of the secret; `None` if it could not be read, and nothing matches it.
    pub hash: Option<blake3::Hash>,
    /// Until when, Unix milliseconds; not valid any more at that moment.
    pub until_ms: Option<u64>,
}

words! {
    /// Whether a request to the admin API was let through.
    AdminResult {
        /// Its token allows it.
        Allowed = "allowed",
        /// No token, or one that nobody has given out.
        Unauthorized = "unauthorized",
        /// The token's time is over.
        Expired = "expired",
        /// The token's role does not allow it.
        Forbidden = "forbidden",
    }
}

words! {
    /// What somebody did that the audit log keeps.
    AuditAction {
        /// Another catalog came into force.
        Catalog = "catalog",
        /// A day has other exchange rates.
        Rates = "rates",
        /// A file of statuses came; nothing of it is done yet.
        Statuses = "statuses",
        /// What became of a file of statuses.
        StatusesDone = "statuses_done",
        /// The store is looked through.
        Verify = "verify",
        /// A backup is made.
        Backup = "backup",
        /// Refused postbacks are judged again, for real.
        Reprocess = "reprocess",
        /// What came of it.
        ReprocessDone = "reprocess_done",
        /// What is known of a person is erased.
        Erase = "erase",
        /// Other tokens of the admin API came into force.
        Tokens = "tokens",
        /// The store was made of a backup.
        Restore = "restore",
    }
}

/// The name of the token that the server makes itself, or that `admin.token` gives.
pub const DEFAULT_TOKEN: &str = "default";
/// Who changes what a file says: whoever wrote the file.
pub const BY_FILE: &str = "file";
/// Who changes something by a command on the machine, without a token.
pub const BY_LOCAL: &str = "local";
/// Names that no token of the configuration may have.
pub const TAKEN_NAMES: [&str; 3] = [DEFAULT_TOKEN, BY_FILE, BY_LOCAL];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_write_allows_what_needs_write() {
        assert!(Role::Write.allows(Role::Write) && Role::Write.allows(Role::Read));
        assert!(Role::Read.allows(Role::Read) && !Role::Read.allows(Role::Write));
    }
}
