//! The whole way: clicks, sales for a share of them, retries, repeats at the same moment, and
//! everything out of order, as networks see it.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Line, Outcome, Requests, Sale, Tag, Workload, click_id_of, conversion_id_of};
use crate::answer::Answer;
use crate::books::{Book, Click};
use crate::text::{Random, ShortText};

/// Waiting postbacks beyond which no new click is made.
const WAITING_MAX: usize = 10_000;
/// Marks the tag of a postback; the rest is the transaction's number.
const POSTBACK: Tag = 1 << 63;

/// How often things happen, in percent.
#[derive(Clone, Copy, Debug)]
pub struct FunnelShares {
    /// Clicks that lead to a sale.
    pub converts: u32,
    /// Answered postbacks that are sent again later.
    pub retried: u32,
    /// Postbacks that are sent on two connections at the same moment.
    pub doubled: u32,
}

/// A postback that waits for its turn.
#[derive(Clone, Copy, Debug)]
enum Waiting {
    First { click: u32 },
    Again { transaction: u32 },
}

/// Clicks and postbacks of one thread, with the book of what was answered.
#[derive(Debug)]
pub struct Funnel {
    requests: Requests,
    shares: FunnelShares,
    random: Random,
    pub book: Book,
    /// Where accepted sales wait to be taken back.
    line: Option<Arc<Line>>,
    clicks_sent: u64,
    waiting: Vec<Waiting>,
    /// Second copies of postbacks that left just now.
    doubles: VecDeque<u32>,
}

impl Funnel {
    /// A funnel whose chances follow from `seed`.
    pub fn new(
        requests: Requests,
        run_id: &str,
        shard: usize,
        shares: FunnelShares,
        seed: u64,
        line: Option<Arc<Line>>,
    ) -> Self {
        Self {
            requests,
            shares,
            random: Random::new(seed.wrapping_add(shard as u64)),
            book: Book::new(run_id, shard, Vec::new()),
            line,
            clicks_sent: (shard as u64) << 32,
            waiting: Vec::new(),
            doubles: VecDeque::new(),
        }
    }

    fn take_waiting(&mut self) -> Option<Waiting> {
        if self.waiting.is_empty() {
            return None;
        }
        // Half of the turns while there is room; always when too many wait.
        let turn = self.waiting.len() >= WAITING_MAX || self.random.percent(50);
        let place = self.random.below(self.waiting.len());
        turn.then(|| self.waiting.swap_remove(place))
    }

    fn send(&mut self, out: &mut Vec<u8>, transaction: u32) -> Tag {
        let click = self.book.click(transaction);
        self.requests.sale(out, &click.id, self.book.prefix(), u64::from(transaction));
        POSTBACK | u64::from(transaction)
    }

    fn click_answered(&mut self, number: Tag, id: Option<ShortText>) -> bool {
        let Some(id) = id else { return false };
        if self.random.percent(self.shares.converts) {
            let place = self.requests.place(number);
            let click = self.book.add_click(Click { id, place });
            self.waiting.push(Waiting::First { click });
        }
        true
    }
}

impl Workload for Funnel {
    fn next(&mut self, out: &mut Vec<u8>) -> Option<Tag> {
        if let Some(transaction) = self.doubles.pop_front() {
            return Some(self.send(out, transaction));
        }
        match self.take_waiting() {
            Some(Waiting::First { click }) => {
                let transaction = self.book.open(click);
                if self.random.percent(self.shares.doubled) {
                    self.doubles.push_back(transaction);
                }
                Some(self.send(out, transaction))
            }
            Some(Waiting::Again { transaction }) => Some(self.send(out, transaction)),
            None => {
                self.clicks_sent += 1;
                self.requests.click(out, self.clicks_sent, true);
                Some(self.clicks_sent)
            }
        }
    }

    fn answered(&mut self, tag: Tag, answer: &Answer<'_>) -> bool {
        if tag & POSTBACK == 0 {
            return self.click_answered(tag, click_id_of(answer));
        }
        let transaction = (tag & !POSTBACK) as u32;
        let outcome = Outcome::of(answer);
        self.book.note(transaction, outcome, conversion_id_of(answer));
        if let (Some(line), Outcome::Accepted) = (&self.line, outcome) {
            line.offer(|| {
                let click = self.book.click(transaction).id;
                Sale { click, prefix: self.book.prefix().to_owned(), transaction }
            });
        }
        // A sender repeats what it was told to repeat, and sometimes what it was not.
        if outcome == Outcome::Unavailable || self.random.percent(self.shares.retried) {
            self.waiting.push(Waiting::Again { transaction });
        }
        matches!(outcome, Outcome::Accepted | Outcome::Duplicate)
    }

    fn lost(&mut self, tag: Tag) {
        if tag & POSTBACK != 0 {
            let transaction = (tag & !POSTBACK) as u32;
            self.book.lost(transaction);
            self.waiting.push(Waiting::Again { transaction });
        }
    }
}
