// Pure: no clock, no randomness, no I/O.
//! Days on which conversions are left that have their rate and that the catalog could not price.
//! Another catalog may: they are tried again by each that comes, and by each start, for what notes
//! them in the store stays there meanwhile.

use std::collections::{BTreeMap, BTreeSet};

use crate::click_id::RecordId;
use crate::limits::UNPRICED_KNOWN_MAX;
use crate::model::period::Day;
use crate::store::ToPrice;

/// Such conversions, by their days.
pub type Left = BTreeMap<Day, BTreeSet<RecordId>>;

/// What is left.
#[derive(Debug, Default)]
pub struct PassedOver {
    left: Left,
    /// Whether there are more than are known one by one.
    are_more: bool,
    /// The newest commit that notes a day. Each is noted by one at most, however often its rates
    /// are set.
    noted_by: BTreeMap<Day, u64>,
    /// By which version of the catalog they were tried.
    catalog: u64,
}

impl PassedOver {
    /// Those that somebody has heard of.
    #[must_use]
    pub fn known(&self) -> BTreeSet<RecordId> {
        self.left.values().flatten().copied().collect()
    }

    /// Takes down those that are to be looked at once more.
    pub fn heard_of(&mut self, left: Left) {
        self.left.extend(left);
        if self.left.values().map(BTreeSet::len).sum::<usize>() > UNPRICED_KNOWN_MAX {
            self.are_more = true;
            self.left.clear();
        }
    }

    /// What is to be tried by this version of the catalog, if it is another one: these, whose days
    /// are added to the round; `None` if all of its days have to be looked through.
    pub fn try_again(&mut self, round: &mut ToPrice, catalog: u64) -> Option<BTreeSet<RecordId>> {
        if std::mem::replace(&mut self.catalog, catalog) == catalog {
            return Some(BTreeSet::new());
        }
        for (day, commit) in &self.noted_by {
            round.entry(*commit).or_default().push(*day);
        }
        // Then the round itself says whether there still are more.
        (!std::mem::take(&mut self.are_more)).then(|| self.known())
    }

    /// Takes down what a round has `left` of its days, and whether `are_more` than these; returns
    /// the commits that note nothing any more.
    pub fn settle(&mut self, round: ToPrice, left: Left, are_more: bool) -> BTreeSet<u64> {
        let mut done: BTreeSet<u64> = round.keys().copied().collect();
        for (commit, days) in round {
            for day in days {
                done.extend(self.noted_by.remove(&day));
                if left.contains_key(&day) {
                    self.noted_by.insert(day, commit);
                }
                self.left.remove(&day);
            }
        }
        self.are_more |= are_more;
        self.heard_of(left);
        for commit in self.noted_by.values() {
            done.remove(commit);
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(commits: &[(u64, &[u32])]) -> ToPrice {
        let days = |days: &[u32]| days.iter().copied().map(Day::new).collect();
        commits.iter().map(|(commit, of)| (*commit, days(of))).collect()
    }

    #[test]
    fn what_is_left_is_tried_again_by_another_catalog_and_noted_until_nothing_is_left() {
        let mut passed_over = PassedOver::default();
        let id = |day: u32| RecordId::from_bytes([day as u8; 16]);
        let mut settle = |commits: &[(u64, &[u32])], catalog: u64, left: &[u32]| {
            let mut round = round(commits);
            let again = passed_over.try_again(&mut round, catalog).expect("each is known");
            let days = round.values().flatten();
            assert!(again.iter().all(|it| days.clone().any(|day| id(day.get()) == *it)));
            let tried = round.clone();
            let left = left.iter().map(|day| (Day::new(*day), [id(*day)].into())).collect();
            (tried, passed_over.settle(round, left, false).into_iter().collect::<Vec<_>>())
        };
        let first: &[(u64, &[u32])] = &[(1, &[5, 6]), (2, &[7])];
        assert_eq!(settle(first, 1, &[6]), (round(first), vec![2]));
        assert_eq!(settle(&[], 1, &[]), (round(&[]), vec![]), "the same catalog");
        assert_eq!(settle(&[], 2, &[6]), (round(&[(1, &[6])]), vec![]), "no better");
        let anew: &[(u64, &[u32])] = &[(3, &[6, 8]), (4, &[6])];
        assert_eq!(settle(anew, 2, &[6]), (round(anew), vec![1, 3]), "the newest note is enough");
        assert_eq!(settle(&[], 3, &[]), (round(&[(4, &[6])]), vec![4]), "priced");
        assert_eq!(settle(&[], 4, &[]), (round(&[]), vec![]));
    }
    #[test]
    fn what_is_left_is_looked_at_alone_unless_it_is_too_much() {
        let mut passed_over = PassedOver::default();
        let id = RecordId::from_bytes([7; 16]);
        let left = || Left::from([(Day::new(5), [id].into())]);
        let days: &[(u64, &[u32])] = &[(1, &[5, 6])];
        let mut settle = |commits: &[(u64, &[u32])], catalog: u64, left: Left, are_more: bool| {
            let mut round = round(commits);
            let again = passed_over.try_again(&mut round, catalog);
            passed_over.settle(round, left, are_more);
            again
        };
        assert_eq!(settle(days, 1, left(), false), Some([].into()));
        assert_eq!(settle(&[], 1, Left::new(), false), Some([].into()), "the same catalog");
        assert_eq!(settle(&[], 2, left(), true), Some([id].into()));
        assert_eq!(settle(&[], 3, left(), false), None, "more than are known");
        assert_eq!(settle(&[], 4, Left::new(), false), Some([id].into()), "all days told of one");
        assert_eq!(settle(days, 5, left(), false), Some([].into()), "it was priced");
        let many = (0..=UNPRICED_KNOWN_MAX as u128).map(|n| RecordId::from_bytes(n.to_be_bytes()));
        let many = Left::from([(Day::new(6), many.collect())]);
        assert_eq!(settle(days, 6, many, false), Some([id].into()));
        assert_eq!(settle(&[], 7, left(), false), None, "too many in all");
        assert_eq!(settle(&[], 8, Left::new(), false), Some([id].into()));
    }
}
