//! The audit log: what is kept of a change that somebody made. Whoever makes a change says by an
//! [`Author`] who wanted it, and hands the [`Entry`] to the store together with the change.

use std::sync::Arc;

use serde_json::Value;

use crate::limits::{AUDIT_DETAILS_BYTES_MAX, AUDIT_LIST_BYTES_MAX, AUDIT_TEXT_BYTES_MAX};
use crate::model::admin::{AuditAction, BY_FILE, BY_LOCAL};
use crate::store::AuditEntry;
use crate::store::records::AuditRecord;

/// Who wants a change, and by which call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Author {
    who: Arc<str>,
    call: Arc<str>,
}

impl Author {
    /// Whoever has a token, by a call of the admin API such as `PUT /api/v1/catalog`.
    #[must_use]
    pub fn token(name: Arc<str>, call: &str) -> Self {
        Self { who: name, call: cut(call).into() }
    }

    /// Whoever has written a file that the server reads at its start or again at a signal.
    #[must_use]
    pub fn file(call: &str) -> Self {
        Self { who: BY_FILE.into(), call: call.into() }
    }

    /// Whoever runs a command on the machine.
    #[must_use]
    pub fn local(call: &str) -> Self {
        Self { who: BY_LOCAL.into(), call: call.into() }
    }

    /// An entry about something that this author does.
    #[must_use]
    pub fn entry(&self, now_ms: u64, action: AuditAction, subject: &str, details: &Value) -> Entry {
        let mut details = details.to_string();
        if details.len() > AUDIT_DETAILS_BYTES_MAX {
            debug_assert!(false, "lists are kept short: {} bytes", details.len());
            details = "{}".to_owned();
        }
        Entry { time_ms: now_ms, by: self.clone(), action, subject: cut(subject).into(), details }
    }
}

/// What is kept of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    time_ms: u64,
    by: Author,
    action: AuditAction,
    subject: String,
    details: String,
}

impl Entry {
    /// As the store takes it.
    #[must_use]
    pub fn as_stored(&self) -> AuditEntry<'_> {
        let record = AuditRecord {
            who: &self.by.who,
            action: self.action.as_str(),
            call: &self.by.call,
            subject: &self.subject,
            details: &self.details,
        };
        AuditEntry { time_ms: self.time_ms, record }
    }
}

/// A list in an entry: its first items, as many as there is room for, and how many more there are.
#[derive(Debug, Default)]
pub struct Listed {
    items: Vec<Value>,
    bytes: usize,
    left_out: usize,
}

impl Listed {
    /// Adds an item, or counts it. What is left out once is followed by nothing.
    pub fn push(&mut self, item: Value) {
        let bytes = item.to_string().len() + 1;
        if self.left_out > 0 || self.bytes + bytes > AUDIT_LIST_BYTES_MAX {
            self.left_out += 1;
        } else {
            self.bytes += bytes;
            self.items.push(item);
        }
    }

    /// The items, and how many are left out.
    #[must_use]
    pub fn into_parts(self) -> (Vec<Value>, usize) {
        (self.items, self.left_out)
    }
}

/// A text of bounded length.
fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(AUDIT_TEXT_BYTES_MAX)]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_does_not_fit_is_counted() {
        let mut listed = Listed::default();
        for number in 0..10_000 {
            listed.push(json!({"number": number}));
        }
        let (items, left_out) = listed.into_parts();
        assert_eq!(items.len() + left_out, 10_000);
        assert!(left_out > 0 && !items.is_empty());
        assert!(Value::from(items).to_string().len() <= AUDIT_LIST_BYTES_MAX + 1);
    }

    #[test]
    fn texts_from_outside_are_cut() {
        let author = Author::token("ops".into(), &"é".repeat(1000));
        let entry = author.entry(7, AuditAction::Rates, &"x".repeat(1000), &json!({}));
        let record = entry.as_stored().record;
        assert!(record.call.len() <= AUDIT_TEXT_BYTES_MAX && record.call.chars().all(|c| c == 'é'));
        assert_eq!(record.subject.len(), AUDIT_TEXT_BYTES_MAX);
    }
}
