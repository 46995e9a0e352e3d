// Hot path: no allocation a request; one clock reading an answer.
//! The load loop: a single thread, one epoll, as many connections as asked for.
//!
//! The generator shares its machine with the server under test, so what it burns is missing
//! there. Epoll directly, without an async runtime, makes a request three system calls at most
//! (a share of `epoll_pwait2`, `read`, `write`), and its timeouts are exact to microseconds
//! where a runtime's timer wheel counts milliseconds, which an open loop would show as latency.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::thread;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

use crate::connection::Connection;
use crate::pace::{Pace, Schedule};
use crate::scenario::{Tag, Workload};
use crate::tally::Tally;
use crate::tls::TlsClient;

/// After the end, answers still under way are awaited for this long.
const DRAIN_NS: u64 = 5_000_000_000;
/// A refused connection is tried again this often: a restarting server is found soon.
const RETRY_NS: u64 = 50_000_000;
/// Longest sleep, so that the ends above are noticed.
const SLEEP_NS_MAX: u64 = 10_000_000;
/// Arrivals that may wait for a free connection, a second's worth at full speed.
const BACKLOG_MAX: u64 = 100_000;
/// How exactly sleeps end; the kernel's default of 50 µs would be counted as latency.
const TIMER_SLACK_NS: NonZeroU64 = NonZeroU64::new(1_000).expect("not zero");

/// How to load one address.
#[derive(Clone, Debug)]
pub struct Plan {
    pub address: SocketAddr,
    /// Whom to trust; `None`: clear text.
    pub tls: Option<TlsClient>,
    pub connections: usize,
    pub threads: usize,
    pub pace: Pace,
    pub warmup: Duration,
    pub measured: Duration,
}

impl Plan {
    /// This thread's part: connections and rate divided, the remainder to the first threads.
    fn share(&self, index: usize) -> Self {
        let part = |whole: u64| {
            let threads = self.threads as u64;
            whole / threads + u64::from((index as u64) < whole % threads)
        };
        let pace = match self.pace {
            Pace::Closed => Pace::Closed,
            Pace::Open { rate } => {
                Pace::Open { rate: NonZeroU64::new(part(rate.get())).unwrap_or(NonZeroU64::MIN) }
            }
        };
        Self {
            connections: part(self.connections as u64).max(1) as usize,
            threads: 1,
            pace,
            ..self.clone()
        }
    }
}

/// Runs one workload a thread until the time is over or all of them are finished.
pub fn drive<W: Workload + Send>(plan: &Plan, workloads: &mut [W]) -> io::Result<Tally> {
    let plan = Plan { threads: workloads.len(), ..plan.clone() };
    let tallies: Vec<io::Result<Tally>> = thread::scope(|scope| {
        let start = |(index, workload)| {
            let part = plan.share(index);
            scope.spawn(move || Loop::new(part, workload)?.run())
        };
        let running: Vec<_> = workloads.iter_mut().enumerate().map(start).collect();
        running.into_iter().map(|thread| thread.join().expect("a load thread panicked")).collect()
    });
    let mut sum: Option<Tally> = None;
    for tally in tallies {
        let tally = tally?;
        match &mut sum {
            Some(sum) => sum.merge(&tally),
            None => sum = Some(tally),
        }
    }
    sum.ok_or_else(|| io::Error::other("no workload to run"))
}

/// What a connection is doing.
#[derive(Clone, Copy, Debug)]
enum Slot {
    Idle,
    /// Waiting for the answer of a request due at `since_ns`.
    Busy {
        tag: Tag,
        since_ns: u64,
    },
    /// The server did not take a connection; tried again later.
    Down,
}

struct Loop<'w, W> {
    plan: Plan,
    workload: &'w mut W,
    epoll: OwnedFd,
    connections: Vec<Connection>,
    slots: Vec<Slot>,
    /// Idle connections, longest idle first, so that sends spread over all of them.
    idle: VecDeque<usize>,
    down: Vec<usize>,
    busy: usize,
    finished: bool,
    schedule: Option<Schedule>,
    begin: Instant,
    warmup_ns: u64,
    end_ns: u64,
    retry_ns: u64,
    tally: Tally,
}

