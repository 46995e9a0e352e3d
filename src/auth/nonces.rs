//! What was signed lately, by nonce: the same nonce under another signature is refused.
//!
//! In memory only, and of a fixed size: two generations, the older of which is dropped when all
//! that is in it has run out, or when the newer one is full. What is dropped early, or by a
//! restart, can be sent again within its window; it is the same postback then, to the last
//! parameter, and counting once answers it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Mutex, PoisonError};

use xxhash_rust::xxh3::xxh3_128_with_seed;

use crate::limits::{NONCE_GENERATION_MS, NONCE_SHARDS, NONCES_MAX};

/// Nonces in one generation of one shard.
const GENERATION_MAX: usize = NONCES_MAX / NONCE_SHARDS / 2;

/// Remembers nonces.
pub struct Nonces {
    seed: u64,
    shards: Vec<Mutex<Shard>>,
}

/// From a nonce to the start of the signature that came with it.
#[derive(Default)]
struct Generation {
    signatures: HashMap<u128, u64>,
    began_ms: u64,
    /// When all of it has run out.
    until_ms: u64,
}

#[derive(Default)]
struct Shard {
    newer: Generation,
    older: Generation,
}

/// One use of a nonce.
#[derive(Clone, Copy, Debug)]
pub struct Use<'a> {
    /// Whose it is.
    pub advertiser: &'a str,
    /// The nonce.
    pub nonce: &'a str,
    /// The signature, which has been verified.
    pub signature: &'a [u8; 32],
    /// When its time of signing becomes stale, Unix milliseconds.
    pub until_ms: u64,
}

impl Nonces {
    /// Empty; `seed` keeps senders from choosing what collides.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { seed, shards: (0..NONCE_SHARDS).map(|_| Mutex::default()).collect() }
    }

    /// Whether the nonce is new, or known with this signature. It is remembered if `keep` is set.
    #[must_use]
    pub fn allow(&self, used: &Use<'_>, keep: bool, now_ms: u64) -> bool {
        let Use { advertiser, nonce, signature, until_ms } = *used;
        let text = [advertiser.as_bytes(), b"\0", nonce.as_bytes()].concat();
        let key = xxh3_128_with_seed(&text, self.seed);
        let [a, b, c, d, e, f, g, h, ..] = *signature;
        let signature = u64::from_ne_bytes([a, b, c, d, e, f, g, h]);
        let shard = &self.shards[(key >> 64) as usize % NONCE_SHARDS];
        // A shard is sound after any panic: nothing in it spans two steps.
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        shard.age(now_ms);
        if let Some(known) = shard.older.signatures.get(&key) {
            return *known == signature;
        }
        if !keep {
            return shard.newer.signatures.get(&key).is_none_or(|known| *known == signature);
        }
        shard.newer.until_ms = shard.newer.until_ms.max(until_ms);
        match shard.newer.signatures.entry(key) {
            Entry::Occupied(known) => *known.get() == signature,
            Entry::Vacant(free) => {
                free.insert(signature);
                true
            }
        }
    }
}

impl Shard {
    /// Drops the older generation if it has run out, or if there is no room.
    fn age(&mut self, now_ms: u64) {
        let is_old = self.newer.began_ms.saturating_add(NONCE_GENERATION_MS) <= now_ms;
        let is_full = self.newer.signatures.len() >= GENERATION_MAX;
        if is_full || (is_old && self.older.until_ms <= now_ms) {
            let newer = Generation { began_ms: now_ms, ..Generation::default() };
            self.older = std::mem::replace(&mut self.newer, newer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIGNATURE: [u8; 32] = [7; 32];
    const OTHER: [u8; 32] = [8; 32];

    fn used<'a>(nonce: &'a str, signature: &'a [u8; 32], until_ms: u64) -> Use<'a> {
        Use { advertiser: "acme", nonce, signature, until_ms }
    }

    #[test]
    fn a_nonce_belongs_to_the_signature_that_it_came_with() {
        let nonces = Nonces::new(1);
        assert!(nonces.allow(&used("n", &OTHER, 10), false, 0), "only asked");
        assert!(nonces.allow(&used("n", &SIGNATURE, 10), true, 0));
        assert!(nonces.allow(&used("n", &SIGNATURE, 10), true, 1), "sent again");
        for keep in [true, false] {
            assert!(!nonces.allow(&used("n", &OTHER, 10), keep, 1));
        }
        assert!(nonces.allow(&used("m", &OTHER, 10), true, 1));
        let elsewhere = Use { advertiser: "bolt", ..used("n", &OTHER, 10) };
        assert!(nonces.allow(&elsewhere, true, 1), "another advertiser's");
    }

    #[test]
    fn a_nonce_is_remembered_until_its_signature_is_stale() {
        let nonces = Nonces::new(1);
        let window = 10 * NONCE_GENERATION_MS;
        assert!(nonces.allow(&used("n", &SIGNATURE, window), true, 0));
        let mut now = 0;
        while now < window {
            assert!(!nonces.allow(&used("n", &OTHER, now + window), true, now), "at {now}");
            now += NONCE_GENERATION_MS / 3;
        }
        now += 4 * window;
        // Two turns of the generations.
        for later in [now, now + window] {
            let _ = nonces.allow(&used("m", &SIGNATURE, later), true, later);
        }
        assert!(nonces.allow(&used("n", &OTHER, now + 3 * window), true, now + 2 * window));
    }

    #[test]
    fn memory_is_bounded_and_the_newest_stay() {
        let nonces = Nonces::new(1);
        let all: Vec<_> = (0..NONCES_MAX + NONCES_MAX / 4).map(|n| n.to_string()).collect();
        for nonce in &all {
            assert!(nonces.allow(&used(nonce, &SIGNATURE, u64::MAX), true, 0));
        }
        let kept = |shard: &Mutex<Shard>| {
            let shard = shard.lock().expect("sound");
            shard.newer.signatures.len() + shard.older.signatures.len()
        };
        assert!(nonces.shards.iter().map(kept).sum::<usize>() <= NONCES_MAX);
        for nonce in all.iter().rev().take(NONCES_MAX / 4) {
            assert!(!nonces.allow(&used(nonce, &OTHER, u64::MAX), false, 0), "{nonce}");
        }
    }
}
