//! What was signed lately, by nonce: the same nonce under another signature is refused, and under
//! the same one it is known when it was first used. Uses of which nothing was kept, because it was
//! to be tried again, are none: the next one is the first again.
//!
//! In memory only, and bounded. Each advertiser has two generations of its own, the older of which
//! is dropped when all that is in it has run out, or when the newer one is full. Where there is no
//! room for all together, whoever has the most forgets: one that floods pushes out nobody else's.
//! What is dropped early, or by a restart, can be sent again within its window; so what was signed
//! before all that is remembered may have come before, and whoever asks is told so.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use xxhash_rust::xxh3::{xxh3_64_with_seed, xxh3_128_with_seed};

use crate::limits::{NONCE_GENERATION_MS, NONCES_MAX};

/// Nonces in one generation of one advertiser.
const GENERATION_MAX: usize = NONCES_MAX / 4;

/// Remembers nonces.
pub struct Nonces {
    seed: u64,
    /// By advertiser, hashed: only those of the catalog that have signed something.
    memories: RwLock<HashMap<u64, Arc<Mutex<Memory>>>>,
    /// Nonces in all of them.
    total: AtomicUsize,
    max: usize,
    /// Since when something is remembered, Unix milliseconds.
    began_ms: u64,
}

/// Where a nonce was first used.
#[derive(Clone, Copy)]
struct Known {
    /// The start of the signature that came with it.
    signature: u32,
    /// Uses that were not turned away, some of which may be under way.
    uses: u32,
    /// When the first of these came, Unix milliseconds.
    first_ms: u64,
}

#[derive(Default)]
struct Generation {
    nonces: HashMap<u128, Known>,
    began_ms: u64,
    /// When all of it has run out.
    until_ms: u64,
}

/// One advertiser's nonces.
#[derive(Default)]
struct Memory {
    newer: Generation,
    older: Generation,
    /// What was used before may be forgotten, Unix milliseconds.
    forgot_ms: u64,
}

/// One use of a nonce.
#[derive(Clone, Copy, Debug)]
pub struct Use<'a> {
    /// Whose it is.
    pub advertiser: &'a str,
    /// The nonce, or what stands for one.
    pub nonce: &'a [u8],
    /// The signature, which has been verified.
    pub signature: &'a [u8; 32],
    /// The time of signing, Unix milliseconds.
    pub signed_ms: u64,
    /// When its time of signing becomes stale, Unix milliseconds.
    pub until_ms: u64,
}

/// When a signed postback came, Unix milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Came {
    /// As far as is remembered: now, if it is new.
    pub first_ms: u64,
    /// By which moment it counts: that, or if it may have come before, when it was signed.
    pub counts_ms: u64,
    /// Whose it is and its nonce, hashed, if it is remembered.
    place: Option<(u64, u128)>,
}

impl Came {
    /// Now, and not before.
    #[must_use]
    pub const fn at(now_ms: u64) -> Self {
        Self { first_ms: now_ms, counts_ms: now_ms, place: None }
    }
}

impl Nonces {
    /// Empty since `began_ms`; `seed` keeps senders from choosing what collides.
    #[must_use]
    pub fn new(seed: u64, began_ms: u64) -> Self {
        Self::of_size(seed, began_ms, NONCES_MAX)
    }

    fn of_size(seed: u64, began_ms: u64, max: usize) -> Self {
        Self { seed, memories: RwLock::default(), total: AtomicUsize::new(0), max, began_ms }
    }

