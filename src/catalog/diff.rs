//! What differs between two catalogs, by name, and which of it is about money.
//!
//! Compared is what is written, key by key: a key that is written out with its default value
//! differs from one that is left out. The order of entries means nothing.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use crate::audit::Listed;
use crate::checked_toml::tree::{Entries, Value};
use crate::limits::CATALOG_CHANGES_LISTED_MAX;
use crate::model::money::Micros;

/// Lists of the file, what one entry is called by, and the list's name.
const KINDS: [(&str, &str); 4] =
    [("advertisers", "id"), ("offers", "id"), ("affiliates", "id"), ("links", "code")];

/// Keys that decide whether something is paid, how much, and to whom.
const MONEY: [&str; 21] = [
    "payout",
    "revenue",
    "repeat",
    "window",
    "late",
    "customer_window",
    "initial_status",
    "one_conversion_per_click",
    "reverses",
    "caps",
    "fraud",
    "advertiser",
    "statuses",
    "rejects_approved",
    "offer",
    "affiliate",
    "trust_payout",
    "trust_revenue",
    "preset",
    "params",
    "default_event",
];
/// Keys below which texts are amounts: `"15"` and `"15.00"` are the same.
const AMOUNTS: [&str; 2] = ["payout", "revenue"];
/// Changed keys of one entry that are listed.
const KEYS_LISTED_MAX: usize = 100;

/// What differs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = CatalogChanges)]
pub struct Diff {
    /// Of advertisers.
    pub advertisers: Changes,
    /// Of offers.
    pub offers: Changes,
    /// Of affiliates.
    pub affiliates: Changes,
    /// Of links.
    pub links: Changes,
}

/// What differs among entries of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Changes {
    /// Entries that only the new catalog has.
    pub added: usize,
    /// Entries that both have.
    pub changed: usize,
    /// Entries that only the old catalog has.
    pub removed: usize,
    /// Changed entries in which money is concerned, and offers that are removed: what becomes of
    /// their conversions is refused afterwards.
    pub money: usize,
    /// The first of them; those that concern money come before the others.
    pub entries: Vec<Change>,
}

/// One entry that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Change {
    /// How.
    pub change: Kind,
    /// Its ID, or a link's code.
    pub id: String,
    /// Of a changed one, the keys that differ, such as `events.sale.payout.fixed`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<String>,
    /// Those of them that concern money, with their values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub money: Vec<MoneyChange>,
}

/// How an entry differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = ChangeKind)]
pub enum Kind {
    /// Only the new catalog has it.
    Added,
    /// Both have it, with other values.
    Changed,
    /// Only the old catalog has it.
    Removed,
}

/// A key that concerns money.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MoneyChange {
    /// The key.
    pub key: String,
    /// Its old value; `None` if there was none.
    pub from: Option<String>,
    /// Its new value; `None` if there is none.
    pub to: Option<String>,
}

impl Diff {
    /// What turns `old` into `new`.
    #[must_use]
    pub fn between(old: &Entries<'_>, new: &Entries<'_>) -> Self {
        let [advertisers, offers, affiliates, links] = KINDS.map(|(list, name)| {
            let removal_is_money = list == "offers";
            Changes::between(named(old, list, name), named(new, list, name), removal_is_money)
        });
        Self { advertisers, offers, affiliates, links }
    }

