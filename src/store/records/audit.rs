//! The audit log's values.

use serde::{Deserialize, Serialize};

use super::{RecordError, append, read, unknown};

const AUDIT_VERSION: u8 = 1;

/// What somebody has changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRecord<'a> {
    /// Who: a token's name, or a word for who has none.
    pub who: &'a str,
    /// What was done, [`AuditAction::as_str`]; a word, so that a newer release's can be shown.
    ///
    /// [`AuditAction::as_str`]: crate::model::admin::AuditAction::as_str
    pub action: &'a str,
    /// By which call or command.
    pub call: &'a str,
    /// To what.
    pub subject: &'a str,
    /// From what to what: a JSON object.
    pub details: &'a str,
}

coded! { AUDIT_VERSION: AuditRecord<'a> }
