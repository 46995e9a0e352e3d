// Hot path of offers with fraud rules: one lock for a few instructions, no allocation once in use.
//! A map of a fixed size whose keys visitors choose. A key has a few places; if all are taken, the
//! value that is worth the least makes room. Keys are hashes under a seed that nobody knows, so
//! nobody can aim at the places of another key.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Parts with a lock each, so that workers hardly ever meet.
const SHARDS: usize = 64;
/// Places of a key.
const WAYS: usize = 8;

/// What a table keeps.
pub trait Kept: Default {
    /// What it is worth now; 0 if nobody would miss it.
    fn worth(&self, now_ms: u64) -> u64;
}

struct Place<V> {
    /// 0: nobody's.
    key: u64,
    value: V,
}

/// The map. A shard takes its memory when it is first used.
pub struct Table<V> {
    shards: Box<[Mutex<Vec<Place<V>>>]>,
    places_per_shard: usize,
}

impl<V: Kept> Table<V> {
    /// A table of about so many values.
    #[must_use]
    pub fn new(values_max: usize) -> Self {
        let places_per_shard = (values_max / SHARDS / WAYS).max(1) * WAYS;
        let shards = (0..SHARDS).map(|_| Mutex::new(Vec::new())).collect();
        Self { shards, places_per_shard }
    }

    /// Works on a key's value, a new one if it has none.
    pub fn with<R>(&self, key: u64, now_ms: u64, work: impl FnOnce(&mut V) -> R) -> R {
        let key = key.max(1);
        let mut shard = self.shard(key);
        if shard.is_empty() {
            shard.resize_with(self.places_per_shard, || Place { key: 0, value: V::default() });
        }
        let places = &mut shard[self.places(key)];
        let own = places.iter().position(|place| place.key == key);
        let place = own.unwrap_or_else(|| {
            let worth = |place: &Place<V>| match place.key {
                0 => 0,
                _ => place.value.worth(now_ms),
            };
            let least = (0..places.len()).min_by_key(|at| worth(&places[*at])).unwrap_or_default();
            places[least] = Place { key, value: V::default() };
            least
        });
        work(&mut places[place].value)
    }

    /// Works on a key's value; `None` if it has none, and none makes room.
    pub fn known<R>(&self, key: u64, work: impl FnOnce(&mut V) -> R) -> Option<R> {
        let key = key.max(1);
        let mut shard = self.shard(key);
        let places = shard.get_mut(self.places(key))?;
        let own = places.iter_mut().find(|place| place.key == key)?;
        Some(work(&mut own.value))
    }

    fn shard(&self, key: u64) -> MutexGuard<'_, Vec<Place<V>>> {
        let shard = &self.shards[(key % SHARDS as u64) as usize];
        // Whatever state a panic leaves it in, it is a table.
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn places(&self, key: u64) -> std::ops::Range<usize> {
        let sets = (self.places_per_shard / WAYS) as u64;
        let first = (key / SHARDS as u64 % sets) as usize * WAYS;
        first..first + WAYS
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Default)]
    struct Number(u64);

    impl Kept for Number {
        fn worth(&self, now_ms: u64) -> u64 {
            if now_ms == 0 { self.0 } else { 0 }
        }
    }

    proptest! {
        #[test]
        fn it_is_a_map_as_long_as_there_is_room(keys in prop::collection::vec(0..50_u64, 0..300)) {
            let (table, mut map) = (Table::<Number>::new(SHARDS * 64), HashMap::new());
            for key in keys {
                let key = key * (SHARDS as u64 + 1);
                *map.entry(key.max(1)).or_insert(0) += 1;
                table.with(key, 0, |number| number.0 += 1);
            }
            for key in 0..60 {
                let key = key * (SHARDS as u64 + 1);
                let expected = map.get(&key.max(1)).copied();
                prop_assert_eq!(table.known(key, |number| number.0), expected);
            }
        }
    }

    /// Keys that share their places.
    fn rival(n: u64) -> u64 {
        (n + 1) * SHARDS as u64
    }

    #[test]
    fn what_is_worth_the_least_makes_room_and_what_is_over_before_it() {
        let table = Table::<Number>::new(1);
        let value = |n| table.known(rival(n), |number| number.0);
        for n in 0..WAYS as u64 {
            table.with(rival(n), 0, |number| number.0 = 10 + n);
        }
        table.with(rival(3), 0, |number| number.0 = 1);
        table.with(rival(100), 0, |number| number.0 = 50);
        assert_eq!((value(3), value(100), value(0)), (None, Some(50), Some(10)));
        table.with(rival(101), 0, |number| number.0 = 50);
        assert_eq!((value(0), value(1), value(101)), (None, Some(11), Some(50)));
        // At another time all are over: one of them goes, the new one stays.
        table.with(rival(102), 7, |number| number.0 = 1);
        assert_eq!(value(102), Some(1));
    }

    #[test]
    fn any_number_of_keys_takes_no_more_room() {
        let table = Table::<Number>::new(SHARDS * WAYS * 2);
        for n in 0..100_000_u64 {
            table.with(n.wrapping_mul(0x9E37_79B9_7F4A_7C15), 0, |number| number.0 += 1);
        }
        for shard in &table.shards {
            assert_eq!(shard.lock().expect("whole").len(), WAYS * 2);
        }
    }
}