    /// Whether nothing differs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.kinds().iter().all(|(_, changes)| changes.count() == 0)
    }

    /// Numbers of all changes, and the first changes, in so many bytes as the audit log takes:
    /// advertisers whose `secrets` are others than before, whatever is written, come first.
    #[must_use]
    pub fn summary(&self, secrets: &[Change]) -> serde_json::Value {
        let mut summary = serde_json::Map::new();
        let mut listed = Listed::default();
        let mut list = |kind: &str, entries: &[Change]| {
            for entry in entries {
                let mut entry = json!(entry);
                entry["kind"] = kind.into();
                listed.push(entry);
            }
        };
        summary.insert("secrets".to_owned(), json!({ "changed": secrets.len() }));
        list("secrets", secrets);
        for (kind, changes) in self.kinds() {
            let Changes { added, changed, removed, money, entries } = changes;
            let counts =
                json!({ "added": added, "changed": changed, "removed": removed, "money": money });
            summary.insert(kind.to_owned(), counts);
            list(kind, entries);
        }
        let (entries, left_out) = listed.into_parts();
        summary.insert("entries".to_owned(), entries.into());
        let unlisted = |changes: &Changes| changes.count() - changes.entries.len();
        let unlisted: usize = self.kinds().iter().map(|(_, changes)| unlisted(changes)).sum();
        summary.insert("left_out".to_owned(), (left_out + unlisted).into());
        summary.into()
    }

    fn kinds(&self) -> [(&'static str, &Changes); 4] {
        [
            ("advertisers", &self.advertisers),
            ("offers", &self.offers),
            ("affiliates", &self.affiliates),
            ("links", &self.links),
        ]
    }
}

/// The entries of one list, by name, in the order written.
pub(super) fn named<'e, 't>(
    root: &'e Entries<'t>,
    list: &str,
    name: &'static str,
) -> impl Iterator<Item = (&'e str, &'e Entries<'t>)> + use<'e, 't> {
    let items = root.get(list).and_then(|node| node.value.as_list()).unwrap_or_default();
    items.iter().filter_map(move |item| {
        let entries = item.value.as_table()?;
        Some((entries.get(name)?.value.as_text()?, entries))
    })
}

impl Changes {
    fn between<'e, 't: 'e, 'u: 'e>(
        old: impl Iterator<Item = (&'e str, &'e Entries<'t>)>,
        new: impl Iterator<Item = (&'e str, &'e Entries<'u>)>,
        removal_is_money: bool,
    ) -> Self {
        let mut changes = Self::default();
        let mut gone: HashMap<&str, &Entries<'_>> = old.collect();
        let mut others = Vec::new();
        let listed = |list: &mut Vec<Change>, change: Kind, id: &str| {
            if list.len() < CATALOG_CHANGES_LISTED_MAX {
                let (keys, money) = (Vec::new(), Vec::new());
                list.push(Change { change, id: id.to_owned(), keys, money });
            }
        };
        for (id, entries) in new {
            let Some(before) = gone.remove(id) else {
                changes.added += 1;
                listed(&mut others, Kind::Added, id);
                continue;
            };
            let mut comparison = Comparison::default();
            comparison.tables(before, entries);
            if comparison.keys.is_empty() {
                continue;
            }
            changes.changed += 1;
            let money = !comparison.money.is_empty();
            changes.money += usize::from(money);
            let list = if money { &mut changes.entries } else { &mut others };
            if list.len() < CATALOG_CHANGES_LISTED_MAX {
                list.push(comparison.into_change(id));
            }
        }
        changes.removed = gone.len();
        let mut gone: Vec<&str> = gone.into_keys().collect();
        gone.sort_unstable();
        changes.money += if removal_is_money { gone.len() } else { 0 };
        let list = if removal_is_money { &mut changes.entries } else { &mut others };
        gone.iter().for_each(|id| listed(list, Kind::Removed, id));
        changes.entries.append(&mut others);
        changes.entries.truncate(CATALOG_CHANGES_LISTED_MAX);
        changes
    }

    /// How many entries differ.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.added + self.changed + self.removed
    }
}

/// Two entries being compared.
#[derive(Default)]
struct Comparison<'e> {
    path: Vec<Cow<'e, str>>,
    keys: Vec<String>,
    money: Vec<MoneyChange>,
}

impl<'e> Comparison<'e> {
    fn tables(&mut self, old: &'e Entries<'_>, new: &'e Entries<'_>) {
        for entry in old {
            let now = new.get(&entry.key).map(|node| &node.value);
            self.values((&*entry.key).into(), Some(&entry.node.value), now);
        }
        for entry in new {
            if old.get(&entry.key).is_none() {
                self.values((&*entry.key).into(), None, Some(&entry.node.value));
            }
        }
    }

