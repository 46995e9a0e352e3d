//! What a catalog cannot ask of clicks that were there before it: to have converted once.

use std::collections::HashSet;

use super::diff::named;
use crate::checked_toml::tree::{Entries, Value};
use crate::checked_toml::{Complaint, Path, Source};

const KEY: &str = "one_conversion_per_click";

/// Warns of each offer whose clicks convert only once from now on, and did not before: none of
/// their conversions holds its click.
pub fn warn_of_converted(in_force: &Entries<'_>, new: &Source<'_>) {
    let before: HashSet<_> = named(in_force, "offers", "id")
        .filter_map(|(id, offer)| (!converts_once(offer)).then_some(id))
        .collect();
    for (place, (id, offer)) in named(new.tree(), "offers", "id").enumerate() {
        if converts_once(offer) && before.contains(id) {
            let complaint = Complaint::new(
                "only conversions from now on are known by their click: one that has converted \
                 before converts once more",
            );
            let item = Path::ROOT.item("offers", place, Some(id));
            new.warning(&item.key(KEY), offer.get(KEY).map(|node| node.at), complaint);
        }
    }
}

fn converts_once(offer: &Entries<'_>) -> bool {
    offer.get(KEY).is_some_and(|node| node.value == Value::Boolean(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_asked_to_convert_once_and_was_not_before_is_named() {
        let check = |before: &str, now: &str, is_named: bool| {
            let text = |key: &str| format!("[[offers]]\nid='a'\n[[offers]]\nid='b'\n{key}\n");
            let (old, new) = (text(before), text(now));
            let old = Source::parse(&old, "old").expect("sound");
            let new = Source::parse(&new, "new").expect("sound");
            warn_of_converted(old.tree(), &new);
            let report = new.into_report();
            let keys: Vec<_> = report.mistakes().iter().map(|it| it.key.clone()).collect();
            let expected = ["offers[1] \"b\".one_conversion_per_click"];
            assert_eq!(keys, expected[..usize::from(is_named)], "{before} {now}");
            assert!(!report.has_errors());
        };
        let [on, off] = ["one_conversion_per_click=true", "one_conversion_per_click=false"];
        check("", on, true);
        check(off, on, true);
        check(on, on, false);
        check(on, off, false);
        check("", "", false);
        // One that is new has no clicks yet.
        check("[[offers]]\nid='c'", "[[offers]]\nid='d'\none_conversion_per_click=true", false);
    }
}
