//! Clicks: at any rate for the numbers, or a counted pool for their IDs.

use super::{Judge, Requests, Tag, Workload, click_id_of, is_success};
use crate::answer::Answer;
use crate::books::Click;

/// Endless clicks with varied subs.
#[derive(Debug)]
pub struct Clicks {
    requests: Requests,
    judge: Judge,
    number: u64,
}

impl Clicks {
    /// Clicks numbered from `shard`'s own range on, so that threads do not repeat each other.
    pub fn new(requests: Requests, judge: Judge, shard: usize) -> Self {
        Self { requests, judge, number: (shard as u64) << 32 }
    }
}

impl Workload for Clicks {
    fn next(&mut self, out: &mut Vec<u8>) -> Option<Tag> {
        self.number += 1;
        self.requests.click(out, self.number, true);
        Some(self.number)
    }

    fn answered(&mut self, _: Tag, answer: &Answer<'_>) -> bool {
        answer.status == 302 || (self.judge == Judge::Lenient && is_success(answer))
    }

    fn lost(&mut self, _: Tag) {}
}

/// So many clicks, their IDs kept for postbacks.
#[derive(Debug)]
pub struct ClickPool {
    requests: Requests,
    left: u64,
    pub clicks: Vec<Click>,
}

impl ClickPool {
    /// Asks for `count` click IDs.
    pub fn new(requests: Requests, count: u64) -> Self {
        Self { requests, left: count, clicks: Vec::with_capacity(count as usize) }
    }
}

impl Workload for ClickPool {
    fn next(&mut self, out: &mut Vec<u8>) -> Option<Tag> {
        self.left = self.left.checked_sub(1)?;
        self.requests.click(out, self.left, false);
        Some(self.left)
    }

    fn answered(&mut self, tag: Tag, answer: &Answer<'_>) -> bool {
        let id = click_id_of(answer).filter(|_| is_success(answer));
        let place = self.requests.place(tag);
        self.clicks.extend(id.map(|id| Click { id, place }));
        id.is_some()
    }

    fn lost(&mut self, _: Tag) {}
}