impl<'w, W: Workload> Loop<'w, W> {
    fn new(plan: Plan, workload: &'w mut W) -> io::Result<Self> {
        // Without it sleeps end up to 50 µs late; that is a loss of precision, not an error.
        let _ = rustix::thread::set_current_timer_slack(Some(TIMER_SLACK_NS));
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut connections = Vec::with_capacity(plan.connections);
        for index in 0..plan.connections {
            let connection = Connection::open(plan.address, plan.tls.as_ref())?;
            connection.register(&epoll, index as u64)?;
            connections.push(connection);
        }
        let warmup_ns = plan.warmup.as_nanos() as u64;
        let end_ns = warmup_ns + plan.measured.as_nanos() as u64;
        let schedule = match plan.pace {
            Pace::Closed => None,
            Pace::Open { rate } => Some(Schedule::new(rate, end_ns, BACKLOG_MAX)),
        };
        Ok(Self {
            slots: vec![Slot::Idle; plan.connections],
            idle: (0..plan.connections).collect(),
            down: Vec::new(),
            busy: 0,
            finished: false,
            schedule,
            begin: Instant::now(),
            warmup_ns,
            end_ns,
            retry_ns: 0,
            tally: Tally::new(plan.measured),
            plan,
            workload,
            epoll,
            connections,
        })
    }

    fn run(mut self) -> io::Result<Tally> {
        let mut events: Vec<epoll::Event> = Vec::with_capacity(self.plan.connections);
        self.begin = Instant::now();
        let mut now = 0;
        while !self.is_over(now) {
            self.fill(now);
            let timeout = timespec(self.sleep_ns(now));
            match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&timeout)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            now = self.now_ns();
            for event in events.drain(..) {
                now = self.ready(event.data.u64() as usize, now);
            }
            self.revive(now);
        }
        self.close_books(now);
        Ok(self.tally)
    }

    fn now_ns(&self) -> u64 {
        self.begin.elapsed().as_nanos() as u64
    }

    /// Nothing left to wait for, or waited long enough.
    fn is_over(&self, now: u64) -> bool {
        let sending = now < self.end_ns && !self.finished;
        let draining = self.busy > 0 && now < self.end_ns + DRAIN_NS;
        !sending && !draining
    }

    fn sleep_ns(&self, now: u64) -> u64 {
        match &self.schedule {
            Some(schedule) if !self.idle.is_empty() => {
                schedule.wait_ns(now).unwrap_or(SLEEP_NS_MAX).min(SLEEP_NS_MAX)
            }
            _ => SLEEP_NS_MAX,
        }
    }

    /// Gives idle connections what is due.
    fn fill(&mut self, now: u64) {
        if now >= self.end_ns && self.schedule.is_none() {
            return;
        }
        if let Some(schedule) = &mut self.schedule {
            schedule.shed(now);
        }
        while !self.finished && !self.idle.is_empty() {
            let since_ns = match &mut self.schedule {
                Some(schedule) => match schedule.take(now) {
                    Some(due) => due,
                    None => return,
                },
                None => now,
            };
            let Some(index) = self.idle.pop_front() else { return };
            if !self.start(index, since_ns) {
                return;
            }
        }
    }

    /// Sends the next request on a connection; false if there is none to send.
    fn start(&mut self, index: usize, since_ns: u64) -> bool {
        let connection = &mut self.connections[index];
        match self.workload.next(connection.request_buffer()) {
            Some(tag) => {
                self.slots[index] = Slot::Busy { tag, since_ns };
                self.busy += 1;
                if connection.send(&self.epoll, index as u64).is_err() {
                    self.fail(index);
                }
                true
            }
            None => {
                self.idle.push_back(index);
                self.finished = self.workload.is_finished();
                if !self.finished && self.is_measured(since_ns) {
                    self.tally.unused += 1;
                }
                false
            }
        }
    }

    /// Serves one readiness event; answers the time afterwards.
    fn ready(&mut self, index: usize, now: u64) -> u64 {
        let connection = &mut self.connections[index];
        if connection.wants_room() && connection.send(&self.epoll, index as u64).is_err() {
            self.fail(index);
            return now;
        }
        match connection.receive() {
            Ok(None) => now,
            Ok(Some(frame)) => {
                let now = self.begin.elapsed().as_nanos() as u64;
                let Slot::Busy { tag, since_ns } = self.slots[index] else {
                    // An answer nobody asked for: this connection cannot be trusted any more.
                    self.fail(index);
                    return now;
                };
                let expected = self.workload.answered(tag, &connection.answer(&frame));
                let consumed = connection.consume(&frame);
                self.slots[index] = Slot::Idle;
                self.busy -= 1;
                self.count(frame.status, expected, since_ns, now);
                if consumed.is_err() || !frame.keep_alive {
                    self.fail(index);
                    return now;
                }
                if self.schedule.is_none() {
                    if now >= self.end_ns || self.finished || !self.start(index, now) {
                        self.settle(index);
                    }
                } else {
                    self.idle.push_back(index);
                    self.fill(now);
                }
                now
            }
            Err(_) => {
                self.fail(index);
                now
            }
        }
    }

    /// A closed-loop connection that sends nothing next is idle exactly once.
    fn settle(&mut self, index: usize) {
        if self.idle.back() != Some(&index) {
            self.idle.push_back(index);
        }
    }

    /// A closed loop measures what was answered in the window, an open loop what was due in it.
    fn count(&mut self, status: u16, expected: bool, since_ns: u64, now: u64) {
        let moment = if self.schedule.is_some() { since_ns } else { now };
        if self.is_measured(moment) {
            self.tally.answered(status, expected, now.saturating_sub(since_ns));
        }
    }

    fn is_measured(&self, moment: u64) -> bool {
        (self.warmup_ns..self.end_ns).contains(&moment)
    }

    /// A connection died: whatever was on its way is lost, and a new one is tried.
    fn fail(&mut self, index: usize) {
        match self.slots[index] {
            Slot::Busy { tag, .. } => {
                self.tally.lost += 1;
                self.busy -= 1;
                self.workload.lost(tag);
            }
            Slot::Idle => self.idle.retain(|idle| *idle != index),
            Slot::Down => return,
        }
        self.reconnect(index);
    }

    fn reconnect(&mut self, index: usize) {
        self.tally.reconnects += 1;
        let connection = &mut self.connections[index];
        let Plan { address, tls, .. } = &self.plan;
        if connection.reopen(&self.epoll, *address, tls.as_ref(), index as u64).is_ok() {
            self.slots[index] = Slot::Idle;
            self.idle.push_back(index);
        } else {
            self.slots[index] = Slot::Down;
            self.down.push(index);
        }
    }

    /// Tries the connections that were refused again, one after another until one fails.
    fn revive(&mut self, now: u64) {
        if self.down.is_empty() || now < self.retry_ns {
            return;
        }
        self.retry_ns = now + RETRY_NS;
        let before = self.down.len();
        for _ in 0..before {
            let Some(index) = self.down.pop() else { return };
            let still_down = self.down.len();
            self.reconnect(index);
            if self.down.len() > still_down {
                return;
            }
        }
    }

    /// What was never answered is lost; it may or may not have happened.
    fn close_books(&mut self, now: u64) {
        for slot in &self.slots {
            if let Slot::Busy { tag, .. } = slot {
                self.tally.lost += 1;
                self.workload.lost(*tag);
            }
        }
        self.tally.dropped = self.schedule.as_ref().map_or(0, Schedule::dropped);
        if now < self.end_ns {
            self.tally.window = Duration::from_nanos(now.saturating_sub(self.warmup_ns).max(1));
        }
    }
}

