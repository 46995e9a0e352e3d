//! A simulation of clients, claims, writer, crash and restart against a simple model.
//!
//! Everything runs on one thread and every choice comes from a seed, so a failure is repeated by
//! its number. The parts are the server's own: [`Postbacks`] with catalog, click IDs, claim cache
//! and [`Store`]; only the engine is a [`disk::Disk`] in memory, and the writer's two stages, the
//! readers, the filing of index rows, the counting and the clients' futures are driven by hand, in any order. Clients send new postbacks,
//! the same ones again or at the same time, and hang up at any await; the clock steps both ways;
//! reads miss memory or fail, writes and fsyncs fail; the process ends at any moment and starts
//! again on what was synced and a random prefix of what was only appended.
//!
//! What must hold (`books.rs`, `life.rs`):
//!
//! - whatever a client was told with a 2xx, as a new conversion or as a duplicate, is durable at
//!   that moment and in every later life;
//! - index rows are those of durable conversions, and after a start no conversion lacks them;
//! - the ledger has the postings of durable steps, each once, and after a start all of them;
//! - a conversion and each of its steps that a postback made are on the disk with the postback as
//!   received, or neither is (`inbound.rs`);
//! - a key has one conversion, or several that were received its window apart, judged at once or
//!   refused first and judged again, in any order; nobody is told that something is the same which
//!   was received further apart; the dedupe entries, the conversions and the index rows lead to each
//!   other;
//! - who sends an accepted postback again is told of the same conversion;
//! - a customer is bound to one click, or to several that lie its window apart, and a postback that
//!   names the customer alone goes there;
//! - a history that somebody was told of stays the beginning of the conversion's history, goes
//!   along the status machine, and books what the amount is worth while it is approved, never less
//!   than nothing; memory says the status that the disk has;
//! - a refund and the step it makes in its conversion's history are on the disk, or neither is; none
//!   that may take back any sale of its click is refused while one is left;
//! - after a failed write or fsync everybody gets `unavailable`, nothing is written any more, and
//!   nothing in memory vouches for what was lost;
//! - the sums that reports are made of, with what is still to be added to them, are a count of all
//!   clicks and conversions, at any moment and after every crash;
//! - what earns another currency is in the network's by the rate that is pinned, rounded once, or
//!   is flagged until its rate comes; its postings come to that, whatever is taken back in parts;
//! - caps are never exceeded by what is on the disk, and nothing goes unpaid without a full cap,
//!   whatever becomes of statuses and amounts; in total also when retention lets go of conversions
//!   (`totals.rs`);
//! - what a fraud rule of clicks rejects is rejected, however quickly it comes after its click, and
//!   no advertiser undoes that;
//! - what an erasure that has ended was to erase is erased, in every later life, and nothing else
//!   of it has changed: whoever sends the erased texts again is answered as before, money and
//!   customers stay where they were, and the sums by `sub1` are those of the clicks that are left
//!   (`erased.rs`);
//! - when the writer has run dry, no future waits, no claim is pending, every ticket is settled;
//! - offers and affiliates keep their numbers; no ID is minted twice.
//!
//! What it cannot see: a race within one call, such as the order of steps in settling a claim,
//! since here a call is one step.
//!
//! What is durable after any step is what a power cut would leave then, so all that is asked of it
//! after a crash is asked of every 64th seed after every step; with `POSTBACKD_SIM_AUDIT=1` of all.
//!
//! `POSTBACKD_SIM_SEEDS=1000000` runs more seeds, `POSTBACKD_SIM_SEED=7` repeats one.
//!
//! [`Postbacks`]: postbackd::postback::Postbacks
//! [`Store`]: postbackd::store::Store

mod books;
mod caps;
mod counts;
mod disk;
mod erased;
mod inbound;
mod life;
mod rng;
mod totals;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use postbackd::catalog::{self, NetworkDefaults};
use postbackd::click_id::{ClickId, RecordId};
use postbackd::metrics::Metrics;
use postbackd::model::currency::Currency;
use postbackd::model::period::Day;
use postbackd::model::rate::Rate;
use postbackd::model::status::Status;
use postbackd::rates::{DayRates, Market, Rates};
use postbackd::store::keys::Subject;
use postbackd::store::{Store, Unobserved};

use books::{Books, CATALOG, CUSTOMERS, EVENTS, OFFERS, RATES, Request, WINDOW_MS, customer_claim};
use disk::{Disk, Faults, Tables};
use life::{Life, Setup};
use rng::Rng;

/// Seeds of a default run: four seconds on an idle core.
const SEEDS: u64 = 20_000;
const LIVES_MAX: usize = 4;
const STEPS_MAX: usize = 150;
/// One seed in so many has its disk looked at after every step.
const LOOKED_AT: u64 = 64;

