//! Caps in total: what is paid is counted for ever, whatever retention lets go, and wherever the
//! process ends.
//!
//! Conversions come and change, are appended, synced, summed up and let go, in any order, over a
//! disk that may fail and a process that ends at any moment. A change may be begun before its
//! conversion is let go, and written after. The disk remembers what was let go, on the side; all
//! that was ever counted is added up from that, and must be what the meter says, whenever one is
//! made.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZero;
use std::sync::Arc;
use std::time::Duration;

use postbackd::caps::{Asked, Cap, Counted, Meter, Metered, Meters, Place, Still, Whose};
use postbackd::click_id::{Minter, RecordId};
use postbackd::model::ids::{AffiliateNumber, OfferNumber};
use postbackd::model::money::Micros;
use postbackd::model::period::{Calendar, Period};
use postbackd::model::reasons::Flag;
use postbackd::model::status::Status;
use postbackd::store::records::{ConversionRecord, Earned, HistoryEntry};
use postbackd::store::ticket::{Outcome, Settle, Ticket};
use postbackd::store::{
    AppendBuffers, Appended, AtOnce, ConversionChange, Retention, Store, Unobserved, keys,
};

use crate::disk::{Disk, Faults, Tables};
use crate::life::{Task, alone};
use crate::rng::Rng;

const SEEDS: u64 = 20_000;
const LIVES_MAX: usize = 4;
const STEPS_MAX: usize = 120;
const HOUR_MS: u64 = 60 * 60 * 1000;
/// Days that conversions are kept: rows of 32 days are let go in part and whole.
const KEPT_DAYS: u64 = 40;
const EVENTS: [&str; 2] = ["sale", "lead"];
const AFFILIATES: u32 = 2;
/// Conversions that the offer pays; some more are counted that were rejected at first.
const MOST: u64 = 12;

#[test]
fn totals_outlive_the_conversions() {
    let number = |variable| std::env::var(variable).ok()?.parse().ok();
    let (seed, seeds) = (number("POSTBACKD_SIM_SEED"), number("POSTBACKD_SIM_SEEDS"));
    let mut seen = Seen::default();
    let seeds = seed.map_or(1..=seeds.unwrap_or(SEEDS), |seed: u64| seed..=seed);
    for seed in seeds.clone() {
        let outcome = std::panic::catch_unwind(|| World::new(seed).run());
        match outcome {
            Ok(more) => seen.add(more),
            Err(panic) => {
                eprintln!("seed {seed}: repeat it with POSTBACKD_SIM_SEED={seed}");
                std::panic::resume_unwind(panic);
            }
        }
    }
    // A simulation in which nothing happens proves nothing.
    if seeds.count() > 100 {
        assert!(seen.let_go > 0 && seen.over > 0 && seen.came_back > 0, "{seen:?}");
    }
}

/// What has happened.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    let_go: usize,
    over: usize,
    came_back: usize,
}

impl Seen {
    fn add(&mut self, more: Self) {
        self.let_go += more.let_go;
        self.over += more.over;
        self.came_back += more.came_back;
    }
}

/// A conversion in the simplest words.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Plain {
    event: &'static str,
    payout: i64,
    statuses: Vec<Status>,
    over: bool,
}

impl Plain {
    fn record(&self) -> ConversionRecord<'static> {
        let step = |status: &Status| HistoryEntry::new(*status, 0, None, Earned::default(), "test");
        ConversionRecord {
            offer: "offer",
            event: self.event,
            currency: *b"USD",
            payout: self.payout,
            status: self.statuses.last().map_or(0, |status| status.code()),
            flags: Flag::OverCap.bit_if(self.over),
            history: self.statuses.iter().map(step).collect(),
            ..ConversionRecord::default()
        }
    }

    fn of(bytes: &[u8]) -> Self {
        let record = ConversionRecord::decode(bytes).expect("a conversion");
        let status = |step: &HistoryEntry<'_>| Status::from_code(step.status).expect("a status");
        Self {
            event: EVENTS[usize::from(record.event == EVENTS[1])],
            payout: record.payout,
            statuses: record.history.iter().map(status).collect(),
            over: record.flags & Flag::OverCap.bit() != 0,
        }
    }

    fn counts(&self) -> bool {
        !self.over && self.statuses.iter().any(|status| *status != Status::Rejected)
    }
}

