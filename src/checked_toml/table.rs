//! One table of a file: typed reading by key, with every mistake noted.

use std::fmt::Display;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::path::Path;
use super::report::Complaint;
use super::source::Source;
use super::value::Input;

/// A table being read. Keys it may not have are noted when it is opened.
#[derive(Debug)]
pub struct Table<'t> {
    source: &'t Source<'t>,
    path: Path<'t>,
    entries: &'t DeTable<'t>,
    span: Range<usize>,
    known: &'static [&'static str],
}

impl<'t> Table<'t> {
    pub(super) fn open(
        source: &'t Source<'t>,
        path: Path<'t>,
        entries: &'t DeTable<'t>,
        span: Range<usize>,
        known: &'static [&'static str],
        not_yet: &'static [&'static str],
    ) -> Self {
        let table = Self { source, path, entries, span, known };
        for (key, _) in entries {
            let name: &str = key.get_ref();
            let complaint = if known.contains(&name) {
                continue;
            } else if not_yet.contains(&name) {
                Complaint::new("not supported by this version; remove it")
            } else {
                let hint = source.suggest(name, known.iter().copied());
                Complaint::new(format!("unknown key{hint}"))
            };
            source.error(&table.path.key(name), Some(key.span()), complaint);
        }
        table
    }

    fn get(&self, key: &str) -> Option<&'t Spanned<DeValue<'t>>> {
        debug_assert!(self.known.contains(&key), "{key} is read and must be listed as known");
        self.entries.get(key)
    }

    /// The value of `key` read by `read`; `None` if it is absent or wrong, which is noted.
    pub fn optional<T>(
        &self,
        key: &str,
        read: impl FnOnce(Input<'t>) -> Result<T, Complaint>,
    ) -> Option<T> {
        let value = self.get(key)?;
        let read = read(Input::Toml(value.get_ref()));
        read.map_err(|complaint| {
            self.source.error(&self.path.key(key), Some(value.span()), complaint)
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
            self.source.error(&self.path.key(key), Some(self.span.clone()), complaint);
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
        let value = self.get(key)?;
        match value.get_ref() {
            DeValue::Table(entries) => {
                let path = self.path.key(key);
                Some(Table::open(self.source, path, entries, value.span(), known, &[]))
            }
            other => {
                let found = other.type_str();
                self.error(key, format_args!("must be a table, not of type {found}"));
                None
            }
        }
    }

    /// The tables of the list under `key`; each is named after its key `name` in reports.
    /// Keys of `not_yet` are refused as not supported.
    pub fn tables<'p>(
        &'p self,
        key: &'p str,
        name: &'static str,
        known: &'static [&'static str],
        not_yet: &'static [&'static str],
    ) -> Vec<Table<'p>> {
        let Some(value) = self.get(key) else {
            return Vec::new();
        };
        let DeValue::Array(items) = value.get_ref() else {
            self.error(key, format_args!("must be a list of tables: write [[{key}]]"));
            return Vec::new();
        };
        let open = |(place, item): (usize, &'p Spanned<DeValue<'t>>)| {
            let Some(entries) = item.get_ref().as_table() else {
                let complaint = Complaint::new("must be a table");
                self.source.error(&self.path.item(key, place, None), Some(item.span()), complaint);
                return None;
            };
            let named = entries.get(name).and_then(|named| named.get_ref().as_str());
            let path = self.path.item(key, place, named);
            Some(Table::open(self.source, path, entries, item.span(), known, not_yet))
        };
        items.iter().enumerate().filter_map(open).collect()
    }

    /// The pairs of the table under `key`, whose own keys are free; values that are no strings
    /// are noted and left out.
    pub fn words(&self, key: &str) -> Vec<(&'t str, &'t str)> {
        let Some(value) = self.get(key) else {
            return Vec::new();
        };
        let Some(entries) = value.get_ref().as_table() else {
            self.error(key, "must be a table of words");
            return Vec::new();
        };
        let mut words = Vec::new();
        for (word, value) in entries {
            match Input::Toml(value.get_ref()).text() {
                Ok(text) => words.push((&**word.get_ref(), text)),
                Err(complaint) => self.error_in(key, word.get_ref(), complaint),
            }
        }
        words
    }

    /// Notes that the value of `key` is wrong.
    pub fn error(&self, key: &str, complaint: impl Display) {
        let span = self.get(key).map_or(self.span.clone(), Spanned::span);
        let complaint = Complaint::new(complaint.to_string());
        self.source.error(&self.path.key(key), Some(span), complaint);
    }

    /// Notes that the entry `word` of the table under `key` is wrong.
    pub fn error_in(&self, key: &str, word: &str, complaint: impl Display) {
        let place = self.get(key).and_then(|table| table.get_ref().as_table()?.get(word));
        let span = place.map_or(self.span.clone(), Spanned::span);
        let complaint = Complaint::new(complaint.to_string());
        self.source.error(&self.path.key(key).key(word), Some(span), complaint);
    }

    /// Notes something about `key` that someone should look at.
    pub fn warning(&self, key: &str, complaint: impl Display) {
        let span = self.get(key).map_or(self.span.clone(), Spanned::span);
        self.source.warning(&self.path.key(key), Some(span), Complaint::new(complaint.to_string()));
    }

    /// As [`Self::warning`], about the entry `word` of the table under `key`.
    pub fn warning_in(&self, key: &str, word: &str, complaint: impl Display) {
        let place = self.get(key).and_then(|table| table.get_ref().as_table()?.get(word));
        let span = place.map_or(self.span.clone(), Spanned::span);
        let complaint = Complaint::new(complaint.to_string());
        self.source.warning(&self.path.key(key).key(word), Some(span), complaint);
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