    /// When a nonce that is new, or known with this signature, was first used; `None` if it is
    /// known with another one. It is remembered if `keep` is set.
    #[must_use]
    pub fn allow(&self, used: &Use<'_>, keep: bool, now_ms: u64) -> Option<Came> {
        let Use { advertiser, nonce, signature, signed_ms, until_ms } = *used;
        let advertiser = xxh3_64_with_seed(advertiser.as_bytes(), self.seed);
        let key = xxh3_128_with_seed(nonce, self.seed);
        let came = |first_ms: u64, whole_since_ms: u64| {
            let is_sure = signed_ms >= whole_since_ms;
            let counts_ms = if is_sure { first_ms } else { first_ms.min(signed_ms) };
            Came { first_ms, counts_ms, place: keep.then_some((advertiser, key)) }
        };
        let [a, b, c, d, ..] = *signature;
        let signature = u32::from_ne_bytes([a, b, c, d]);
        // Before it is added, so that the newest stays.
        if keep && self.total.load(Ordering::Relaxed) >= self.max {
            self.make_room(now_ms);
        }
        let memory = match self.memory_of(advertiser) {
            Some(memory) => memory,
            None if !keep => return Some(came(now_ms, self.began_ms)),
            None => self.new_memory(advertiser, now_ms),
        };
        // A memory is sound after any panic: nothing in it spans two steps.
        let mut memory = memory.lock().unwrap_or_else(PoisonError::into_inner);
        self.forgot(memory.age(now_ms));
        let since_ms = self.began_ms.max(memory.forgot_ms);
        if let Some(known) = memory.known(key) {
            if known.signature != signature {
                return None;
            }
            let first_ms = if known.uses == 0 { now_ms } else { known.first_ms };
            if keep {
                *known = Known { signature, uses: known.uses.saturating_add(1), first_ms };
            }
            return Some(came(first_ms, since_ms));
        }
        if keep {
            memory.newer.until_ms = memory.newer.until_ms.max(until_ms);
            memory.newer.nonces.insert(key, Known { signature, uses: 1, first_ms: now_ms });
            self.total.fetch_add(1, Ordering::Relaxed);
        }
        Some(came(now_ms, since_ms))
    }

    /// Takes a use back of which nothing was kept, and whose sender was told to try again. The nonce
    /// stays with its signature.
    pub fn turned_away(&self, came: Came) {
        let Some((advertiser, key)) = came.place else { return };
        let Some(memory) = self.memory_of(advertiser) else { return };
        let mut memory = memory.lock().unwrap_or_else(PoisonError::into_inner);
        // Else it was forgotten meanwhile, and came again.
        if let Some(known) = memory.known(key).filter(|known| known.first_ms == came.first_ms) {
            known.uses = known.uses.saturating_sub(1);
        }
    }

    fn memory_of(&self, advertiser: u64) -> Option<Arc<Mutex<Memory>>> {
        let memories = self.memories.read().unwrap_or_else(PoisonError::into_inner);
        memories.get(&advertiser).cloned()
    }

    /// Makes an advertiser's memory, and drops those in which everything has run out.
    fn new_memory(&self, advertiser: u64, now_ms: u64) -> Arc<Mutex<Memory>> {
        let mut memories = self.memories.write().unwrap_or_else(PoisonError::into_inner);
        memories.retain(|_, memory| {
            // Whoever has hold of one is about to add to it.
            if Arc::strong_count(memory) > 1 {
                return true;
            }
            let mut memory = memory.lock().unwrap_or_else(PoisonError::into_inner);
            let is_needed = memory.newer.until_ms.max(memory.older.until_ms) > now_ms;
            if !is_needed {
                self.forgot(memory.turn(now_ms) + memory.turn(now_ms));
            }
            is_needed
        });
        Arc::clone(memories.entry(advertiser).or_default())
    }

    /// Lets whoever has the most forget its oldest, until there is room.
    fn make_room(&self, now_ms: u64) {
        let memories = self.memories.read().unwrap_or_else(PoisonError::into_inner);
        let len = |memory: &Arc<Mutex<Memory>>| {
            memory.lock().unwrap_or_else(PoisonError::into_inner).len()
        };
        while self.total.load(Ordering::Relaxed) >= self.max {
            let Some(largest) = memories.values().max_by_key(|memory| len(memory)) else { return };
            let mut largest = largest.lock().unwrap_or_else(PoisonError::into_inner);
            if largest.len() == 0 {
                return;
            }
            self.forgot(largest.turn(now_ms));
        }
    }

    fn forgot(&self, nonces: usize) {
        self.total.fetch_sub(nonces, Ordering::Relaxed);
    }
}

impl Memory {
    fn known(&mut self, key: u128) -> Option<&mut Known> {
        self.older.nonces.get_mut(&key).or_else(|| self.newer.nonces.get_mut(&key))
    }

    fn len(&self) -> usize {
        self.newer.nonces.len() + self.older.nonces.len()
    }

