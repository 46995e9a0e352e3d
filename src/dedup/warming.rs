//! Conversions that change while the cache is being warmed by older readings of them.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::click_id::RecordId;
use crate::limits::CHANGES_WHILE_WARMING_MAX;

/// Which conversions were changed since the start, while the cache is still being warmed: what was
/// read of them may be old, or not durable yet.
pub struct Warming(Mutex<State>);

enum State {
    /// Changed conversions.
    Warming(HashSet<RecordId>),
    /// Too many have changed to be told apart.
    Spoiled,
    /// Nothing will be remembered any more.
    Warm,
}

impl Default for Warming {
    fn default() -> Self {
        Self(Mutex::new(State::Warming(HashSet::new())))
    }
}

impl Warming {
    /// Nothing that was read is waiting to be remembered.
    pub fn end(&self) {
        *self.lock() = State::Warm;
    }

    /// A conversion is about to change; to be said before the change can be read.
    pub fn changed(&self, conversion: RecordId) {
        let mut state = self.lock();
        if let State::Warming(changed) = &mut *state {
            changed.insert(conversion);
            if changed.len() > CHANGES_WHILE_WARMING_MAX {
                *state = State::Spoiled;
            }
        }
    }

    /// Remembers a conversion by `remember`, unless it may have changed. Under the lock, so that
    /// a change comes either before, and is seen here, or after, and memory follows it.
    pub fn unless_changed(&self, conversion: RecordId, remember: impl FnOnce()) {
        let state = self.lock();
        match &*state {
            State::Warming(changed) if !changed.contains(&conversion) => remember(),
            State::Warming(_) | State::Spoiled | State::Warm => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_remembered(warming: &Warming, conversion: RecordId) -> bool {
        let mut remembered = false;
        warming.unless_changed(conversion, || remembered = true);
        remembered
    }

    #[test]
    fn what_changes_while_it_is_read_is_not_remembered_as_it_was() {
        let warming = Warming::default();
        let id = |n: u128| RecordId::from_bytes(n.to_be_bytes());
        assert!(is_remembered(&warming, id(1)));
        warming.changed(id(1));
        assert!(!is_remembered(&warming, id(1)));
        assert!(is_remembered(&warming, id(2)));
        warming.end();
        assert!(!is_remembered(&warming, id(2)), "who comes now comes too late");
    }

    #[test]
    fn more_changes_than_are_kept_end_the_warming() {
        let warming = Warming::default();
        let id = |n: usize| RecordId::from_bytes((n as u128).to_be_bytes());
        (0..=CHANGES_WHILE_WARMING_MAX).for_each(|n| warming.changed(id(n)));
        assert!(!is_remembered(&warming, id(CHANGES_WHILE_WARMING_MAX + 1)));
    }
}
