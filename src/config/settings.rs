//! Settings by dotted key: the environment before the file before the default.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::checked_toml::tree::{Node, Value};
use crate::checked_toml::{
    Complaint, Input, Path, Source, Table, closest, did_you_mean, one_of, units,
};

/// What every variable of postbackd starts with.
pub(super) const PREFIX: &str = "POSTBACKD_";
/// The variable that says where the configuration is.
const NOT_A_SETTING: &str = "POSTBACKD_CONFIG";

/// The settings being read. What is asked for is what is known: a key never asked for is a
/// mistake when reading ends.
pub struct Settings<'t> {
    source: &'t Source<'t>,
    environment: &'t BTreeMap<String, String>,
    asked: Vec<&'static str>,
}

/// The variable that overrides a key: `server.listen` by `POSTBACKD_SERVER__LISTEN`.
pub fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('.', "__").to_ascii_uppercase())
}

impl<'t> Settings<'t> {
    pub fn new(source: &'t Source<'t>, environment: &'t BTreeMap<String, String>) -> Self {
        Self { source, environment, asked: Vec::new() }
    }

    /// The value of `key`. Both the file's and the environment's are read, so that an override
    /// does not hide a mistake.
    pub fn optional<T>(
        &mut self,
        key: &'static str,
        read: impl Fn(Input<'t>) -> Result<T, Complaint>,
    ) -> Option<T> {
        self.asked.push(key);
        let from_file = self.in_file(key).and_then(|node| {
            let noted = |complaint| self.error_in_file(key, node.at, complaint);
            read(Input::File(&node.value)).map_err(noted).ok()
        });
        let name = variable(key);
        let from_environment = self.environment.get(&name).and_then(|text| {
            let noted = |complaint| self.source.error_in_environment(&name, key, complaint);
            read(Input::Text(text)).map_err(noted).ok()
        });
        if let (Some(node), Some(text)) = (self.in_file(key), self.environment.get(&name))
            && from_file.is_some()
            && from_environment.is_some()
            && !says(Input::File(&node.value), text)
        {
            let complaint = Complaint::new(format!("counts for nothing: {name} is set, too"));
            self.source.warning(&Path::ROOT.key(key), Some(node.at), complaint);
        }
        from_environment.or(from_file)
    }

    /// The text of `key`, read by `read`, or else `default`.
    pub fn text<T>(
        &mut self,
        key: &'static str,
        default: T,
        read: impl Fn(&'t str) -> Result<T, Complaint>,
    ) -> T {
        self.optional(key, |input| read(input.text()?)).unwrap_or(default)
    }

    /// The whole number of `key`.
    pub fn integer(&mut self, key: &'static str, default: u32, range: RangeInclusive<u32>) -> u32 {
        let wide = u64::from(*range.start())..=u64::from(*range.end());
        let number = self.optional(key, |input| input.integer(wide.clone()));
        number.and_then(|number| u32::try_from(number).ok()).unwrap_or(default)
    }

    /// The duration of `key`, within `range` (as durations are written).
    pub fn duration(&mut self, key: &'static str, default: &str, range: [&str; 2]) -> Duration {
        let default = || units::duration(default).expect("our own text");
        self.optional_duration(key, range).unwrap_or_else(default)
    }

    /// As [`Self::duration`], where it may be absent.
    pub fn optional_duration(&mut self, key: &'static str, range: [&str; 2]) -> Option<Duration> {
        let known = |text| units::duration(text).expect("our own text");
        let [low, high] = range;
        let read = |text| {
            let duration = units::duration(text)?;
            if (known(low)..=known(high)).contains(&duration) {
                return Ok(duration);
            }
            Err(Complaint::new(format!("must be from {low:?} to {high:?}")))
        };
        self.optional(key, |input| read(input.text()?))
    }

    /// The word of `key`, one of `list`.
    pub fn word<T: Copy>(&mut self, key: &'static str, default: T, list: &[(&str, T)]) -> T {
        self.text(key, default, |word| one_of(word, list))
    }

    /// The list of `key`, its items read by `read`; an absent one is empty.
    pub fn list<T>(
        &mut self,
        key: &'static str,
        read: impl Fn(&'t str) -> Result<T, Complaint>,
    ) -> Vec<T> {
        let item = |item: Input<'t>| read(item.text()?);
        let list = self.optional(key, |input| input.list()?.into_iter().map(item).collect());
        list.unwrap_or_default()
    }

    /// The tables of the list `key`, which may have the keys `known` and are called by their
    /// `name`; and what the environment has in their place.
    pub fn tables(
        &mut self,
        key: &'static str,
        name: &'static str,
        known: &'static [&'static str],
    ) -> (Vec<Table<'t>>, Option<&'t str>) {
        self.asked.push(key);
        let list = self.in_file(key);
        let tables = list.map(|list| self.source.tables(key, list, name, known));
        (tables.unwrap_or_default(), self.environment.get(&variable(key)).map(String::as_str))
    }

    /// Notes that `key` does not go with the others.
    pub fn error(&self, key: &'static str, complaint: impl Into<String>) {
        let (name, complaint) = (variable(key), Complaint::new(complaint));
        match self.in_file(key) {
            _ if self.environment.contains_key(&name) => {
                self.source.error_in_environment(&name, key, complaint);
            }
            Some(node) => self.error_in_file(key, node.at, complaint),
            None => self.source.error(&Path::ROOT.key(key), None, complaint),
        }
    }

    /// Notes that `key` should be looked at.
    pub fn warning(&self, key: &'static str, complaint: impl Into<String>) {
        let at = self.in_file(key).map(|node| node.at);
        self.source.warning(&Path::ROOT.key(key), at, Complaint::new(complaint));
    }

    /// Ends reading: what was never asked for is unknown. Returns the known keys.
    pub fn finish(self) -> Vec<&'static str> {
        for section in self.source.tree() {
            let name: &str = &section.key;
            if self.asked.contains(&name) {
                continue;
            }
            if !self.asked.iter().any(|key| section_of(key) == Some(name)) {
                let hint = self.hint_at_top(name);
                self.error_in_file(
                    name,
                    section.key_at,
                    Complaint::new(format!("unknown key{hint}")),
                );
            } else if let Some(entries) = section.node.value.as_table() {
                for entry in entries {
                    self.check_key(name, &entry.key, entry.key_at);
                }
            } else {
                let complaint = Complaint::new(format!("must be a table: write [{name}]"));
                self.error_in_file(name, section.node.at, complaint);
            }
        }
        self.check_environment();
        self.asked
    }

    fn check_key(&self, section: &str, key: &str, at: usize) {
        let dotted = format!("{section}.{key}");
        if self.asked.contains(&dotted.as_str()) {
            return;
        }
        let siblings = self.asked.iter().filter(|known| section_of(known) == Some(section));
        let hint = did_you_mean(key, siblings.map(|known| last_of(known)));
        let complaint = Complaint::new(format!("unknown key{hint}"));
        self.source.error(&Path::ROOT.key(section).key(key), Some(at), complaint);
    }

    /// At the top, a section may be mistyped or a key may lack its section.
    fn hint_at_top(&self, name: &str) -> String {
        let places = self.asked.iter().map(|key| section_of(key).unwrap_or(key));
        if let Some(place) = closest(name, places) {
            return format!("; did you mean {place:?}?");
        }
        match self.asked.iter().find(|key| last_of(key) == name) {
            Some(key) => format!("; did you mean {key:?}?"),
            None => String::new(),
        }
    }

    fn check_environment(&self) {
        let known: Vec<String> = self.asked.iter().map(|key| variable(key)).collect();
        for name in self.environment.keys() {
            // What all have in common makes none of them likelier.
            let Some(written) = name.strip_prefix(PREFIX) else { continue };
            if known.contains(name) || name == NOT_A_SETTING || self.is_of_a_service(name) {
                continue;
            }
            let names = known.iter().filter_map(|known| known.strip_prefix(PREFIX));
            let hint = match closest(written, names) {
                Some(meant) => format!("; did you mean \"{PREFIX}{meant}\"?"),
                None => String::new(),
            };
            let complaint = Complaint::new(format!("unknown variable{hint}"));
            self.source.error_in_environment(name, "", complaint);
        }
    }

    /// Whether Kubernetes has set it, for a service called `postbackd` or `postbackd-…`: to every
    /// process beside one it says the service's host, and its ports.
    fn is_of_a_service(&self, name: &str) -> bool {
        let services = self.environment.keys().filter_map(|key| key.strip_suffix("_SERVICE_HOST"));
        let mut rests = services.filter_map(|service| name.strip_prefix(service));
        rests.any(|rest| {
            let is_of_a_port = ["_SERVICE_PORT_", "_PORT_"].iter().any(|it| rest.starts_with(it));
            is_of_a_port || ["_SERVICE_HOST", "_SERVICE_PORT", "_PORT"].contains(&rest)
        })
    }

    fn in_file(&self, key: &str) -> Option<&'t Node<'t>> {
        match key.split_once('.') {
            Some((section, name)) => self.source.tree().get(section)?.value.as_table()?.get(name),
            None => self.source.tree().get(key),
        }
    }

    fn error_in_file(&self, key: &str, at: usize, complaint: Complaint) {
        self.source.error(&Path::ROOT.key(key), Some(at), complaint);
    }
}

/// Whether a value of the file is what a variable says, too.
fn says(of_file: Input<'_>, text: &str) -> bool {
    match of_file {
        Input::File(Value::Text(own)) => own == text,
        Input::File(Value::Integer(own)) => own.to_string() == text,
        Input::File(Value::Boolean(own)) => own.to_string() == text,
        list => match (list.list(), Input::Text(text).list()) {
            (Ok(own), Ok(other)) => {
                let is_same = |(own, other): (&Input<'_>, &Input<'_>)| {
                    other.text().is_ok_and(|other| says(*own, other))
                };
                own.len() == other.len() && own.iter().zip(&other).all(is_same)
            }
            _ => false,
        },
    }
}

fn section_of(key: &str) -> Option<&str> {
    key.split_once('.').map(|(section, _)| section)
}

fn last_of(key: &str) -> &str {
    key.rsplit('.').next().unwrap_or(key)
}