/// How many conversions, and what they pay: of each event by affiliate.
type Totals = BTreeMap<(&'static str, u32), (u64, i64)>;

fn totals(disk: &Tables) -> Totals {
    let mut totals = Totals::new();
    for (key, value) in disk.ever() {
        let (id, plain) = (keys::record(key).expect("a key"), Plain::of(value));
        if plain.counts() {
            let total = totals.entry((plain.event, id.affiliate().get())).or_default();
            *total = (total.0 + 1, total.1 + plain.payout);
        }
    }
    totals
}

fn offer() -> OfferNumber {
    OfferNumber::new(7).expect("small")
}

fn affiliate(number: u32) -> AffiliateNumber {
    AffiliateNumber::new(number).expect("small")
}

fn cap(whose: Whose, event: Option<&str>, count: Option<u64>, payout: Option<i64>) -> Cap {
    let events = event.into_iter().map(Box::from).collect();
    Cap::new(whose, events, Period::Total, count, payout.map(Micros::new))
}

/// Whether a meter has room under a cap for one more that pays a millionth.
fn has_room(meter: &Arc<Meter>, cap: Cap, event: &'static str, who: u32, now_ms: u64) -> bool {
    let (affiliate, currency) = (affiliate(who), *b"USD");
    let asked = Asked { caps: &[cap], minted_ms: now_ms, event, currency, affiliate };
    // The place is given back at once.
    matches!(meter.turn().take(&asked, |_| Ok::<_, ()>(1)), Ok(Place::Taken(_)))
}

/// A meter says just what is expected, by event and affiliate and by both together.
fn check(meter: &Arc<Meter>, expected: &Totals, now_ms: u64) {
    let one = |whose: &Whose, event: Option<&str>, who, count: u64, payout: i64| {
        let asked = event.map_or(EVENTS[0], |event| EVENTS[usize::from(event == EVENTS[1])]);
        let room = |count, payout| {
            has_room(meter, cap(whose.clone(), event, count, payout), asked, who, now_ms)
        };
        let says = format!("{whose:?} {event:?} {who} has {count}, {payout}: {expected:?}");
        assert!(room(Some(count + 1), None) && room(None, Some(payout + 1)), "more: {says}");
        let full = !room(Some(count), None) && (payout == 0 || !room(None, Some(payout)));
        assert!(full, "less: {says}");
    };
    let (mut count, mut payout) = (0, 0);
    for who in 1..=AFFILIATES {
        for event in EVENTS {
            let total = expected.get(&(event, who)).copied().unwrap_or_default();
            one(&Whose::EachAffiliate, Some(event), who, total.0, total.1);
            (count, payout) = (count + total.0, payout + total.1);
        }
    }
    one(&Whose::Offer, None, 1, count, payout);
}

struct World {
    rng: Rng,
    now_ms: u64,
    durable: Tables,
    seen: Seen,
}

impl World {
    fn new(seed: u64) -> Self {
        let (now_ms, durable) = (1_700_000_000_000, Tables::default());
        Self { rng: Rng::new(seed), now_ms, durable, seen: Seen::default() }
    }

    fn run(mut self) -> Seen {
        for _ in 0..=self.rng.below(LIVES_MAX) {
            let mut life = Life::start(&mut self);
            for _ in 0..self.rng.below(STEPS_MAX) {
                life.step(&mut self);
            }
            life.end(&mut self);
        }
        self.seen.let_go = self.durable.let_go().len();
        let paid: u64 = totals(&self.durable).values().map(|total| total.0).sum();
        let late = self.durable.ever().map(|(_, value)| Plain::of(value));
        let late = late.filter(|plain| plain.statuses[0] == Status::Rejected && plain.counts());
        assert!(paid <= MOST + late.count() as u64, "more is paid than the cap allows");
        self.seen
    }
}

/// A change that was begun: what was read, what it becomes, and who waits for it.
struct Change {
    id: RecordId,
    before: Plain,
    after: Plain,
    still: Still,
}

struct Life {
    disk: Arc<Disk>,
    store: Arc<Store>,
    meters: Arc<Meters>,
    meter: Arc<Meter>,
    minter: Minter,
    /// Commits under way: of a conversion that nobody changes meanwhile.
    under_way: Vec<(RecordId, Arc<Ticket>)>,
    begun: Vec<Change>,
    expiring: Vec<Task<()>>,
}

impl Life {
    fn start(world: &mut World) -> Self {
        let disk = Arc::new(Disk::new(world.durable.clone(), Rng::new(world.rng.next())));
        let (store, identity) =
            Store::on(Arc::clone(&disk) as _, 0, [7; 32], Arc::new(Unobserved)).expect("it opens");
        let store = Arc::new(store);
        let meters = Arc::new(Meters::new(Calendar::new(jiff::tz::TimeZone::UTC)));
        let metered = Metered { offer: offer(), in_total: true };
        // Perhaps the cap in total comes later, when the offer has a meter already.
        for metered in [Metered { in_total: world.rng.once_in(2), ..metered }, metered] {
            let place = meters.want(&[metered]);
            let (counting, counted, now_ms) =
                (Arc::clone(&meters), Arc::clone(&store), world.now_ms);
            let count = async move { counting.count(place, &counted, now_ms).await };
            alone(&store, count).expect("the disk is sound");
        }
        let meter = meters.of(metered).expect("counted");
        let minter = Minter::new(0, identity.starts, identity.newest_ms);
        disk.with_durable(|disk| check(&meter, &totals(disk), world.now_ms));
        let mut once_in = |n| if world.rng.once_in(4) { n } else { 0 };
        let (append, sync) = (once_in(40), once_in(40));
        disk.set_faults(Faults { append, sync, ..Faults::default() });
        let (under_way, begun, expiring) = (Vec::new(), Vec::new(), Vec::new());
        Self { disk, store, meters, meter, minter, under_way, begun, expiring }
    }

    fn step(&mut self, world: &mut World) {
        match world.rng.below(100) {
            0..18 => self.convert(world),
            18..30 => self.begin_change(world),
            30..40 => self.end_change(world),
            40..55 => self.store.writer().append_once(&mut AppendBuffers::default()),
            55..65 => self.store.writer().sync_once(&mut Appended::default()),
            65..85 => self.count(&mut world.rng),
            85..92 => self.expire(world),
            92..94 => self.store.file_once(true),
            _ => world.now_ms += world.rng.below(30 * 24) as u64 * HOUR_MS,
        }
        self.expiring.retain_mut(|task| !task.wants_poll() || task.poll().is_none());
        self.under_way.retain(|(_, ticket)| ticket.outcome().is_none());
    }

    fn convert(&mut self, world: &mut World) {
        let rng = &mut world.rng;
        let (event, payout) = (EVENTS[rng.below(2)], 1 + rng.below(5) as i64);
        let who = affiliate(1 + rng.below(AFFILIATES as usize) as u32);
        let first = [Status::Approved, Status::Pending, Status::Rejected][rng.below(3)];
        let id = self.minter.mint(world.now_ms, offer(), who);
        let mut plain = Plain { event, payout, statuses: vec![first], over: false };
        let ticket = Arc::new(Ticket::default());
        let mut commit: Arc<dyn Settle> = Arc::clone(&ticket) as _;
        if first != Status::Rejected {
            let caps = [cap(Whose::Offer, None, Some(MOST), None)];
            let (minted_ms, currency) = (id.time_ms(), *b"USD");
            let asked = Asked { caps: &caps, minted_ms, event, currency, affiliate: who };
            match self.meter.turn().take(&asked, |_| Ok::<_, ()>(payout)).expect("a price") {
                Place::Taken(place) => commit = place.with(commit),
                Place::Over(_) => {
                    (plain.over, plain.payout) = (true, 0);
                    world.seen.over += 1;
                }
            }
        }
        if self.store.commit_conversion(id, &plain.record(), commit).is_ok() {
            self.under_way.push((id, ticket));
        }
    }

    /// Reads a conversion, as somebody does who holds its claims.
    fn begin_change(&mut self, world: &mut World) {
        let busy: BTreeSet<_> = self.under_way.iter().map(|(id, _)| *id).collect();
        let busy: BTreeSet<_> = busy.into_iter().chain(self.begun.iter().map(|it| it.id)).collect();
        let rng = &mut world.rng;
        let read = self.disk.with_readable(|disk| {
            let rows = disk.of(postbackd::store::schema::Table::Conversions);
            let all = rows.iter().map(|(key, value)| (keys::record(key).expect("a key"), value));
            let free: Vec<_> = all.filter(|(id, _)| !busy.contains(id)).collect();
            let count = NonZero::new(free.len())?;
            let (id, value) = free[rng.below(count.get())];
            Some((id, Plain::of(value)))
        });
        let Some((id, before)) = read else { return };
        let still = self.meters.try_hold_still().expect("nobody counts");
        let mut after = before.clone();
        let known = [Status::Approved, Status::Pending, Status::Rejected, Status::Reversed];
        after.statuses.push(known[rng.below(4)]);
        if !after.over && rng.once_in(2) {
            after.payout = 1 + rng.below(9) as i64;
        }
        self.begun.push(Change { id, before, after, still });
    }

    fn end_change(&mut self, world: &mut World) {
        if self.begun.is_empty() {
            return;
        }
        let place = world.rng.below(self.begun.len());
        let Change { id, before, after, still } = self.begun.swap_remove(place);
        let (before, after) = (before.record(), after.record());
        let ticket = Arc::new(Ticket::default());
        let of = |record| Counted::of(id, record);
        let counted =
            self.meter.recount(of(&before).as_ref(), of(&after).as_ref(), still, ticket.clone());
        let change = ConversionChange { conversion: id, before: &before, after: &after };
        if self.store.change_conversion(change, None, counted).is_ok() {
            self.under_way.push((id, ticket));
            let gone = |disk: &Tables| disk.let_go().contains_key(&id.as_bytes()[..]);
            world.seen.came_back += usize::from(self.disk.with_readable(gone));
        }
    }

    fn count(&self, rng: &mut Rng) {
        let at_once = AtOnce { records: 1 + rng.below(6), rows: 1 + rng.below(6) };
        self.store.count_once(true, at_once).expect("no read fails");
    }

    fn expire(&mut self, world: &World) {
        let (store, now_ms) = (Arc::clone(&self.store), world.now_ms);
        let days = |days| Duration::from_secs(days * 24 * 60 * 60);
        let kept = Retention {
            clicks: days(KEPT_DAYS),
            conversions: days(KEPT_DAYS),
            audit: days(KEPT_DAYS),
            inbound: days(KEPT_DAYS),
        };
        self.expiring.push(Task::new(async move {
            // The clock is believed at once.
            let _ = store.expire(now_ms, Duration::MAX, kept).await;
        }));
    }

    /// The process ends: at once, or when everything under way has ended and the meter has heard
    /// of it.
    fn end(self, world: &mut World) {
        if world.rng.once_in(2) {
            while self.store.writer().queued() != (0, 0) {
                self.store.writer().append_once(&mut AppendBuffers::default());
                self.store.writer().sync_once(&mut Appended::default());
            }
            let settled = |ticket: &Arc<Ticket>| ticket.outcome() == Some(Outcome::Durable);
            if !self.disk.has_failed() {
                assert!(self.under_way.iter().all(|(_, ticket)| settled(ticket)));
                self.disk.with_readable(|disk| check(&self.meter, &totals(disk), world.now_ms));
            }
        }
        world.durable = self.disk.crash();
    }
}

#[test]
fn a_clock_that_is_ahead_while_a_month_is_counted_lets_it_not_begin_anew() {
    // On November 30, at 20 o'clock.
    const NOW_MS: u64 = 1796068800000;
    let disk = Arc::new(Disk::new(Tables::default(), Rng::new(1)));
    let (store, identity) =
        Store::on(Arc::clone(&disk) as _, 0, [7; 32], Arc::new(Unobserved)).expect("it opens");
    let store = Arc::new(store);
    let minter = Minter::new(0, identity.starts, identity.newest_ms);
    let plain =
        Plain { event: EVENTS[0], payout: 1, statuses: vec![Status::Approved], over: false };
    let id = minter.mint(NOW_MS, offer(), affiliate(1));
    store.commit_conversion(id, &plain.record(), Arc::new(Ticket::default())).expect("queued");
    store.writer().append_once(&mut AppendBuffers::default());
    store.writer().sync_once(&mut Appended::default());
    for in_total in [false, true] {
        let meters = Arc::new(Meters::new(Calendar::new(jiff::tz::TimeZone::UTC)));
        let metered = Metered { offer: offer(), in_total };
        let place = meters.want(&[metered]);
        let (counting, counted) = (Arc::clone(&meters), Arc::clone(&store));
        let ahead_ms = NOW_MS + 8 * HOUR_MS;
        let count = async move { counting.count(place, &counted, ahead_ms).await };
        alone(&store, count).expect("the disk is sound");
        let meter = meters.of(metered).expect("counted");
        let month = Cap::new(Whose::Offer, Vec::new(), Period::Month, Some(1), None);
        assert!(!has_room(&meter, month, EVENTS[0], 1, NOW_MS + 1), "in total: {in_total}");
    }
}
