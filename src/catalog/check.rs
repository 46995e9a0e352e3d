//! From text to a checked catalog: every table read, every reference followed.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::file::{self, ADVERTISER, AFFILIATE, LINK, ROOT};
use super::file_offer::{self, NetworkDefaults, OFFER, Surroundings};
use super::snapshot::Checked;
use crate::auth::Gap;
use crate::checked_toml::{Complaint, Input, Report, Source, Table};
use crate::model::period::moment;

/// Names of one kind that are in the file, each with its place in the list of what is usable;
/// `None` if the rest of its table has mistakes. Such a name still is no unknown one.
type Names<'t> = HashMap<&'t str, Option<usize>>;

/// Before a check has no valid secret any more, this is how long it is warned of; as the alert
/// `PostbackdSecretEnds`.
const SECRETS_END_SOON_MS: u64 = 14 * 24 * 60 * 60 * 1000;

/// Reads a catalog file in TOML, at no moment in particular: of the times of secrets nothing is said.
/// The report beside the catalog holds warnings only.
///
/// # Errors
/// The report of all mistakes and warnings.
pub fn parse(
    text: &str,
    file_name: &str,
    defaults: &NetworkDefaults,
) -> Result<(Checked, Report), Report> {
    check(Source::parse(text, file_name)?, defaults, None)
}

/// As [`parse`], of a text that has been read, at a moment.
///
/// # Errors
/// The report of all mistakes and warnings.
pub(super) fn check(
    source: Source<'_>,
    defaults: &NetworkDefaults,
    now_ms: Option<u64>,
) -> Result<(Checked, Report), Report> {
    let checked = read(&source.root(ROOT), defaults, now_ms);
    let report = source.into_report();
    if report.has_errors() { Err(report) } else { Ok((checked, report)) }
}

/// Reads everything; what is wrong is noted in the source.
pub(super) fn read(root: &Table<'_>, defaults: &NetworkDefaults, now_ms: Option<u64>) -> Checked {
    let mut checked = Checked::default();
    let owners = root.tables("advertisers", "id", ADVERTISER);
    let advertisers = named(owners.iter().copied(), "advertiser", "id", file::id, |table, id| {
        let advertiser = file::advertiser(table, id, &defaults.time_zone);
        checked.advertisers.push(Arc::new(advertiser));
        Some(checked.advertisers.len() - 1)
    });

    checked.affiliates.reserve(root.count("affiliates"));
    let tables = root.each_table("affiliates", "id", AFFILIATE);
    let affiliates = named(tables, "affiliate", "id", file::id, |table, id| {
        checked.affiliates.push(file::affiliate(table, id));
        Some(checked.affiliates.len() - 1)
    });

    let affiliate = |table: &Table<'_>| {
        let place = reference(table, "affiliate", "affiliates", &affiliates);
        Some(checked.affiliates.get(place?)?.id.clone())
    };
    let around = Surroundings { defaults, affiliate: &affiliate };

    checked.offers.reserve(root.count("offers"));
    let tables = root.each_table("offers", "id", OFFER);
    let offers = named(tables, "offer", "id", file::id, |table, id| {
        let owner = reference(table, "advertiser", "advertisers", &advertisers);
        let owner = owner.and_then(|place| checked.advertisers.get(place)).map(Arc::clone);
        checked.offers.push(file_offer::offer(table, id, owner, &around)?);
        Some(checked.offers.len() - 1)
    });
    check_event_names(&owners, &checked);
    check_event_kinds(&owners, &checked);
    check_paths(&owners, &checked);
    if let Some(now_ms) = now_ms {
        check_secrets(&owners, &checked, now_ms);
    }

    checked.links.reserve(root.count("links"));
    let tables = root.each_table("links", "code", LINK);
    named(tables, "link", "code", file::code, |table, code| {
        let offer = reference(table, "offer", "offers", &offers);
        let affiliate = reference(table, "affiliate", "affiliates", &affiliates);
        checked.links.insert(code.into(), (offer?, affiliate?));
        None
    });
    checked
}

/// Reads each table by `read`, under the name it gives itself in `key`; a name given twice is a
/// mistake.
fn named<'t>(
    tables: impl Iterator<Item = Table<'t>>,
    kind: &str,
    key: &str,
    read_name: fn(Input<'t>) -> Result<&'t str, Complaint>,
    mut read: impl FnMut(&Table<'t>, &'t str) -> Option<usize>,
) -> Names<'t> {
    let mut names = Names::with_capacity(tables.size_hint().1.unwrap_or_default());
    for table in tables {
        let name = table.required(key, read_name);
        let place = read(&table, name.unwrap_or_default());
        let Some(name) = name else { continue };
        if names.contains_key(name) {
            table.error(key, format_args!("{name:?} is taken by an earlier {kind}"));
        } else {
            names.insert(name, place);
        }
    }
    names
}

/// The place of what `key` names, among `names`.
fn reference(table: &Table<'_>, key: &str, list: &str, names: &Names<'_>) -> Option<usize> {
    let name = table.required(key, Input::text)?;
    names.get(name).copied().unwrap_or_else(|| {
        let hint = table.suggest(name, names.keys().copied());
        table.error(key, format_args!("{name:?} is not among the {list}{hint}"));
        None
    })
}

