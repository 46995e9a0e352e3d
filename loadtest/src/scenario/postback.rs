//! Postbacks: each its own transaction, repeats of known ones, or with a forged click ID.

use std::sync::Arc;

use super::{Judge, Line, Outcome, Requests, Sale, Tag, Workload, conversion_id_of, is_success};
use crate::answer::Answer;
use crate::books::{Book, Click};

/// What a thread's postbacks are made of.
#[derive(Clone, Debug)]
pub struct PostbackOptions {
    pub requests: Requests,
    pub judge: Judge,
    /// Clicks, used in turn; never empty.
    pub pool: Arc<[Click]>,
    /// Part of every transaction ID, so that runs do not collide.
    pub run_id: String,
    pub shard: usize,
    /// Whether every answer is kept for the book check.
    pub keep_books: bool,
    /// Where accepted ones wait to be taken back.
    pub line: Option<Arc<Line>>,
}

/// Sales with distinct transaction IDs, and after a limit only repeats of them.
#[derive(Debug)]
pub struct Postbacks {
    options: PostbackOptions,
    pub book: Book,
    sent: u64,
    /// Distinct transactions; beyond them the first ones come again.
    distinct_max: u64,
    /// Requests in all.
    sent_max: u64,
}

impl Postbacks {
    /// Endless distinct transactions.
    pub fn distinct(options: PostbackOptions) -> Self {
        let book = Book::new(&options.run_id, options.shard, options.pool.to_vec());
        Self { options, book, sent: 0, distinct_max: u64::MAX, sent_max: u64::MAX }
    }

    /// `count` transactions, once each: the originals of later repeats.
    pub fn originals(options: PostbackOptions, count: u64) -> Self {
        Self { distinct_max: count, sent_max: count, ..Self::distinct(options) }
    }

    /// Endless repeats of the originals, in their order.
    #[must_use]
    pub fn repeating(self) -> Self {
        Self { sent_max: u64::MAX, ..self }
    }

    fn click_of(&self, number: u64) -> usize {
        (number as usize).wrapping_mul(self.options.shard + 1) % self.options.pool.len()
    }

    fn wanted(&self, tag: Tag) -> Outcome {
        if tag < self.distinct_max { Outcome::Accepted } else { Outcome::Duplicate }
    }
}

impl Workload for Postbacks {
    fn next(&mut self, out: &mut Vec<u8>) -> Option<Tag> {
        if self.sent == self.sent_max {
            return None;
        }
        let tag = self.sent;
        self.sent += 1;
        let number = tag % self.distinct_max;
        let click = self.click_of(number);
        if self.options.keep_books && tag < self.distinct_max {
            self.book.open(click as u32);
        }
        let prefix = self.book.prefix();
        self.options.requests.sale(out, &self.options.pool[click].id, prefix, number);
        Some(tag)
    }

    fn answered(&mut self, tag: Tag, answer: &Answer<'_>) -> bool {
        let outcome = Outcome::of(answer);
        if self.options.keep_books {
            self.book.note((tag % self.distinct_max) as u32, outcome, conversion_id_of(answer));
        }
        if let (Some(line), Outcome::Accepted) = (&self.options.line, outcome) {
            line.offer(|| {
                let click = self.options.pool[self.click_of(tag)].id;
                let prefix = self.book.prefix().to_owned();
                Sale { click, prefix, transaction: tag as u32 }
            });
        }
        match self.options.judge {
            Judge::Strict => outcome == self.wanted(tag),
            Judge::Lenient => is_success(answer),
        }
    }

    fn lost(&mut self, tag: Tag) {
        if self.options.keep_books {
            self.book.lost((tag % self.distinct_max) as u32);
        }
    }
}

/// Endless sales whose click IDs carry a flipped character in the MAC.
#[derive(Debug)]
pub struct Forged {
    options: PostbackOptions,
    prefix: String,
    sent: u64,
}

impl Forged {
    /// Flips every click ID of the pool.
    pub fn new(mut options: PostbackOptions) -> Self {
        let flipped = |click: &Click| Click { id: click.id.with_last_flipped(), ..*click };
        options.pool = options.pool.iter().map(flipped).collect();
        let prefix = format!("{}-f{}-", options.run_id, options.shard);
        Self { options, prefix, sent: 0 }
    }
}

impl Workload for Forged {
    fn next(&mut self, out: &mut Vec<u8>) -> Option<Tag> {
        self.sent += 1;
        let click = &self.options.pool[self.sent as usize % self.options.pool.len()];
        self.options.requests.sale(out, &click.id, &self.prefix, self.sent);
        Some(self.sent)
    }

    fn answered(&mut self, _: Tag, answer: &Answer<'_>) -> bool {
        match self.options.judge {
            Judge::Strict => answer.json_text(b"\"reason\":\"") == Some(b"forged_click_id"),
            Judge::Lenient => is_success(answer),
        }
    }

    fn lost(&mut self, _: Tag) {}
}