    fn values(
        &mut self,
        key: Cow<'e, str>,
        old: Option<&'e Value<'_>>,
        new: Option<&'e Value<'_>>,
    ) {
        self.path.push(key);
        match (old, new) {
            (Some(Value::Table(old)), Some(Value::Table(new))) => self.tables(old, new),
            (Some(Value::List(_)), Some(Value::List(_))) if self.lists(old, new) => {}
            _ if self.is_same(old, new) => {}
            _ => self.note(old, new),
        }
        self.path.pop();
    }

    /// Compares lists of tables, of which each has a name; false if these are none.
    fn lists(&mut self, old: Option<&'e Value<'_>>, new: Option<&'e Value<'_>>) -> bool {
        let by = name_in(self.path.last().map_or("", |list| list));
        let (Some(old), Some(new)) = (by_name(old, by), by_name(new, by)) else { return false };
        for (name, before) in &old {
            self.values(name.clone(), Some(before), new.get(name).copied());
        }
        for (name, now) in &new {
            if !old.contains_key(name) {
                self.values(name.clone(), None, Some(now));
            }
        }
        true
    }

    fn is_same(&self, old: Option<&Value<'_>>, new: Option<&Value<'_>>) -> bool {
        let amount = |value: Option<&Value<'_>>| match value {
            Some(Value::Text(text)) => Micros::parse(text).ok(),
            _ => None,
        };
        let amounts = self.path.iter().any(|key| AMOUNTS.contains(&&**key));
        old == new || (amounts && amount(old).is_some() && amount(old) == amount(new))
    }

    fn note(&mut self, old: Option<&Value<'_>>, new: Option<&Value<'_>>) {
        if self.keys.len() >= KEYS_LISTED_MAX {
            return;
        }
        let key = self.path.join(".");
        // A whole event that comes or goes is about money, too.
        if self.path.iter().any(|key| MONEY.contains(&&**key) || key == "events") {
            let (from, to) = (old.map(Value::to_string), new.map(Value::to_string));
            self.money.push(MoneyChange { key: key.clone(), from, to });
        }
        self.keys.push(key);
    }

    fn into_change(self, id: &str) -> Change {
        let (id, keys, money) = (id.to_owned(), self.keys, self.money);
        Change { change: Kind::Changed, id, keys, money }
    }
}

/// By which key an item of a list is called, as the file's lists are.
fn name_in(list: &str) -> &'static str {
    match list {
        "overrides" => "affiliate",
        "tiers" => "from",
        _ => "id",
    }
}

/// The items of a list of tables by name; `None` if one has none, or has that of another.
fn by_name<'v, 't>(
    list: Option<&'v Value<'t>>,
    by: &str,
) -> Option<BTreeMap<Cow<'v, str>, &'v Value<'t>>> {
    let mut named = BTreeMap::new();
    for item in list?.as_list()? {
        let name = match &item.value.as_table()?.get(by)?.value {
            Value::Text(text) => Cow::from(&**text),
            other => other.to_string().into(),
        };
        if named.insert(name, &item.value).is_some() {
            return None;
        }
    }
    Some(named)
}

impl fmt::Display for Diff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (kind, changes) in self.kinds() {
            if changes.count() == 0 {
                continue;
            }
            let Changes { added, changed, removed, .. } = changes;
            writeln!(f, "{kind}: {added} added, {changed} changed, {removed} removed")?;
            for change in &changes.entries {
                change.fmt(f)?;
            }
            let more = changes.count() - changes.entries.len();
            if more > 0 {
                writeln!(f, "  and {more} more")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = &self.id;
        match self.change {
            Kind::Added => writeln!(f, "  + {id}"),
            Kind::Removed => writeln!(f, "  - {id}"),
            Kind::Changed => {
                writeln!(f, "  ~ {id}: {}", self.keys.join(", "))?;
                for MoneyChange { key, from, to } in &self.money {
                    let shown = |value: &Option<String>| value.clone().unwrap_or("nothing".into());
                    writeln!(f, "      money: {key}: {} -> {}", shown(from), shown(to))?;
                }
                Ok(())
            }
        }
    }
}
