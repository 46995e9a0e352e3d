//! One table of a file: typed reading by key, with every mistake noted.

use std::fmt::Display;

use super::path::Path;
use super::report::Complaint;
use super::source::Source;
use super::tree::{Entries, Node, Value};
use super::value::Input;

/// A table being read. Keys it may not have are noted when it is opened.
#[derive(Clone, Copy, Debug)]
pub struct Table<'t> {
    source: &'t Source<'t>,
    path: Path<'t>,
    entries: &'t Entries<'t>,
    at: usize,
    known: &'static [&'static str],
}

impl<'t> Table<'t> {
    pub(super) fn open(
        source: &'t Source<'t>,
        path: Path<'t>,
        entries: &'t Entries<'t>,
        at: usize,
        known: &'static [&'static str],
    ) -> Self {
        let table = Self { source, path, entries, at, known };
        for entry in entries {
            let name: &str = &entry.key;
            if !known.contains(&name) {
                let hint = source.suggest(name, known.iter().copied());
                let complaint = Complaint::new(format!("unknown key{hint}"));
                source.error(&table.path.key(name), Some(entry.key_at), complaint);
            }
        }
        table
    }

    fn get(&self, key: &str) -> Option<&'t Node<'t>> {
        debug_assert!(self.known.contains(&key), "{key} is read and must be listed as known");
        self.entries.get(key)
    }

    /// The value of `key` read by `read`; `None` if it is absent or wrong, which is noted.
    pub fn optional<T>(
        &self,
        key: &str,
        read: impl FnOnce(Input<'t>) -> Result<T, Complaint>,
    ) -> Option<T> {
        let node = self.get(key)?;
        let read = read(Input::File(&node.value));
        read.map_err(|complaint| {
            self.source.error(&self.path.key(key), Some(node.at), complaint);
        })
        .ok()
    }

    /// As [`Self::optional`], but an absent key is a mistake.
    pub fn required<T>(
        &self,
        key: &str,
        read: impl FnOnce(Input<'t>) -> Result<T, Complaint>,
    ) -> Option<T> {
        if !self.has(key) {
            let complaint = Complaint::new("is missing");
            self.source.error(&self.path.key(key), Some(self.at), complaint);
        }
        self.optional(key, read)
    }

    /// Whether the key is there.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// The table under `key`.
    pub fn table<'p>(&'p self, key: &'p str, known: &'static [&'static str]) -> Option<Table<'p>> {
        let node = self.get(key)?;
        match &node.value {
            Value::Table(entries) => {
                let path = self.path.key(key);
                Some(Table::open(self.source, path, entries, node.at, known))
            }
            other => {
                let found = other.type_str();
                self.error(key, format_args!("must be a table, not of type {found}"));
                None
            }
        }
    }

    /// The tables of the list under `key`; each is named after its key `name` in reports.
    pub fn tables<'p>(
        &'p self,
        key: &'p str,
        name: &'static str,
        known: &'static [&'static str],
    ) -> Vec<Table<'p>> {
        self.each_table(key, name, known).collect()
    }

    /// As [`Self::tables`], one after the other: a million opened tables need room.
    pub fn each_table<'p>(
        &'p self,
        key: &'p str,
        name: &'static str,
        known: &'static [&'static str],
    ) -> impl Iterator<Item = Table<'p>> {
        let list = self.get(key);
        let tables = list.map(|it| self.source.each_table(&self.path, key, it, name, known));
        tables.into_iter().flatten()
    }

    /// How many items the list under `key` has; 0 if it is none.
    #[must_use]
    pub fn count(&self, key: &str) -> usize {
        self.get(key).and_then(|node| node.value.as_list()).map_or(0, <[_]>::len)
    }

    /// The pairs of the table under `key`, whose own keys are free; values that are no strings
    /// are noted and left out.
    pub fn words(&self, key: &str) -> Vec<(&'t str, &'t str)> {
        let Some(node) = self.get(key) else {
            return Vec::new();
        };
        let Some(entries) = node.value.as_table() else {
            self.error(key, "must be a table of words");
            return Vec::new();
        };
        let mut words = Vec::new();
        for entry in entries {
            match Input::File(&entry.node.value).text() {
                Ok(text) => words.push((&*entry.key, text)),
                Err(complaint) => self.error_in(key, &entry.key, complaint),
            }
        }
        words
    }

    /// Notes that the value of `key` is wrong.
    pub fn error(&self, key: &str, complaint: impl Display) {
        let complaint = Complaint::new(complaint.to_string());
        self.source.error(&self.path.key(key), Some(self.place_of(key)), complaint);
    }

    /// Notes that the entry `word` of the table under `key` is wrong.
    pub fn error_in(&self, key: &str, word: &str, complaint: impl Display) {
        let at = Some(self.place_in(key, word));
        let complaint = Complaint::new(complaint.to_string());
        self.source.error(&self.path.key(key).key(word), at, complaint);
    }

    /// Notes something about `key` that someone should look at.
    pub fn warning(&self, key: &str, complaint: impl Display) {
        let complaint = Complaint::new(complaint.to_string());
        self.source.warning(&self.path.key(key), Some(self.place_of(key)), complaint);
    }

    /// Notes that what `key` leads to is lacking.
    pub fn lacking(&self, key: &str, complaint: impl Display) {
        let complaint = Complaint::new(complaint.to_string());
        self.source.lacking(&self.path.key(key), Some(self.place_of(key)), complaint);
    }

    /// Where the value of `key` begins; the table, if it is absent.
    fn place_of(&self, key: &str) -> usize {
        self.get(key).map_or(self.at, |node| node.at)
    }

    /// As [`Self::warning`], about the entry `word` of the table under `key`.
    pub fn warning_in(&self, key: &str, word: &str, complaint: impl Display) {
        let at = Some(self.place_in(key, word));
        let complaint = Complaint::new(complaint.to_string());
        self.source.warning(&self.path.key(key).key(word), at, complaint);
    }

    /// Where the entry `word` of the table under `key` begins; the table, if it is absent.
    fn place_in(&self, key: &str, word: &str) -> usize {
        let entry = self.get(key).and_then(|table| table.value.as_table()?.get(word));
        entry.map_or(self.at, |node| node.at)
    }

    /// `; did you mean …?` for a name that should be one of `known`.
    #[must_use]
    pub fn suggest<'c>(
        &self,
        written: &str,
        known: impl ExactSizeIterator<Item = &'c str>,
    ) -> String {
        self.source.suggest(written, known)
    }
}