fn timespec(ns: u64) -> Timespec {
    Timespec { tv_sec: (ns / 1_000_000_000) as i64, tv_nsec: (ns % 1_000_000_000) as _ }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::answer::Answer;
    use crate::catalog::Catalog;
    use crate::fake::{self, Fault};
    use crate::scenario::{Clicks, Judge, Requests};

    /// Clicks, one at every other question.
    struct Halting {
        clicks: Clicks,
        asked: u32,
    }

    impl Workload for Halting {
        fn next(&mut self, out: &mut Vec<u8>) -> Option<Tag> {
            self.asked += 1;
            if self.asked.is_multiple_of(2) { self.clicks.next(out) } else { None }
        }

        fn is_finished(&self) -> bool {
            false
        }

        fn answered(&mut self, tag: Tag, answer: &Answer<'_>) -> bool {
            self.clicks.answered(tag, answer)
        }

        fn lost(&mut self, tag: Tag) {
            self.clicks.lost(tag);
        }
    }

    #[test]
    fn who_has_nothing_to_send_now_is_asked_again_at_the_next_arrival() {
        let address = fake::start(Fault::None, Catalog::of(1, 1)).expect("a free port");
        let requests = Requests::new("tracker.test", Arc::new(Catalog::of(1, 1)));
        let plan = Plan {
            address,
            tls: None,
            connections: 1,
            threads: 1,
            pace: Pace::Open { rate: NonZeroU64::new(100).expect("a rate") },
            warmup: Duration::from_millis(100),
            measured: Duration::from_millis(200),
        };
        let clicks = Clicks::new(requests, Judge::Strict, 0);
        let tally = drive(&plan, &mut [Halting { clicks, asked: 0 }]).expect("a run");
        // The last arrivals are missed if the machine has something else to do at the end.
        let Tally { expected, unused, .. } = tally;
        assert!((15..=20).contains(&(expected + unused)), "{tally:?}");
        assert!(expected.abs_diff(unused) <= 1, "{tally:?}");
    }
}
