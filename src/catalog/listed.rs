// Hot path: the lookups run for every click and postback. No allocation, no locks.

//! Offers or affiliates in the file's order, found by ID and by number.
//!
//! Most of a large catalog is in no processor's cache, and what a look-up costs is how many of its
//! lines it waits for. So the tables have nothing but places, four bytes each: ID and number are
//! read where they are needed next, from the item itself.

use hashbrown::HashTable;
use smol_str::SmolStr;
use xxhash_rust::xxh3::xxh3_64;

/// The part of a hash that a table keeps beside a place, to tell most others by.
const TAG: u64 = 0x7F << 57;

/// What such a list is made of.
pub trait Item {
    /// Catalog ID.
    fn id(&self) -> &SmolStr;
    /// The number in click IDs.
    fn number(&self) -> u32;
}

#[derive(Debug)]
pub(super) struct Listed<T> {
    items: Vec<T>,
    by_id: HashTable<u32>,
    by_number: HashTable<u32>,
}

impl<T> Default for Listed<T> {
    fn default() -> Self {
        Self { items: Vec::new(), by_id: HashTable::new(), by_number: HashTable::new() }
    }
}

impl<T: Item> Listed<T> {
    /// Lists items, no two of which have the same ID.
    ///
    /// # Errors
    /// The ID of one whose number another one before it has.
    pub(super) fn new(items: Vec<T>) -> Result<Self, SmolStr> {
        let (mut by_id, mut by_number) =
            (HashTable::with_capacity(items.len()), HashTable::with_capacity(items.len()));
        for (place, item) in (0..).zip(&items) {
            let (number, id) = (item.number(), item.id());
            if find(&items, &by_number, of_number(number), |it| it.number() == number).is_some() {
                return Err(id.clone());
            }
            let item = |place: &u32| &items[*place as usize];
            by_id.insert_unique(of_id(id), place, |place| of_id(item(place).id()));
            let again = |place: &u32| of_number(item(place).number());
            by_number.insert_unique(of_number(number), place, again);
        }
        Ok(Self { items, by_id, by_number })
    }

    pub(super) fn by_id(&self, id: &str) -> Option<&T> {
        find(&self.items, &self.by_id, of_id(id), |item| item.id() == id)
    }

    pub(super) fn by_number(&self, number: u32) -> Option<&T> {
        find(&self.items, &self.by_number, of_number(number), |item| item.number() == number)
    }

    pub(super) fn items(&self) -> &[T] {
        &self.items
    }
}

#[inline]
fn find<'i, T>(
    items: &'i [T],
    table: &HashTable<u32>,
    hash: u64,
    is_meant: impl Fn(&T) -> bool,
) -> Option<&'i T> {
    let place = table.find(hash, |place| items.get(*place as usize).is_some_and(&is_meant))?;
    items.get(*place as usize)
}

/// Whoever asks chooses no ID that is in the table, so none that collide.
#[inline]
fn of_id(id: &str) -> u64 {
    xxh3_64(id.as_bytes())
}

/// Numbers are given one after the other, but for what a restore skips. Multiples of the golden
/// ratio spread one run evenly over a table, and several as well: each number is found in the first
/// group of places that is looked at. The number itself would have runs lie on one another where
/// they are alike modulo the table.
#[inline]
fn of_number(number: u32) -> u64 {
    // 2^64 divided by the golden ratio.
    let spread = u64::from(number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    spread >> 32 | spread & TAG
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug)]
    struct Thing(SmolStr, u32);

    impl Item for Thing {
        fn id(&self) -> &SmolStr {
            &self.0
        }

        fn number(&self) -> u32 {
            self.1
        }
    }

    proptest! {
        #[test]
        fn each_is_found_by_both_and_nothing_else_is(
            numbers in prop::collection::hash_set(prop_oneof![0..300_u32, any::<u32>()], 0..300),
            others in prop::collection::vec(prop_oneof![0..300_u32, any::<u32>()], 20),
        ) {
            let id = |number: u32| SmolStr::from(format!("an ID of some length, {number}"));
            let things = numbers.iter().map(|number| Thing(id(*number), *number)).collect();
            let listed = Listed::new(things).expect("no number twice");
            for number in numbers.iter().chain(&others) {
                let expected = numbers.contains(number).then_some(*number);
                let by_number = listed.by_number(*number).map(Item::number);
                prop_assert_eq!(by_number, expected);
                let by_id = listed.by_id(&id(*number)).map(Item::number);
                prop_assert_eq!(by_id, expected);
            }
            prop_assert_eq!(listed.items().len(), numbers.len());
        }
    }

    #[test]
    fn numbers_in_runs_lie_evenly_wherever_the_runs_begin() {
        // Places that a table looks at in one go.
        const GROUP: usize = 16;
        let check = |runs: &[std::ops::Range<u32>]| {
            let numbers = || runs.iter().cloned().flatten();
            let places = (numbers().count() * 8 / 7).next_power_of_two();
            let mut groups = vec![0; places / GROUP];
            for number in numbers() {
                groups[of_number(number) as usize % places / GROUP] += 1;
            }
            // In a full table each has 14.
            assert!(groups.iter().all(|numbers| *numbers <= GROUP * 3 / 2), "{runs:?}: {groups:?}");
        };
        for bits in 7..18 {
            let (places, most) = (1_u32 << bits, (1_u32 << bits) / 8 * 7);
            // One behind the other, they are one.
            check(&[1..most / 2, most / 2..most]);
            for half in [most / 2, most / 2 - most / 9] {
                let second = |begins: u32| begins..begins + half;
                for begins in [places, places + half / 2, 3 * places, 16 * places + 1, 5_000_000] {
                    check(&[1..half, second(begins + 1)]);
                }
            }
            let fifth = |run: u32| run * places + 1..run * places + most / 5;
            check(&[0, 1, 2, 3, 4].map(fifth));
        }
    }

    #[test]
    fn a_number_that_two_have_is_refused() {
        let things = vec![Thing("a".into(), 7), Thing("b".into(), 8), Thing("c".into(), 7)];
        assert_eq!(Listed::new(things).expect_err("shared"), "c");
    }
}
