//! Changes: sales taken back some time after they were accepted, as advertisers do all day.

use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::{Judge, Outcome, Requests, Tag, Workload, is_success};
use crate::answer::Answer;
use crate::text::ShortText;

/// How old sales are when they are taken back: old enough to have their index rows filed.
const USUAL_AFTER: Duration = Duration::from_secs(6);

/// How many sales are taken back, and when.
#[derive(Clone, Copy, Debug)]
pub struct ChangeOptions {
    /// So many a second.
    pub rate: NonZeroU64,
    /// How old a sale is by then, about.
    pub after: Duration,
}

impl ChangeOptions {
    /// So many a second, unless that is 0, of sales of the usual age.
    pub fn usual(per_second: u64) -> Option<Self> {
        NonZeroU64::new(per_second).map(|rate| Self { rate, after: USUAL_AFTER })
    }
}

/// An accepted sale, as far as its sender needs it again.
#[derive(Debug)]
pub struct Sale {
    pub click: ShortText,
    /// Of its book.
    pub prefix: String,
    pub transaction: u32,
}

/// Accepted sales that wait to be taken back, as many as are in the time for which they wait. One
/// takes the place of each that leaves, so it is that old when its own turn comes, without a clock.
#[derive(Debug)]
pub struct Line {
    options: ChangeOptions,
    length: usize,
    begun: OnceLock<Instant>,
    has_room: AtomicBool,
    waiting: Mutex<VecDeque<Sale>>,
}

impl Line {
    /// An empty line.
    pub fn new(options: ChangeOptions) -> Self {
        let length = options.rate.get() as f64 * options.after.as_secs_f64();
        let length = (length as usize).max(1);
        Self {
            options,
            length,
            begun: OnceLock::new(),
            has_room: AtomicBool::new(true),
            waiting: Mutex::default(),
        }
    }

    /// How many leave it a second.
    pub const fn rate(&self) -> NonZeroU64 {
        self.options.rate
    }

    /// How long the first sale has to wait still. The first question is asked when sales begin.
    pub fn delay(&self) -> Duration {
        let now = Instant::now();
        let begun = *self.begun.get_or_init(|| now);
        self.options.after.saturating_sub(now.duration_since(begun))
    }

    /// Takes a sale in if there is room, which there hardly ever is.
    pub fn offer(&self, sale: impl FnOnce() -> Sale) {
        if !self.has_room.load(Ordering::Relaxed) {
            return;
        }
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() < self.length {
            waiting.push_back(sale());
        }
        self.has_room.store(waiting.len() < self.length, Ordering::Relaxed);
    }

    /// The sale that has waited longest.
    fn take(&self) -> Option<Sale> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let sale = waiting.pop_front();
        self.has_room.store(true, Ordering::Relaxed);
        sale
    }
}

/// Reversals of what is in the line, whenever there is something.
#[derive(Debug)]
pub struct Changes {
    requests: Requests,
    judge: Judge,
    line: Arc<Line>,
    /// What was taken back, and what the answer said; unless it came, [`Outcome::Other`].
    pub sent: Vec<(Sale, Outcome)>,
}

impl Changes {
    /// Nothing taken back yet.
    pub const fn new(requests: Requests, judge: Judge, line: Arc<Line>) -> Self {
        Self { requests, judge, line, sent: Vec::new() }
    }
}

impl Workload for Changes {
    fn next(&mut self, out: &mut Vec<u8>) -> Option<Tag> {
        let sale = self.line.take()?;
        self.requests.reversal(out, &sale.click, &sale.prefix, sale.transaction.into());
        self.sent.push((sale, Outcome::Other));
        Some(self.sent.len() as Tag - 1)
    }

    fn is_finished(&self) -> bool {
        false
    }

    fn answered(&mut self, tag: Tag, answer: &Answer<'_>) -> bool {
        let outcome = Outcome::of(answer);
        self.sent[tag as usize].1 = outcome;
        match self.judge {
            Judge::Strict => outcome == Outcome::Updated,
            Judge::Lenient => is_success(answer),
        }
    }

    fn lost(&mut self, _: Tag) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sale_waits_until_as_many_as_the_line_is_long_have_left_before_it() {
        let rate = NonZeroU64::new(10).expect("a rate");
        let line = Line::new(ChangeOptions { rate, after: Duration::from_millis(300) });
        let click = ShortText::new(b"abc").expect("short");
        let mut accepted = 0;
        let mut left = Vec::new();
        for _ in 0..5 {
            // Far more sales are accepted than taken back.
            for _ in 0..100 {
                let sale = Sale { click, prefix: String::new(), transaction: accepted };
                line.offer(|| sale);
                accepted += 1;
            }
            left.extend(line.take().map(|sale| sale.transaction));
        }
        assert_eq!(left, [0, 1, 2, 100, 200]);
        assert_eq!(std::iter::from_fn(|| line.take()).count(), 2);
    }
}
