//! A tree back to text, in either language.

use std::fmt::{self, Write as _};

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::tree::{Entries, Node, Value};

/// Everything as JSON.
#[must_use]
pub fn to_json(tree: &Entries<'_>) -> String {
    serde_json::to_string(tree).expect("keys are texts and nothing fails to print")
}

/// Everything as TOML: lists of tables under headers, all that is inside of those in one line.
#[must_use]
pub fn to_toml(tree: &Entries<'_>) -> String {
    let mut out = String::new();
    table(&mut out, "", tree);
    out
}

/// Pairs first, because what follows a header belongs to it.
fn table(out: &mut String, path: &str, entries: &Entries<'_>) {
    let (lists, pairs): (Vec<_>, Vec<_>) =
        entries.iter().partition(|entry| is_list_of_tables(&entry.node.value));
    for pair in pairs {
        key(out, &pair.key);
        out.push_str(" = ");
        value(out, &pair.node.value);
        out.push('\n');
    }
    for list in lists {
        let mut path = if path.is_empty() { String::new() } else { format!("{path}.") };
        key(&mut path, &list.key);
        for item in list.node.value.as_list().unwrap_or_default() {
            let Some(entries) = item.value.as_table() else { continue };
            out.push_str(if out.is_empty() { "" } else { "\n" });
            let _ = writeln!(out, "[[{path}]]");
            table(out, &path, entries);
        }
    }
}

fn is_list_of_tables(value: &Value<'_>) -> bool {
    let items = value.as_list().unwrap_or_default();
    !items.is_empty() && items.iter().all(|item| item.value.as_table().is_some())
}

fn key(out: &mut String, key: &str) {
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if !key.is_empty() && key.bytes().all(bare) {
        out.push_str(key);
    } else {
        text(out, key);
    }
}

fn value(out: &mut String, of: &Value<'_>) {
    match of {
        Value::Text(of) => text(out, of),
        Value::Integer(number) => _ = write!(out, "{number}"),
        Value::Float(digits) => out.push_str(digits),
        Value::Boolean(of) => _ = write!(out, "{of}"),
        Value::Datetime(moment) => out.push_str(moment),
        // TOML has nothing that is nothing.
        Value::Null => out.push_str("\"\""),
        Value::List(list) => {
            out.push('[');
            for (place, item) in list.items.iter().enumerate() {
                out.push_str(if place == 0 { "" } else { ", " });
                value(out, &item.value);
            }
            out.push(']');
        }
        Value::Table(entries) => {
            out.push_str(if entries.is_empty() { "{" } else { "{ " });
            for (place, entry) in entries.iter().enumerate() {
                out.push_str(if place == 0 { "" } else { ", " });
                key(out, &entry.key);
                out.push_str(" = ");
                value(out, &entry.node.value);
            }
            out.push_str(if entries.is_empty() { "}" } else { " }" });
        }
    }
}

fn text(out: &mut String, text: &str) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            control if control.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(control));
            }
            plain => out.push(plain),
        }
    }
    out.push('"');
}

/// A text as it is, anything else as JSON.
impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            other => f.write_str(&serde_json::to_string(other).map_err(|_| fmt::Error)?),
        }
    }
}

impl Serialize for Entries<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.len()))?;
        for entry in self {
            map.serialize_entry(&entry.key, &entry.node)?;
        }
        map.end()
    }
}

impl Serialize for Node<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(serializer)
    }
}

impl Serialize for Value<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => serializer.serialize_str(text),
            Self::Datetime(moment) => serializer.serialize_str(moment),
            Self::Integer(number) => serializer.serialize_i64(*number),
            // JSON has no infinities, and a number that is no amount is no amount as a text, too.
            Self::Float(digits) => serializer.serialize_str(digits),
            Self::Boolean(of) => serializer.serialize_bool(*of),
            Self::Null => serializer.serialize_unit(),
            Self::List(list) => serializer.collect_seq(&list.items),
            Self::Table(entries) => entries.serialize(serializer),
        }
    }
}
