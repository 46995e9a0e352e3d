//! JSON to a tree. Values are cut out of the text level by level, because that is how the parser
//! below says where each begins; files are a few levels deep.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::tree::{Entries, Kind, List, Node, Value};

/// Values inside of values.
const DEPTH_MAX: usize = 32;

/// Notes what is wrong, and where, bytes.
pub(super) type Note<'n> = &'n mut dyn FnMut(usize, String);

/// Reads a whole text. What is left out of the tree was noted.
pub(super) fn parse<'t>(text: &'t str, note: Note<'_>) -> Entries<'t> {
    let mut reader = Reader { text, note };
    match members(text) {
        Ok(members) => reader.table(members, 0),
        Err(error) => {
            let at = place_of(text, error.line(), error.column());
            (reader.note)(at, without_place(&error));
            Entries::default()
        }
    }
}

struct Reader<'t, 'n> {
    text: &'t str,
    note: Note<'n>,
}

type Members<'t> = Vec<(Cow<'t, str>, &'t RawValue)>;

impl<'t> Reader<'t, '_> {
    fn at(&self, raw: &RawValue) -> usize {
        raw.get().as_ptr().addr().saturating_sub(self.text.as_ptr().addr())
    }

    fn table(&mut self, members: Members<'t>, depth: usize) -> Entries<'t> {
        let mut entries = Entries::of_kind(Kind::Inline);
        for (key, raw) in members {
            let at = self.at(raw);
            let node = self.node(raw, depth + 1);
            if !entries.add(key, at, node) {
                (self.note)(at, "duplicate key".to_owned());
            }
        }
        entries.take_exact()
    }

    fn node(&mut self, raw: &'t RawValue, depth: usize) -> Node<'t> {
        let at = self.at(raw);
        let value = if depth > DEPTH_MAX {
            Err("values are nested too deeply".to_owned())
        } else {
            self.value(raw.get(), depth).map_err(|error| without_place(&error))
        };
        let value = value.unwrap_or_else(|what| {
            (self.note)(at, what);
            Value::Null
        });
        Node { at, value }
    }

    fn value(&mut self, raw: &'t str, depth: usize) -> serde_json::Result<Value<'t>> {
        Ok(match raw.as_bytes().first() {
            Some(b'{') => Value::Table(self.table(members(raw)?, depth)),
            Some(b'[') => {
                let raw: Vec<&'t RawValue> = serde_json::from_str(raw)?;
                let items = raw.into_iter().map(|item| self.node(item, depth + 1)).collect();
                Value::List(List { items, of_tables: false })
            }
            Some(b'"') => Value::Text(serde_json::from_str::<Text<'t>>(raw)?.0),
            Some(b't' | b'f') => Value::Boolean(serde_json::from_str(raw)?),
            Some(b'n') => Value::Null,
            _ => match raw.parse() {
                Ok(number) => Value::Integer(number),
                Err(_) => Value::Float(Cow::Borrowed(raw)),
            },
        })
    }
}

#[derive(Deserialize)]
struct Text<'t>(#[serde(borrow)] Cow<'t, str>);

fn members(raw: &str) -> serde_json::Result<Members<'_>> {
    struct Pairs;

    impl<'t> Visitor<'t> for Pairs {
        type Value = Members<'t>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'t>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut members = Vec::new();
            while let Some((Text(key), raw)) = map.next_entry()? {
                members.push((key, raw));
            }
            Ok(members)
        }
    }

    let mut deserializer = serde_json::Deserializer::from_str(raw);
    let members = deserializer.deserialize_map(Pairs)?;
    deserializer.end()?;
    Ok(members)
}

/// The byte of a line and column, both from 1.
fn place_of(text: &str, line: usize, column: usize) -> usize {
    let mut ends = text.match_indices('\n').map(|(end, _)| end + 1);
    let start = line.checked_sub(2).and_then(|lines| ends.nth(lines)).unwrap_or(0);
    (start + column.saturating_sub(1)).min(text.len())
}

/// The parser's words without its line and column, which count from the value's own start, and
/// without the value, which may be a secret.
fn without_place(error: &serde_json::Error) -> String {
    if error.is_data() {
        return "must be an object".to_owned();
    }
    let text = error.to_string();
    text.split_once(" at line ").map_or(text.clone(), |(what, _)| what.to_owned())
}