#[test]
fn no_conversion_is_lost_or_counted_twice() {
    let setup = setup();
    let seeds = match (number("POSTBACKD_SIM_SEED"), number("POSTBACKD_SIM_SEEDS")) {
        (Some(seed), _) => seed..=seed,
        (None, seeds) => 1..=seeds.unwrap_or(SEEDS),
    };
    let looks_at_all = number("POSTBACKD_SIM_AUDIT").is_some_and(|number| number > 0);
    for seed in seeds {
        let looks = looks_at_all || seed.is_multiple_of(LOOKED_AT);
        let outcome = catch_unwind(AssertUnwindSafe(|| World::new(seed).run(&setup, looks)));
        if let Err(panic) = outcome {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("?");
            panic!("seed {seed}: {text}\nrepeat it with POSTBACKD_SIM_SEED={seed}");
        }
    }
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} must be a number, not {text:?}")))
}

/// The catalog with the numbers that a first start gives, and the metrics nobody reads.
fn setup() -> Setup {
    let defaults = NetworkDefaults { currency: Currency::USD, time_zone: jiff::tz::TimeZone::UTC };
    let (checked, _) = catalog::parse(CATALOG, "catalog.toml", &defaults).expect("a sound catalog");
    let disk = Arc::new(Disk::new(Tables::default(), Rng::new(0)));
    let (store, _) = Store::on(disk, 0, [0; 32], Arc::new(Unobserved)).expect("the store opens");
    let numbers = life::assign_numbers(&Arc::new(store));
    Setup {
        catalog: Arc::new(checked.into_catalog(1, &numbers).expect("every number")),
        metrics: Arc::new(Metrics::new().expect("sound buckets")),
    }
}

