// Pure: no clock, no randomness, no I/O.
//! Days on which conversions are left that have their rate and that the catalog could not price.
//! Another catalog may: they are tried again by each that comes, and by each start, for what notes
//! them in the store stays there meanwhile.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::period::Day;
use crate::store::ToPrice;

/// Such days. Each is noted by one commit at most, however often its rates are set.
#[derive(Debug, Default)]
pub struct PassedOver {
    /// The newest commit that notes a day.
    noted_by: BTreeMap<Day, u64>,
    /// By which version of the catalog they were tried.
    catalog: u64,
}

impl PassedOver {
    /// Adds them to a round by this version of the catalog, if it is another one.
    pub fn try_again(&mut self, round: &mut ToPrice, catalog: u64) {
        if std::mem::replace(&mut self.catalog, catalog) != catalog {
            for (day, commit) in &self.noted_by {
                round.entry(*commit).or_default().push(*day);
            }
        }
    }

    /// Takes down what a round has `left`; returns the commits that note nothing any more.
    pub fn settle(&mut self, round: ToPrice, left: &BTreeSet<Day>) -> BTreeSet<u64> {
        let mut done: BTreeSet<u64> = round.keys().copied().collect();
        for (commit, days) in round {
            for day in days {
                done.extend(self.noted_by.remove(&day));
                if left.contains(&day) {
                    self.noted_by.insert(day, commit);
                }
            }
        }
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
        let mut settle = |commits: &[(u64, &[u32])], catalog: u64, left: &[u32]| {
            let mut round = round(commits);
            passed_over.try_again(&mut round, catalog);
            let tried = round.clone();
            let left = left.iter().copied().map(Day::new).collect();
            (tried, passed_over.settle(round, &left).into_iter().collect::<Vec<_>>())
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
}