    /// Drops the older generation if it has run out, or if there is no room; how many that were.
    fn age(&mut self, now_ms: u64) -> usize {
        let is_old = self.newer.began_ms.saturating_add(NONCE_GENERATION_MS) <= now_ms;
        let is_full = self.newer.nonces.len() >= GENERATION_MAX;
        if is_full || (is_old && self.older.until_ms <= now_ms) { self.turn(now_ms) } else { 0 }
    }

    /// Drops the older generation and begins another; how many were dropped.
    fn turn(&mut self, now_ms: u64) -> usize {
        let newer = Generation { began_ms: now_ms, ..Generation::default() };
        let older = std::mem::replace(&mut self.newer, newer);
        let dropped = std::mem::replace(&mut self.older, older);
        if dropped.until_ms > now_ms {
            self.forgot_ms = self.older.began_ms;
        }
        dropped.nonces.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIGNATURE: [u8; 32] = [7; 32];
    const OTHER: [u8; 32] = [8; 32];

    fn used<'a>(nonce: &'a str, signature: &'a [u8; 32], until_ms: u64) -> Use<'a> {
        let nonce = nonce.as_bytes();
        Use { advertiser: "acme", nonce, signature, signed_ms: 0, until_ms }
    }

    fn first(came: Option<Came>) -> Option<u64> {
        came.map(|came| came.first_ms)
    }

    #[test]
    fn a_nonce_belongs_to_the_signature_that_it_came_with() {
        let nonces = Nonces::new(1, 0);
        let allow =
            |used: &Use<'_>, keep: bool, now_ms: u64| first(nonces.allow(used, keep, now_ms));
        assert_eq!(allow(&used("n", &OTHER, 10), false, 0), Some(0), "only asked");
        assert_eq!(allow(&used("n", &SIGNATURE, 10), true, 1), Some(1));
        for keep in [true, false] {
            assert_eq!(allow(&used("n", &SIGNATURE, 10), keep, 2), Some(1), "sent again");
            assert_eq!(allow(&used("n", &OTHER, 10), keep, 2), None);
        }
        assert_eq!(allow(&used("m", &OTHER, 10), true, 3), Some(3));
        let elsewhere = Use { advertiser: "bolt", ..used("n", &OTHER, 10) };
        assert_eq!(allow(&elsewhere, true, 4), Some(4), "another advertiser's");
    }

    #[test]
    fn what_was_turned_away_came_not_but_its_nonce_is_used() {
        let nonces = Nonces::new(1, 0);
        let at = |now_ms| Use { signed_ms: 1, ..used("n", &SIGNATURE, now_ms + 9) };
        let allow = |now_ms| nonces.allow(&at(now_ms), true, now_ms).expect("the same signature");
        nonces.turned_away(allow(1));
        assert_eq!(nonces.allow(&used("n", &OTHER, 10), true, 2), None);
        assert_eq!(first(nonces.allow(&at(2), false, 2)), Some(2), "only asked");
        let [one, other] = [3, 4].map(allow);
        assert_eq!((one.first_ms, other.first_ms), (3, 3));
        nonces.turned_away(one);
        assert_eq!(allow(5).first_ms, 3, "the other may count");
        nonces.turned_away(other);
        assert_eq!(allow(6).first_ms, 3, "and that of 5");
        assert_eq!(kept(&nonces), 1);
        // Of one that was forgotten meanwhile another's use is not taken back.
        let nonces = Nonces::of_size(1, 0, 1);
        let early = nonces.allow(&used("a", &SIGNATURE, 99), true, 1).expect("new");
        for (nonce, now_ms) in [("b", 2), ("c", 3), ("a", 4)] {
            assert_eq!(
                first(nonces.allow(&used(nonce, &SIGNATURE, 99), true, now_ms)),
                Some(now_ms)
            );
        }
        nonces.turned_away(early);
        assert_eq!(first(nonces.allow(&used("a", &SIGNATURE, 99), false, 5)), Some(4));
    }

    #[test]
    fn what_was_signed_before_all_that_is_remembered_counts_by_its_signature() {
        let nonces = Nonces::of_size(1, 100, 3);
        let check = |signed_ms, nonce: &str, keep, now_ms, counts_ms| {
            let used = Use { signed_ms, ..used(nonce, &SIGNATURE, u64::MAX) };
            let came = nonces.allow(&used, keep, now_ms).expect("no other signature");
            assert_eq!(came.counts_ms, counts_ms, "{nonce} at {now_ms}");
        };
        for keep in [false, true, false, true] {
            check(99, "a", keep, 120, 99);
            check(100, "b", keep, 120, 120);
        }
        check(99, "a", true, 130, 99);
        check(100, "b", true, 130, 120);
        check(200, "c", true, 130, 130);
        // There is no room: all three are forgotten.
        check(100, "b", true, 140, 100);
        check(139, "d", true, 150, 139);
        check(140, "e", true, 151, 151);
    }

    #[test]
    fn a_nonce_is_remembered_until_its_signature_is_stale() {
        let nonces = Nonces::new(1, 0);
        let window = 10 * NONCE_GENERATION_MS;
        assert_eq!(first(nonces.allow(&used("n", &SIGNATURE, window), true, 0)), Some(0));
        let mut now = 0;
        while now < window {
            let other = used("n", &OTHER, now + window);
            assert_eq!(nonces.allow(&other, true, now), None, "at {now}");
            let again = used("n", &SIGNATURE, window);
            assert_eq!(
                first(nonces.allow(&again, true, now)),
                Some(0),
                "first used then, at {now}"
            );
            now += NONCE_GENERATION_MS / 3;
        }
        now += 4 * window;
        // Two turns of the generations.
        for later in [now, now + window] {
            let _ = nonces.allow(&used("m", &SIGNATURE, later), true, later);
        }
        assert!(
            nonces.allow(&used("n", &OTHER, now + 3 * window), true, now + 2 * window).is_some()
        );
    }

    fn kept(nonces: &Nonces) -> usize {
        let memories = nonces.memories.read().expect("sound");
        let kept = memories.values().map(|memory| memory.lock().expect("sound").len()).sum();
        assert_eq!(kept, nonces.total.load(Ordering::Relaxed), "the total is that of all");
        kept
    }

    #[test]
    fn memory_is_bounded_and_the_newest_stay() {
        let nonces = Nonces::new(1, 0);
        let all: Vec<_> = (0..NONCES_MAX + NONCES_MAX / 4).map(|n| n.to_string()).collect();
        for nonce in &all {
            assert!(nonces.allow(&used(nonce, &SIGNATURE, u64::MAX), true, 0).is_some());
        }
        assert!(kept(&nonces) <= NONCES_MAX);
        for nonce in all.iter().rev().take(GENERATION_MAX) {
            assert!(nonces.allow(&used(nonce, &OTHER, u64::MAX), false, 0).is_none(), "{nonce}");
        }
    }

    #[test]
    fn whoever_floods_pushes_out_nobody_elses() {
        let nonces = Nonces::of_size(1, 0, 1000);
        let of =
            |advertiser, nonce, signature| Use { advertiser, ..used(nonce, signature, u64::MAX) };
        let names: Vec<_> = (0..10_000).map(|n| n.to_string()).collect();
        for name in names.iter().take(200) {
            for quiet in ["bolt", "core"] {
                assert!(nonces.allow(&of(quiet, name, &SIGNATURE), true, 0).is_some());
            }
        }
        for name in &names {
            assert!(nonces.allow(&of("acme", name, &SIGNATURE), true, 1).is_some());
            assert!(nonces.total.load(Ordering::Relaxed) <= 1000);
        }
        for name in names.iter().take(200) {
            for quiet in ["bolt", "core"] {
                assert_eq!(
                    nonces.allow(&of(quiet, name, &OTHER), false, 2),
                    None,
                    "{quiet} {name}"
                );
            }
        }
        kept(&nonces);
    }

    #[test]
    fn an_advertiser_whose_nonces_have_run_out_takes_no_memory() {
        let nonces = Nonces::new(1, 0);
        let of = |advertiser, until_ms| Use { advertiser, ..used("n", &SIGNATURE, until_ms) };
        assert!(nonces.allow(&of("acme", 10), true, 0).is_some());
        assert!(nonces.allow(&of("bolt", 20), true, 0).is_some());
        assert!(nonces.allow(&of("core", 20), true, 15).is_some());
        assert_eq!(kept(&nonces), 2);
    }
}
