//! Reads a TOML file section by section and collects every mistake instead of stopping at the
//! first. A key that nobody asks for is unknown; an environment variable can stand for a key.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::report::{Mistake, Report, did_you_mean};

/// Prefix of the environment variables that override keys.
const ENV_PREFIX: &str = "POSTBACKD_";
/// Environment variables that are not keys.
const ENV_OTHERS: [&str; 1] = ["POSTBACKD_CONFIG"];

/// One file being read.
pub struct Reader<'t> {
    file: String,
    line_starts: Vec<usize>,
    table: Spanned<DeTable<'t>>,
    env: BTreeMap<String, (String, Cell<bool>)>,
    mistakes: RefCell<Vec<Mistake>>,
}

/// A value, or the text of the environment variable that stands for it.
enum Found<'r> {
    Toml(&'r Spanned<DeValue<'r>>),
    Env(&'r str),
}

impl<'t> Reader<'t> {
    /// Parses `text`; syntax errors are mistakes like others.
    pub fn new(file: &str, text: &'t str, env: impl Iterator<Item = (String, String)>) -> Self {
        let (table, errors) = DeTable::parse_recoverable(text);
        let line_starts = std::iter::once(0)
            .chain(text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(at, _)| at + 1))
            .collect();
        let env = env
            .filter(|(name, _)| {
                name.starts_with(ENV_PREFIX) && !ENV_OTHERS.contains(&name.as_str())
            })
            .map(|(name, value)| (name, (value, Cell::new(false))))
            .collect();
        let reader =
            Self { file: file.to_owned(), line_starts, table, env, mistakes: RefCell::default() };
        for error in errors {
            reader.add(
                error.span().map(|span| span.start),
                String::new(),
                error.message().to_owned(),
                false,
            );
        }
        reader
    }

    /// The file's top level.
    pub fn root(&self) -> Section<'_> {
        Section {
            reader: self,
            path: String::new(),
            table: Some(self.table.get_ref()),
            at: None,
            asked: RefCell::default(),
        }
    }

    /// The report, with the environment variables that no key answered to.
    pub fn finish(self, known_keys: &[String]) -> Report {
        let unknown: Vec<_> = self
            .env
            .iter()
            .filter(|(_, (_, used))| !used.get())
            .map(|(name, _)| name.clone())
            .collect();
        for name in unknown {
            let is_section = |key: &str| {
                known_keys.iter().any(|other| {
                    other.strip_prefix(key).is_some_and(|rest| rest.starts_with('.'))
                })
            };
            let names = known_keys.iter().filter(|key| !is_section(key));
            let names: Vec<_> = names.map(|key| env_name(key)).collect();
            let hint = did_you_mean(&name, names.iter().map(String::as_str));
            self.add(
                None,
                name,
                format!("no key answers to this environment variable{hint}"),
                false,
            );
        }
        let mut mistakes = self.mistakes.into_inner();
        mistakes.sort_by_key(|mistake| mistake.line.unwrap_or(usize::MAX));
        Report { file: self.file, mistakes }
    }

    fn add(&self, at: Option<usize>, key: String, what: String, warning: bool) {
        let line = at.map(|at| self.line_starts.partition_point(|start| *start <= at));
        self.mistakes.borrow_mut().push(Mistake { line, key, what, warning });
    }
}

/// The environment variable for a dotted key.
#[must_use]
pub fn env_name(key: &str) -> String {
    ENV_PREFIX.to_owned() + &key.replace('.', "__").to_ascii_uppercase()
}

/// One table of the file. Dropping it without [`Section::finish`] leaves its unknown keys unseen.
pub struct Section<'r> {
    reader: &'r Reader<'r>,
    path: String,
    table: Option<&'r DeTable<'r>>,
    at: Option<usize>,
    asked: RefCell<Vec<String>>,
}

impl<'r> Section<'r> {
    /// The dotted path of a key in this section.
    pub fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Adds a mistake at `key`, or at the section if the key is absent, or at the environment
    /// variable that stands for the key.
    pub fn mistake(&self, key: &str, what: impl Into<String>) {
        let variable = env_name(&self.path_of(key));
        if self.reader.env.contains_key(&variable) {
            self.reader.add(None, variable, what.into(), false);
        } else {
            self.reader.add(self.at_key(key), self.path_of(key), what.into(), false);
        }
    }

    fn at_key(&self, key: &str) -> Option<usize> {
        let value = self.table.and_then(|table| table.get(key));
        value.map(|value| value.span().start).or(self.at)
    }

