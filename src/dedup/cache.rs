// Hot path: no allocation beyond the tables' own, no lock but a shard's.
//! Settled claims in memory: two generations, the older one dropped when the newer is full and
//! the store has filed what the older one holds.

use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use dashmap::DashMap;
use dashmap::mapref::entry::Entry;

use crate::click_id::RecordId;
use crate::model::status::Status;
use crate::store::Progress;

/// Shards of a generation: a shard that grows moves only its own entries.
const SHARDS: usize = 64;
/// A generation of so many entries, and with how many places its tables end up for them: seven
/// eighths of the places are used at the most, and shards are not equally full. Tables double.
const FULL: (usize, usize) = (1_750_000, 1 << 21);

/// So many entries or, up to twice as many, what fits into the tables that they take anyway.
#[must_use]
pub fn filling_tables(entries: usize) -> usize {
    let fills = |places: usize| (places as u64 * FULL.0 as u64 / FULL.1 as u64) as usize;
    // As far as shards are as equally full as they nearly always are.
    let holds = |places: usize| places / 8 * 7 / 64 * 63;
    let mut places = SHARDS;
    while holds(places) < entries {
        places *= 2;
    }
    fills(places).max(entries)
}

/// The conversion that holds a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Original {
    /// Its ID.
    pub conversion: RecordId,
    /// Its status when it was put here.
    pub status: Status,
}

/// What is remembered of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// The conversion that holds it.
    pub original: Original,
    /// Whether that was judged again: since when it holds, only its record says.
    pub is_from_log: bool,
}

/// In [`Packed::status`], beside the status's code.
const FROM_LOG: u8 = 0x80;

/// 33 bytes with its key, aligned to one: 39 with the table's own overhead when full.
#[derive(Clone, Copy)]
struct Packed {
    conversion: [u8; 16],
    status: u8,
}

/// Keys are hashes already.
#[derive(Clone, Copy, Default)]
pub(super) struct AsIs;

impl BuildHasher for AsIs {
    type Hasher = FirstBytes;

    fn build_hasher(&self) -> FirstBytes {
        FirstBytes(0)
    }
}

pub(super) struct FirstBytes(u64);

