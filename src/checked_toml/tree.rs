//! A file's values as written, each with the place where it begins.
//!
//! A catalog has a million tables of one or two keys. A table here is one allocation of exactly
//! its size, and texts are borrowed from the file. A general-purpose tree, with a map for each
//! table, took ten times as long; see docs/decisions/0008-reading-a-large-catalog.md.

use std::borrow::Cow;
use std::collections::HashMap;

/// Keys of one table beyond which they are found by hash; below, comparing them is faster.
const COMPARED_MAX: usize = 16;

/// A value and where it begins, bytes from the start of the file.
#[derive(Clone, Debug)]
pub struct Node<'t> {
    /// The first byte.
    pub at: usize,
    /// The value.
    pub value: Value<'t>,
}

/// A value as written.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'t> {
    /// A string, its escapes resolved.
    Text(Cow<'t, str>),
    /// A whole number.
    Integer(i64),
    /// Any other number, in its digits.
    Float(Cow<'t, str>),
    /// True or false.
    Boolean(bool),
    /// TOML's date, time, or both, in the form of RFC 3339.
    Datetime(String),
    /// JSON's nothing.
    Null,
    /// A list.
    List(List<'t>),
    /// A table.
    Table(Entries<'t>),
}

/// A list's items.
#[derive(Clone, Debug, Default)]
pub struct List<'t> {
    pub(super) items: Vec<Node<'t>>,
    /// Made by `[[headers]]`, so that another header may add to it.
    pub(super) of_tables: bool,
}

/// A table's keys and values, in the order written.
#[derive(Clone, Debug, Default)]
pub struct Entries<'t> {
    list: Vec<Entry<'t>>,
    /// Places in `list`, once it is long.
    index: Option<Box<Index<'t>>>,
    pub(super) kind: Kind,
}

/// Places in a table's list by key; boxed, because few tables have one.
#[derive(Clone, Debug)]
struct Index<'t>(HashMap<Cow<'t, str>, usize>);

/// How a table came to be; decides what may be added to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Kind {
    /// By its own header, or as the whole file.
    #[default]
    Defined,
    /// By the header of a table inside of it; a header of its own may follow.
    Implicit,
    /// By a dotted key.
    Dotted,
    /// In braces: nothing can be added.
    Inline,
}

/// One key and its value.
#[derive(Clone, Debug)]
pub struct Entry<'t> {
    /// The key.
    pub key: Cow<'t, str>,
    /// Where the key begins, bytes.
    pub key_at: usize,
    /// The value.
    pub node: Node<'t>,
}

impl<'t> Value<'t> {
    /// What kind of value it is, for people.
    #[must_use]
    pub const fn type_str(&self) -> &'static str {
        match self {
            Self::Text(_) => "string",
            Self::Integer(_) => "integer",
            Self::Float(_) => "float",
            Self::Boolean(_) => "boolean",
            Self::Datetime(_) => "datetime",
            Self::Null => "null",
            Self::List(_) => "array",
            Self::Table(_) => "table",
        }
    }

    /// The text, if it is one.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    /// The items, if it is a list.
    #[must_use]
    pub fn as_list(&self) -> Option<&[Node<'t>]> {
        if let Self::List(list) = self { Some(&list.items) } else { None }
    }

    /// The entries, if it is a table.
    #[must_use]
    pub const fn as_table(&self) -> Option<&Entries<'t>> {
        if let Self::Table(entries) = self { Some(entries) } else { None }
    }
}

impl<'t> Entries<'t> {
    pub(super) const fn of_kind(kind: Kind) -> Self {
        Self { list: Vec::new(), index: None, kind }
    }

    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Node<'t>> {
        self.place(key).map(|place| &self.list[place].node)
    }

    /// All entries.
    pub fn iter(&self) -> std::slice::Iter<'_, Entry<'t>> {
        self.list.iter()
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(super) fn place(&self, key: &str) -> Option<usize> {
        match &self.index {
            Some(index) => index.0.get(key).copied(),
            None => self.list.iter().position(|entry| entry.key == key),
        }
    }

    pub(super) fn node_mut(&mut self, place: usize) -> &mut Node<'t> {
        &mut self.list[place].node
    }

    /// Adds an entry; false if the key is taken, then nothing is added.
    pub(super) fn add(&mut self, key: Cow<'t, str>, key_at: usize, node: Node<'t>) -> bool {
        if self.place(&key).is_some() {
            return false;
        }
        let place = self.list.len();
        if let Some(index) = &mut self.index {
            index.0.insert(key.clone(), place);
        } else if place == COMPARED_MAX {
            let keys = self.list.iter().map(|entry| &entry.key).chain([&key]);
            let index = keys.cloned().zip(0..).collect();
            self.index = Some(Box::new(Index(index)));
        }
        self.list.push(Entry { key, key_at, node });
        true
    }

    /// Takes everything out, in an allocation of its exact size; this one keeps its room.
    pub(super) fn take_exact(&mut self) -> Self {
        let mut list = Vec::with_capacity(self.list.len());
        list.append(&mut self.list);
        Self { list, index: self.index.take(), kind: std::mem::take(&mut self.kind) }
    }
}

impl PartialEq for Node<'_> {
    /// Whether the values are the same, wherever they stand.
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl PartialEq for List<'_> {
    /// Whether the items are the same, in the same order.
    fn eq(&self, other: &Self) -> bool {
        self.items == other.items
    }
}

impl PartialEq for Entries<'_> {
    /// Whether both have the same keys with the same values, in any order.
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len()
            && self.iter().all(|entry| other.get(&entry.key) == Some(&entry.node))
    }
}

impl<'e, 't> IntoIterator for &'e Entries<'t> {
    type Item = &'e Entry<'t>;
    type IntoIter = std::slice::Iter<'e, Entry<'t>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