/// One seed's run: the disk and the books outlive the lives.
struct World {
    rng: Rng,
    books: Books,
    now_ms: u64,
    clicks: Vec<(&'static str, ClickId)>,
    sent: Vec<Request>,
    /// Refused postbacks and when they were received, to be judged again.
    refused: Vec<(Request, u64)>,
    /// Clicks that no postback names.
    stragglers: Vec<RecordId>,
    /// The rates, which no crash takes away.
    market: Market,
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            rng: Rng::new(seed),
            books: Books::default(),
            now_ms: 1_700_000_000_000,
            clicks: Vec::new(),
            sent: Vec::new(),
            refused: Vec::new(),
            stragglers: Vec::new(),
            market: Market::closed(Currency::USD),
        }
    }

    /// Its lives one after the other; with a look at the disk after every step, or not.
    fn run(mut self, setup: &Setup, looks: bool) {
        let mut durable = Tables::default();
        for _ in 0..=self.rng.below(LIVES_MAX) {
            let disk = Arc::new(Disk::new(durable, Rng::new(self.rng.next())));
            let faults = self.faults();
            let (there, now_ms) = (Arc::clone(&disk), self.now_ms);
            let mut life = Life::start(setup, there, &self.market, faults, now_ms, &mut self.rng);
            self.look_at(&disk);
            for _ in 0..self.rng.below(STEPS_MAX) {
                self.step(&mut life);
                if looks {
                    self.look_at(&disk);
                }
            }
            if !self.rng.once_in(3) {
                if self.rng.once_in(2) {
                    life.close();
                }
                life.run_dry(&self.sent, self.now_ms, &mut self.books);
            }
            self.books.erasures.begun.extend(life.erasing());
            drop(life);
            durable = disk.crash();
            self.audit(&durable);
        }
    }

    /// As if the power were cut now, and nothing more kept than has to be.
    fn look_at(&self, disk: &Disk) {
        disk.with_durable(|durable| self.audit(durable));
    }

    fn audit(&self, durable: &Tables) {
        self.books.audit(durable);
        counts::audit(durable);
    }

    /// A life has all kinds of faults, some, or none.
    fn faults(&mut self) -> Faults {
        let mut once_in = |n| if self.rng.once_in(3) { n } else { 0 };
        Faults {
            append: once_in(30),
            sync: once_in(30),
            file: once_in(10),
            read: once_in(20),
            miss: once_in(3),
        }
    }

    fn step(&mut self, life: &mut Life) {
        match self.rng.below(130) {
            0..8 => self.send_new(life),
            8..20 => self.send_again(life),
            20..40 => life.poll_any(&mut self.rng, &mut self.books),
            40..60 => drop(life.poll_woken(&mut self.books)),
            60..63 => life.hang_up(&mut self.rng),
            63..73 => life.append(),
            73..81 => life.sync(),
            81..89 => drop(life.read()),
            89..93 => life.file(),
            93..97 => self.step_clock(),
            97..100 => life.set_disk_full(self.rng.once_in(2)),
            100..108 => life.count(&mut self.rng),
            108..110 => life.look_at_sums(),
            110..113 => self.straggle(life),
            113..115 => life.catch_up(),
            115..118 => self.erase(life),
            118..126 => self.judge_again(life),
            _ => self.step_rates(life),
        }
    }

    /// Mostly the rate of today comes, the first or another one; what waits for one is priced.
    fn step_rates(&mut self, life: &mut Life) {
        let day = Day::of_ms(self.now_ms);
        let rate = Rate::new(RATES[self.rng.below(RATES.len())]).expect("above zero");
        let euro = Currency::parse("EUR").expect("a currency");
        let mut rates = Rates::clone(&self.market.rates.load());
        if !self.rng.once_in(3) {
            rates.set(day, DayRates::new(Currency::USD, [(euro, rate)]).expect("a base of one"));
            self.market.rates.store(Arc::new(rates));
        }
        life.reprice(day, self.now_ms);
    }

    /// Mostly few clicks and few transactions, so that postbacks meet.
    fn send_new(&mut self, life: &mut Life) {
        if self.clicks.is_empty() || self.rng.once_in(4) {
            let (offer, sub1) = self.link();
            self.clicks.push((offer, life.click(offer, sub1, self.now_ms)));
        }
        let (offer, click) = self.clicks[self.rng.below(self.clicks.len())];
        let event = EVENTS[self.rng.below(EVENTS.len())];
        let txn_id = match self.rng.below(2) {
            0 => String::new(),
            _ => format!("T{}", self.rng.below(6)),
        };
        let reversal_id = match event {
            "refund" if self.rng.once_in(2) => format!("T{}", self.rng.below(6)),
            _ => String::new(),
        };
        let status = self.status();
        let unit = if event == "refund" { 1 } else { 5 };
        let amount = (!self.rng.once_in(3)).then(|| unit * self.rng.below(3) as i64);
        let customer = match self.rng.below(2) {
            0 => "",
            _ => CUSTOMERS[self.rng.below(CUSTOMERS.len())],
        };
        let alone = !customer.is_empty() && self.rng.once_in(3);
        let request =
            Request { click, offer, event, txn_id, reversal_id, customer, alone, status, amount };
        self.sent.push(request.clone());
        self.send(life, request);
    }

    /// An offer and a value of `sub1`.
    fn link(&mut self) -> (&'static str, &'static str) {
        (OFFERS[self.rng.below(OFFERS.len())], ["", "a", "b"][self.rng.below(3)])
    }

    /// Erases a click or a customer, or goes on with what a crash has cut short.
    fn erase(&mut self, life: &mut Life) {
        let subject = match self.rng.below(4) {
            0 => self.books.erasures.begun.pop(),
            3 => self.stragglers.pop().map(Subject::Click),
            1 => {
                let customer = CUSTOMERS[self.rng.below(CUSTOMERS.len())];
                Some(Subject::Customer(customer_claim(customer).store_key()))
            }
            _ if self.clicks.is_empty() => None,
            _ => {
                let (_, click) = self.clicks[self.rng.below(self.clicks.len())];
                Some(Subject::Click(click.record()))
            }
        };
        if let Some(subject) = subject {
            life.erase(subject, self.now_ms);
        }
    }

    fn straggle(&mut self, life: &mut Life) {
        let (offer, sub1) = self.link();
        let click = life.straggle(offer, sub1, self.now_ms);
        self.stragglers.push(click);
    }

    fn status(&mut self) -> Option<Status> {
        let place = self.rng.below(2 * Status::ALL.len());
        Status::ALL.get(place).copied()
    }

    /// A retry, the same once more at the same moment, or news of the same conversion.
    fn send_again(&mut self, life: &mut Life) {
        if !self.sent.is_empty() {
            let mut request = self.sent[self.rng.below(self.sent.len())].clone();
            if self.rng.once_in(2) {
                request.status = self.status();
            }
            self.send(life, request);
        }
    }

    /// Judges a refused postback again, one that was there before or another.
    fn judge_again(&mut self, life: &mut Life) {
        if self.refused.is_empty() || self.rng.once_in(2) {
            let mut like = self.sent.clone();
            like.retain(|request| !request.alone && request.event != "refund");
            if like.is_empty() {
                return;
            }
            let mut request = like.swap_remove(self.rng.below(like.len()));
            if self.rng.once_in(2) {
                (request.event, request.txn_id) = ("deposit", String::new());
            }
            let received_ms = self.now_ms - self.rng.below(3 * WINDOW_MS as usize) as u64;
            self.sent.push(request.clone());
            self.refused.push((request, received_ms));
        }
        let (request, received_ms) = self.refused[self.rng.below(self.refused.len())].clone();
        life.judge_again(request, received_ms, self.now_ms);
    }

    fn send(&self, life: &mut Life, request: Request) {
        let must_know = self.books.is_bound(request.customer);
        life.send(request, must_know, self.now_ms);
    }

    fn step_clock(&mut self) {
        let step = match self.rng.below(6) {
            0..3 => self.rng.below(1000),
            3 => self.rng.below(3 * WINDOW_MS as usize),
            4 => WINDOW_MS as usize,
            _ => {
                let back = self.rng.below(2 * WINDOW_MS as usize) as u64;
                self.now_ms -= back;
                return;
            }
        };
        self.now_ms += step as u64;
    }
}