impl Hasher for FirstBytes {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk::<8>() {
            self.0 = u64::from_ne_bytes(*first);
        }
    }

    fn write_usize(&mut self, _length: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

type Generation = DashMap<[u8; 16], Packed, AsIs>;

struct Generations {
    current: Arc<Generation>,
    previous: Arc<Generation>,
}

/// A memory of settled claims, bounded by its size and by what the store may leave unfiled.
pub struct Cache {
    generations: ArcSwap<Generations>,
    entries_max: usize,
    progress: Arc<Progress>,
    /// How many conversions the store must have filed before the older generation may go.
    wanted_filed: Mutex<u64>,
    /// Entries of the current generation; counted here because the map would lock every shard.
    entries: AtomicUsize,
}

impl Cache {
    /// A cache whose generations hold `entries_max` claims each, more while the store is behind.
    #[must_use]
    pub fn new(entries_max: usize, progress: Arc<Progress>) -> Self {
        let empty = || Arc::new(Generation::with_hasher_and_shard_amount(AsIs, SHARDS));
        Self {
            generations: ArcSwap::from_pointee(Generations { current: empty(), previous: empty() }),
            entries_max: entries_max.max(1),
            progress,
            wanted_filed: Mutex::new(0),
            entries: AtomicUsize::new(0),
        }
    }

    /// The conversion that holds the claim with this cache key, if remembered.
    #[must_use]
    pub fn get(&self, key: &[u8; 16]) -> Option<Known> {
        let generations = self.generations.load();
        let find = |generation: &Generation| generation.get(key).and_then(|entry| entry.unpack());
        find(&generations.current).or_else(|| find(&generations.previous))
    }

    /// Remembers a settled claim, newest wins.
    pub fn insert(&self, key: [u8; 16], known: Known) {
        let is_new = self.generations.load().current.insert(key, Packed::of(known)).is_none();
        self.count(is_new);
    }

    /// Remembers a settled claim that the store knows, unless one is remembered that may be newer,
    /// or the generation is full: newer ones do not go for it.
    pub fn insert_older(&self, key: [u8; 16], known: Known) {
        if self.entries.load(Ordering::Relaxed) + 1 >= self.entries_max {
            return;
        }
        let is_new = {
            let generations = self.generations.load();
            let is_older = || generations.previous.contains_key(&key);
            // In one step: a newer one may be settled at this moment.
            match generations.current.entry(key) {
                Entry::Vacant(vacant) if !is_older() => {
                    drop(vacant.insert(Packed::of(known)));
                    true
                }
                Entry::Vacant(_) | Entry::Occupied(_) => false,
            }
        };
        self.count(is_new);
    }

    fn count(&self, is_new: bool) {
        if is_new && self.entries.fetch_add(1, Ordering::Relaxed) + 1 >= self.entries_max {
            self.rotate();
        }
    }

    /// Lets what is remembered of a claim follow its conversion's status. Does nothing where the
    /// claim is not remembered, or as another conversion's.
    pub fn follow(&self, key: &[u8; 16], original: Original) {
        let generations = self.generations.load();
        for generation in [&generations.current, &generations.previous] {
            if let Some(mut entry) = generation.get_mut(key)
                && entry.conversion == *original.conversion.as_bytes()
            {
                entry.status = original.status.code() | entry.status & FROM_LOG;
            }
        }
    }

    /// Forgets a claim that a conversion holds, which the store knows.
    pub fn forget(&self, key: &[u8; 16], conversion: RecordId) {
        let generations = self.generations.load();
        let is_its = |_: &[u8; 16], entry: &Packed| entry.conversion == *conversion.as_bytes();
        if generations.current.remove_if(key, is_its).is_some() {
            // The insert has counted it, here or, if the generation was exchanged since, elsewhere.
            let less = |entries: usize| Some(entries.saturating_sub(1));
            let _ = self.entries.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        }
        generations.previous.remove_if(key, is_its);
    }

    /// Remembers a claim that the store knows, if there is room: it may be forgotten at any time.
    pub fn insert_stored(&self, key: [u8; 16], known: Known) {
        if self.entries.load(Ordering::Relaxed) >= self.entries_max {
            self.rotate();
        }
        if self.entries.load(Ordering::Relaxed) < self.entries_max {
            self.insert(key, known);
        }
    }

    /// Drops the older generation, if all that it holds is filed. An insert that races with it
    /// lands in what is now the older.
    fn rotate(&self) {
        // Whoever is not alone leaves it to the other.
        let Ok(mut wanted) = self.wanted_filed.try_lock() else { return };
        let full = self.entries.load(Ordering::Relaxed) >= self.entries_max;
        if !full || self.progress.filed() < *wanted {
            return;
        }
        let filled = Arc::clone(&self.generations.load().current);
        let current = Arc::new(Generation::with_hasher_and_shard_amount(AsIs, SHARDS));
        self.entries.store(0, Ordering::Relaxed);
        self.generations.store(Arc::new(Generations { current, previous: filled }));
        // Only now: whoever inserts into what was filled took it before, and submitted before that.
        *wanted = self.progress.submitted();
    }

    /// Claims remembered at most, and about how many now.
    #[must_use]
    pub fn fill(&self) -> (usize, usize) {
        let generations = self.generations.load();
        (2 * self.entries_max, generations.current.len() + generations.previous.len())
    }
}

impl Packed {
    const fn of(known: Known) -> Self {
        let Known { original: Original { conversion, status }, is_from_log } = known;
        let from_log = if is_from_log { FROM_LOG } else { 0 };
        Self { conversion: *conversion.as_bytes(), status: status.code() | from_log }
    }

    fn unpack(self) -> Option<Known> {
        let status = Status::from_code(self.status & !FROM_LOG)?;
        let original = Original { conversion: RecordId::from_bytes(self.conversion), status };
        Some(Known { original, is_from_log: self.status & FROM_LOG != 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u64) -> [u8; 16] {
        let hash = xxhash_rust::xxh3::xxh3_128(&n.to_be_bytes());
        hash.to_ne_bytes()
    }

    fn original(n: u64) -> Original {
        let conversion = RecordId::from_bytes(key(n));
        Original { conversion, status: Status::Approved }
    }

    fn known(n: u64) -> Known {
        Known { original: original(n), is_from_log: false }
    }

    #[test]
    fn the_newest_claims_are_remembered_and_their_number_is_bounded() {
        let cache = Cache::new(1000, Arc::default());
        for n in 0..10_500 {
            cache.insert(key(n), known(n));
            assert_eq!(cache.get(&key(n)), Some(known(n)));
        }
        for n in 9_500..10_500 {
            assert_eq!(cache.get(&key(n)), Some(known(n)), "{n} is among the newest");
        }
        assert_eq!(cache.get(&key(1)), None, "the oldest are forgotten");
        assert!(cache.fill().1 <= cache.fill().0);
    }

    #[test]
    fn an_entry_takes_64_bytes_at_most_however_many_are_asked_for() {
        let of_an_entry = |asked: usize| {
            let entries = filling_tables(asked);
            assert!((asked..2 * asked).contains(&entries), "{asked}: {entries}");
            let cache = Cache::new(entries + 1, Arc::default());
            for n in 0..entries as u64 {
                cache.insert(key(n), known(n));
            }
            let places = cache.generations.load().current.capacity() * 8 / 7;
            // A place has its entry and a byte of control.
            (places * (size_of::<([u8; 16], Packed)>() + 1)) as f64 / entries as f64
        };
        for asked in [1000, 1700, 1800, 10_000, 100_000, 150_000, 240_000, 500_000] {
            let bytes = of_an_entry(asked);
            assert!((38.0..=64.0).contains(&bytes), "{bytes} bytes an entry of {asked}");
        }
        let default = of_an_entry(1_750_000);
        assert!((40.0..41.0).contains(&default), "{default}");
        assert_eq!(
            [875_000, 1_750_000, 1_800_000, 3_500_000].map(filling_tables),
            [875_000, 1_750_000, 1_800_000, 3_500_000]
        );
    }

    #[test]
    fn a_claim_taken_anew_names_the_newest_conversion() {
        let cache = Cache::new(10, Arc::default());
        cache.insert(key(1), known(1));
        cache.insert(key(1), known(2));
        assert_eq!(cache.get(&key(1)), Some(known(2)));
    }

    #[test]
    fn what_was_read_earlier_displaces_nothing_that_is_newer() {
        let cache = Cache::new(3, Arc::default());
        for n in 1..=4 {
            cache.insert(key(n), known(n));
        }
        for n in 1..=5 {
            cache.insert_older(key(n), known(9));
        }
        let found = [1, 2, 3, 4, 5].map(|n| cache.get(&key(n)));
        assert_eq!(found, [1, 2, 3, 4, 9].map(|n| Some(known(n))), "in either generation");
        // Nor what comes at the same moment.
        const KEYS: u64 = 50_000;
        let cache = Cache::new(2 * KEYS as usize, Arc::default());
        let arrived = AtomicUsize::new(0);
        let each = |enter: &dyn Fn(u64)| {
            for n in 0..KEYS {
                arrived.fetch_add(1, Ordering::Relaxed);
                // Both have arrived: a barrier would wake one after the other.
                while arrived.load(Ordering::Relaxed) < 2 * (n as usize + 1) {
                    std::thread::yield_now();
                }
                enter(n);
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(|| each(&|n| cache.insert_older(key(n), known(n + KEYS))));
            scope.spawn(|| each(&|n| cache.insert(key(n), known(n))));
        });
        for n in 0..KEYS {
            assert_eq!(cache.get(&key(n)), Some(known(n)), "{n}");
        }
    }

    #[test]
    fn a_small_cache_is_warmed_with_the_newest_and_no_more_than_it_holds() {
        let cache = Cache::new(10, Arc::default());
        // Newest first, as a start reads them.
        for n in (1..=100).rev() {
            cache.insert_older(key(n), known(n));
        }
        assert!(cache.fill().1 <= 10);
        assert_eq!(cache.get(&key(100)), Some(known(100)));
        assert_eq!(cache.get(&key(1)), None);
        cache.insert(key(101), known(101));
        assert_eq!(cache.get(&key(100)), Some(known(100)), "in the older generation, if not here");
    }

    #[test]
    fn what_is_forgotten_makes_room_and_another_conversions_claim_stays() {
        let cache = Cache::new(3, Arc::default());
        for n in [1, 2] {
            cache.insert(key(n), known(n));
        }
        cache.forget(&key(1), original(2).conversion);
        assert_eq!(cache.get(&key(1)), Some(known(1)), "it is another one's");
        cache.forget(&key(1), original(1).conversion);
        cache.forget(&key(1), original(1).conversion);
        assert_eq!(cache.get(&key(1)), None);
        // Room for one more before the generation is full.
        cache.insert(key(3), known(3));
        assert_eq!(cache.fill().1, 2);
        assert_eq!(cache.get(&key(2)), Some(known(2)));
        cache.insert(key(4), known(4));
        cache.forget(&key(2), original(2).conversion);
        assert_eq!((cache.get(&key(2)), cache.get(&key(4))), (None, Some(known(4))));
    }

    #[test]
    fn a_status_is_followed_in_either_generation_and_only_for_its_own_conversion() {
        let cache = Cache::new(2, Arc::default());
        let reversed = |n| Original { status: Status::Reversed, ..original(n) };
        let from_log = |original| Known { original, is_from_log: true };
        for n in 1..=3 {
            cache.insert(key(n), from_log(original(n)));
        }
        for n in [1, 3] {
            cache.follow(&key(n), reversed(9));
            assert_eq!(cache.get(&key(n)), Some(from_log(original(n))), "another's status");
            cache.follow(&key(n), reversed(n));
            assert_eq!(cache.get(&key(n)), Some(from_log(reversed(n))));
        }
        cache.follow(&key(7), reversed(7));
        assert_eq!(cache.get(&key(7)), None);
    }
}