    fn find(&self, key: &str) -> Option<Found<'r>> {
        self.asked.borrow_mut().push(key.to_owned());
        if let Some((value, used)) = self.reader.env.get(&env_name(&self.path_of(key))) {
            used.set(true);
            return Some(Found::Env(value));
        }
        self.table?.get(key).map(Found::Toml)
    }

    /// Whether the key is there.
    pub fn has(&self, key: &str) -> bool {
        self.table.is_some_and(|table| table.contains_key(key))
    }

    /// A text, read by `parse`. `expected` completes "expected …".
    pub fn parse<T>(
        &self,
        key: &str,
        expected: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let text = match self.find(key)? {
            Found::Env(text) => text,
            Found::Toml(value) => match value.get_ref().as_str() {
                Some(text) => text,
                None => {
                    let found = value.get_ref().type_str();
                    self.mistake(key, format!("expected {expected} in quotes, found {found}"));
                    return None;
                }
            },
        };
        let parsed = parse(text);
        if parsed.is_none() {
            self.mistake(key, format!("expected {expected}, found \"{text}\""));
        }
        parsed
    }

    /// A text as it is.
    pub fn text(&self, key: &str) -> Option<String> {
        self.parse(key, "a text", |text| Some(text.to_owned()))
    }

    /// One of a few words.
    pub fn word<T: Copy>(&self, key: &str, words: &[(&str, T)]) -> Option<T> {
        let text = self.text(key)?;
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, meaning)| *meaning);
        if found.is_none() {
            let all: Vec<_> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
            let hint = did_you_mean(&text, words.iter().map(|(word, _)| *word));
            self.mistake(key, format!("expected {}, found \"{text}\"{hint}", all.join(" or ")));
        }
        found
    }

    /// A whole number between `min` and `max`.
    pub fn number<T: FromStr + PartialOrd + Display>(
        &self,
        key: &str,
        min: T,
        max: T,
    ) -> Option<T> {
        let digits = match self.find(key)? {
            Found::Env(text) => text.to_owned(),
            Found::Toml(value) => match value.get_ref().as_integer() {
                Some(integer) if integer.radix() == 10 => integer.as_str().to_owned(),
                _ => value.get_ref().type_str().to_owned(),
            },
        };
        let number = digits.parse::<T>().ok().filter(|number| *number >= min && *number <= max);
        if number.is_none() {
            self.mistake(key, format!("expected a number from {min} to {max}, found {digits}"));
        }
        number
    }

    /// `true` or `false`.
    pub fn truth(&self, key: &str) -> Option<bool> {
        let truth = match self.find(key)? {
            Found::Env(text) => text.parse().ok(),
            Found::Toml(value) => value.get_ref().as_bool(),
        };
        if truth.is_none() {
            self.mistake(key, "expected true or false");
        }
        truth
    }

    /// A list of texts, each read by `parse`; in an environment variable, separated by commas.
    pub fn list<T>(&self, key: &str, expected: &str, parse: impl Fn(&str) -> Option<T>) -> Vec<T> {
        let mut items = Vec::new();
        let mut take = |text: &str| match parse(text) {
            Some(item) => items.push(item),
            None => self.mistake(key, format!("expected {expected}, found \"{text}\"")),
        };
        match self.find(key) {
            None => {}
            Some(Found::Env(text)) => {
                text.split(',').map(str::trim).filter(|t| !t.is_empty()).for_each(take)
            }
            Some(Found::Toml(value)) => match value.get_ref().as_array() {
                Some(array) => {
                    for item in array {
                        match item.get_ref().as_str() {
                            Some(text) => take(text),
                            None => self.mistake(
                                key,
                                format!(
                                    "expected {expected} in quotes, found {}",
                                    item.get_ref().type_str()
                                ),
                            ),
                        }
                    }
                }
                None => self
                    .mistake(key, format!("expected a list, found {}", value.get_ref().type_str())),
            },
        }
        items
    }

    /// A table of texts, as (name, text) in the order of the names.
    pub fn pairs(&self, key: &str) -> Vec<(String, String)> {
        let section = self.section(key);
        let names: Vec<String> = section.table.map_or_else(Vec::new, |table| {
            table.keys().map(|name| name.get_ref().to_string()).collect()
        });
        names.into_iter().filter_map(|name| section.text(&name).map(|text| (name, text))).collect()
    }

    /// A table below this one; empty if absent. No environment variable stands for a table.
    pub fn section(&self, key: &str) -> Section<'r> {
        self.asked.borrow_mut().push(key.to_owned());
        let (table, at) = match self.table.and_then(|table| table.get(key)) {
            Some(value) => {
                let table = value.get_ref().as_table();
                if table.is_none() {
                    self.mistake(
                        key,
                        format!("expected a table, found {}", value.get_ref().type_str()),
                    );
                }
                (table, Some(value.span().start))
            }
            None => (None, self.at),
        };
        Section {
            reader: self.reader,
            path: self.path_of(key),
            table,
            at,
            asked: RefCell::default(),
        }
    }

    /// A list of tables, each named by its `id` or place.
    pub fn sections(&self, key: &str) -> Vec<Section<'r>> {
        let Some(Found::Toml(value)) = self.find(key) else { return Vec::new() };
        let Some(array) = value.get_ref().as_array() else {
            self.mistake(
                key,
                format!("expected [[{key}]] tables, found {}", value.get_ref().type_str()),
            );
            return Vec::new();
        };
        let section = |(place, item): (usize, &'r Spanned<DeValue<'r>>)| {
            let table = item.get_ref().as_table();
            if table.is_none() {
                self.mistake(key, format!("expected tables, found {}", item.get_ref().type_str()));
            }
            let name = |table: &'r DeTable<'r>| {
                ["id", "code"]
                    .iter()
                    .find_map(|key| table.get(*key).and_then(|id| id.get_ref().as_str()))
            };
            let name = table
                .and_then(name)
                .map_or_else(|| (place + 1).to_string(), |id| format!("\"{id}\""));
            let path = format!("{}[{name}]", self.path_of(key));
            Section {
                reader: self.reader,
                path,
                table,
                at: Some(item.span().start),
                asked: RefCell::default(),
            }
        };
        array.iter().enumerate().map(section).collect()
    }

    /// Reports the keys that nobody asked for; adds the keys asked for to `known`.
    pub fn finish(self, known: &mut Vec<String>) {
        let asked = self.asked.into_inner();
        let path = |key: &str| {
            if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
        };
        for key in self.table.into_iter().flat_map(DeTable::keys) {
            let name = key.get_ref();
            if !asked.iter().any(|asked| asked == name) {
                let hint = did_you_mean(name, asked.iter().map(String::as_str));
                self.reader.add(
                    Some(key.span().start),
                    path(name),
                    format!("unknown key{hint}"),
                    false,
                );
            }
        }
        known.extend(asked.iter().map(|key| path(key)));
    }
}
