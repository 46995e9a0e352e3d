//! Reports: the sums are a count of everything.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use postbackd::click_id::RecordId;
use postbackd::model::period::Quarter;
use postbackd::model::status::Status;
use postbackd::store::engine::Engine;
use postbackd::store::keys;
use postbackd::store::records::{ClickRecord, Counts};
use postbackd::store::schema::Table;
use postbackd::store::ticket::Ticket;
use postbackd::store::{
    AppendBuffers, Appended, AtOnce, Part, Store, Sums, SumsError, Turn, Unobserved, Wanted,
};

use crate::books::on_disk;
use crate::disk::{Disk, Tables};
use crate::rng::Rng;

/// Where something is counted: quarter of an hour, offer, affiliate, for which `sub1`, as what.
type Line = (u64, u32, u32, Option<String>, String);
/// How many, revenue, payout.
type Amounts = (i128, i128, i128);

/// A report by everything there is, without lines that say nothing.
#[derive(Default, PartialEq, Eq, Debug)]
pub struct Book(BTreeMap<Line, Amounts>);

const QUARTER_MS: u64 = 15 * 60 * 1000;
/// For clicks whose records are not there.
const UNKNOWN: &str = "?";

impl Book {
    fn add(&mut self, line: Line, (number, revenue, payout): Amounts) {
        let amounts = self.0.entry(line.clone()).or_default();
        *amounts = (amounts.0 + number, amounts.1 + revenue, amounts.2 + payout);
        if *amounts == (0, 0, 0) {
            self.0.remove(&line);
        }
    }

    /// Adds what happened to a record, in all and for its `sub1`.
    fn record(&mut self, id: RecordId, sub1: &str, what: &str, amounts: Amounts) {
        let (offer, affiliate) = (id.offer().get(), id.affiliate().get());
        let sub1 = (!sub1.is_empty()).then(|| Some(sub1.to_owned()));
        for sub in [Some(None), sub1].into_iter().flatten() {
            let quarter = id.time_ms() / QUARTER_MS;
            self.add((quarter, offer, affiliate, sub, what.to_owned()), amounts);
        }
    }
}

/// What the sums say.
pub fn sums(sums: &Sums<'_>) -> Result<Book, SumsError> {
    let mut book = Book::default();
    let all = Wanted { quarters: Quarter::default()..Quarter::new(u32::MAX), subs: true };
    sums.each(&all, &mut |place, part, counts| {
        let sub = match part {
            Part::Whole => None,
            Part::Sub(sub) => Some(sub.unwrap_or(UNKNOWN).to_owned()),
        };
        let mut add = |what: &str, amounts| {
            let quarter = place.quarter.begins_ms() / QUARTER_MS;
            let (offer, affiliate) = (place.offer.get(), place.affiliate.get());
            book.add((quarter, offer, affiliate, sub.clone(), what.to_owned()), amounts);
        };
        add_counts(counts, &mut add);
        ControlFlow::Continue(())
    })?;
    Ok(book)
}

fn add_counts(counts: &Counts<'_>, add: &mut dyn FnMut(&str, Amounts)) {
    add("click", (counts.clicks.into(), 0, 0));
    for fallback in &counts.fallbacks {
        add(&fallback.reason, (fallback.clicks.into(), 0, 0));
    }
    for event in &counts.events {
        add(&format!("{} takes back", event.event), (event.negative.into(), 0, 0));
        for (status, tally) in Status::ALL.iter().zip(&event.by_status) {
            let amounts = (tally.conversions.into(), tally.revenue, tally.payout);
            add(&format!("{} {status:?} {:?}", event.event, event.currency), amounts);
        }
    }
}

/// What the records come to.
fn recount(disk: &Tables) -> Book {
    let mut book = Book::default();
    let clicks = disk.of(Table::Clicks);
    let sub1 = |key: &[u8]| {
        let bytes = clicks.get(key)?;
        Some(ClickRecord::decode(bytes).expect("a click").subs[0])
    };
    for key in clicks.keys() {
        let id = keys::record(key).expect("a click's key");
        book.record(id, sub1(key).expect("it is there"), "click", (1, 0, 0));
    }
    for key in disk.of(Table::Conversions).keys() {
        let id = keys::record(key).expect("a conversion's key");
        let record = on_disk(id, disk);
        let sub1 = sub1(&record.click).unwrap_or(UNKNOWN);
        if record.event == "refund" {
            book.record(id, sub1, "refund takes back", (1, 0, 0));
            continue;
        }
        let status = record.status().expect("a status");
        let earned = record.earned();
        let what = format!("{} {status:?} {:?}", record.event, record.currency);
        book.record(id, sub1, &what, (1, earned.revenue.into(), earned.payout.into()));
    }
    book
}

/// The sums are those of the records.
pub fn compare(sums: &Book, disk: &Tables) {
    let expected = recount(disk);
    let lines = expected.0.keys().chain(sums.0.keys());
    for line in lines {
        assert_eq!(sums.0.get(line), expected.0.get(line), "the sums of {line:?}");
    }
}

/// A store that opens on what a crash has left reports what is there.
pub fn audit(durable: &Tables) {
    let disk = Arc::new(Disk::new(durable.clone(), Rng::new(0)));
    let (store, _) = Store::on(disk, 0, [7; 32], Arc::new(Unobserved)).expect("the store opens");
    let held = store.sums().expect("readable").expect("nobody counts");
    compare(&sums(&held).expect("no read fails"), durable);
}

/// Everything is in the sums, and nothing is there that is still to be added.
pub fn check_nothing_is_left(disk: &Tables) {
    let begins =
        [keys::changes_from(&Default::default()), keys::late_clicks_from(&Default::default())];
    for key in disk.of(Table::Counters).keys() {
        assert!(begins.iter().all(|tag| tag[0] != key[0]), "{key:?} is still to be added");
    }
}

#[test]
fn sums_stay_as_they_are_while_somebody_looks() {
    let disk = Arc::new(Disk::new(Tables::default(), Rng::new(0)));
    let engine: Arc<dyn Engine> = Arc::clone(&disk) as _;
    let (store, _) = Store::on(engine, 0, [7; 32], Arc::new(Unobserved)).expect("opens");
    let click = |number: u8| {
        let mut id = [0; 16];
        (id[5], id[15]) = (number, 1);
        let (id, ticket) = (RecordId::from_bytes(id), Arc::new(Ticket::default()));
        store.record_click(id, &ClickRecord::default(), ticket).expect("queued");
    };
    let append = || store.writer().append_once(&mut AppendBuffers::default());
    let sync = || store.writer().sync_once(&mut Appended::default());
    let turn = || store.count_once(true, AtOnce::default()).expect("readable");
    let is_held = || store.sums().expect("readable").is_none();
    click(1);
    append();
    sync();
    while turn() != Turn::Ended {}
    assert!(is_held(), "a commit is on its way");
    append();
    assert!(is_held(), "it is readable, and may still be lost");
    sync();
    click(2);
    append();
    sync();
    let held = store.sums().expect("readable").expect("settled");
    let before = sums(&held).expect("readable");
    for _ in 0..5 {
        assert_eq!(turn(), Turn::UnderWay, "somebody looks");
    }
    let rows = disk.with_readable(|disk| disk.of(Table::Counters).len());
    assert_eq!((sums(&held).expect("readable"), rows), (before, 2));
    drop(held);
    while turn() != Turn::Ended {}
}