/// An event name of an advertiser that leads to no event of its offers is likely mistyped.
fn check_event_names(tables: &[Table<'_>], checked: &Checked) {
    let mut defined: HashMap<&str, HashSet<&str>> = HashMap::new();
    for offer in &checked.offers {
        let ids = offer.events.iter().map(|event| &*event.id);
        defined.entry(&offer.advertiser.id).or_default().extend(ids);
    }
    for (table, advertiser) in tables.iter().zip(&checked.advertisers) {
        let known = defined.get(&*advertiser.id);
        for (theirs, ours) in &advertiser.events {
            if !known.is_some_and(|known| known.contains(&**ours)) {
                let what = format!(
                    "{theirs:?} leads to {ours:?}, which is an event of none of its offers"
                );
                table.warning("events", what);
            }
        }
        if let Some(event) = &advertiser.default_event
            && !known.is_some_and(|known| known.contains(event.as_str()))
        {
            let what = format!("{event:?} is an event of none of its offers");
            table.warning("default_event", what);
        }
    }
}

/// What takes back in one offer and earns in another of the same advertiser is counted under the
/// same key in both.
fn check_event_kinds(tables: &[Table<'_>], checked: &Checked) {
    let events = |is_negative: bool| {
        let all = checked.offers.iter();
        all.flat_map(|offer| offer.events.iter().map(move |event| (offer, event)))
            .filter(move |(_, event)| event.is_negative() == is_negative)
            .map(|(offer, event)| ((&*offer.advertiser.id, &*event.id), &*offer.id))
    };
    let negative: HashMap<_, _> = events(true).collect();
    let mut of_both = BTreeMap::new();
    if !negative.is_empty() {
        of_both.extend(events(false).filter(|(key, _)| negative.contains_key(key)));
    }
    for (table, advertiser) in tables.iter().zip(&checked.advertisers) {
        let its = of_both.range((&*advertiser.id, "")..);
        for (key, earns_in) in its.take_while(|((owner, _), _)| *owner == &*advertiser.id) {
            let what = format!(
                "the event {:?} takes back in the offer {:?} and earns in {earns_in:?}: where both have the same txn_id, the later one is refused; give one of them another name",
                key.1, negative[key]
            );
            table.warning("id", what);
        }
    }
}

/// A path leads to one advertiser.
fn check_paths(tables: &[Table<'_>], checked: &Checked) {
    let mut taken = HashSet::new();
    for (table, advertiser) in tables.iter().zip(&checked.advertisers) {
        if let Some(path) = &advertiser.path
            && !taken.insert(path)
        {
            table.error("path", format_args!("{path:?} is taken by an earlier advertiser"));
        }
    }
}

/// An advertiser without a valid secret has every sale refused.
fn check_secrets(tables: &[Table<'_>], checked: &Checked, now_ms: u64) {
    for (table, advertiser) in tables.iter().zip(&checked.advertisers) {
        for (check, gap) in advertiser.auth.iter().flat_map(|auth| auth.gaps(now_ms)) {
            let what = match gap {
                Gap::Now(begins_ms) => match begins_ms.and_then(moment) {
                    Some(begins) => format!(
                        "{check} has no secret that is valid now, nor before {begins}: \
                         until then every postback is refused"
                    ),
                    None => {
                        format!(
                            "{check} has no secret that is valid now: every postback is refused"
                        )
                    }
                },
                Gap::From(end_ms) if end_ms - now_ms > SECRETS_END_SOON_MS => continue,
                Gap::From(end_ms) => {
                    let days = (end_ms - now_ms) / (24 * 60 * 60 * 1000);
                    format!(
                        "{check} has no valid secret any more in {days} days: then every postback is refused"
                    )
                }
            };
            table.warning("auth", what);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::currency::Currency;

    #[test]
    fn an_event_that_takes_back_in_one_offer_and_earns_in_another_is_a_warning() {
        let offer = |id: &str, owner: &str, events: &str| {
            format!(
                "[[offers]]\nid = '{id}'\nadvertiser = '{owner}'\nurl = 'https://a.example/{{click_id}}'\n{events}"
            )
        };
        let (sale, adj) = ("[[offers.events]]\nid = 'sale'\n", "[[offers.events]]\nid = 'adj'\n");
        let negative = format!("{sale}{adj}reverses = ['sale']\n");
        let defaults =
            NetworkDefaults { currency: Currency::USD, time_zone: jiff::tz::TimeZone::UTC };
        let check = |owner: &str, expected: &str| {
            let offers = [offer("shoes", "a", &negative), offer("club", owner, adj)].concat();
            let text = format!("[[advertisers]]\nid = 'a'\n[[advertisers]]\nid = 'b'\n{offers}");
            assert_eq!(
                parse(&text, "catalog.toml", &defaults).expect("valid").1.to_string(),
                expected
            );
        };
        check("b", "");
        check(
            "a",
            "warning: catalog.toml:2: advertisers[0] \"a\".id: the event \"adj\" takes back in the offer \"shoes\" and earns in \"club\": where both have the same txn_id, the later one is refused; give one of them another name\n",
        );
    }
}
