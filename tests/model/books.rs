//! What must be true, in the simplest words: which keys a postback claims, which conversions and
//! changes clients were told of, and what that says about the bytes on the disk.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use postbackd::click_id::{ClickId, RecordId};
use postbackd::dedup::{Claim, Original};
use postbackd::model::reasons::Flag;
use postbackd::model::status::Status;
use postbackd::store::keys;
use postbackd::store::records::{
    Binding, ClickRecord, ConversionRecord, HistoryEntry, PostingRecord, decode_dedupe,
};
use postbackd::store::schema::Table;

use crate::disk::Tables;
use crate::erased::{self, Erasures};
use crate::{caps, inbound};

/// The catalog that the simulation runs on. Its facts are stated again below, on purpose.
pub const CATALOG: &str = r#"
[[advertisers]]
id = "acme"

[[offers]]
id = "open"
advertiser = "acme"
url = "https://shop.example/{click_id}"
[[offers.events]]
id = "sale"
payout = { percent = "10" }
revenue = { percent = "20" }
[[offers.events]]
id = "deposit"
repeat = "1h"
initial_status = "pending"
reapprove = true
payout = { percent = "10" }
revenue = { percent = "20" }

[[offers.events]]
id = "refund"
reverses = ["sale"]

[[offers]]
id = "single"
advertiser = "acme"
url = "https://shop.example/{click_id}"
one_conversion_per_click = true
[[offers.events]]
id = "sale"
payout = { percent = "10" }
revenue = { percent = "20" }
[[offers.events]]
id = "deposit"
repeat = "1h"
initial_status = "pending"
reapprove = true
payout = { percent = "10" }
revenue = { percent = "20" }
[[offers.events]]
id = "refund"
reverses = ["sale"]

[[offers]]
id = "capped"
advertiser = "acme"
url = "https://shop.example/{click_id}"
customer_window = "1h"
[[offers.events]]
id = "sale"
payout = { fixed = "2" }
revenue = { fixed = "5" }
tiers = [{ from = 3, payout = { fixed = "3" } }]
[[offers.events]]
id = "deposit"
repeat = "1h"
initial_status = "pending"
payout = { fixed = "1" }
revenue = { fixed = "5" }
[[offers.events]]
id = "refund"
reverses = ["sale"]
[[offers.caps]]
period = "day"
events = ["sale"]
count = 2
[[offers.caps]]
scope = "affiliate"
period = "month"
payout = "9"
[[offers.caps]]
period = "total"
events = ["deposit"]
count = 3

[[offers]]
id = "watched"
advertiser = "acme"
url = "https://shop.example/{click_id}"
fraud = { bot_user_agent = { action = "reject" } }
[[offers.events]]
id = "sale"
payout = { percent = "10" }
revenue = { percent = "20" }
[[offers.events]]
id = "deposit"
repeat = "1h"
initial_status = "pending"
reapprove = true
payout = { percent = "10" }
revenue = { percent = "20" }
[[offers.events]]
id = "refund"
reverses = ["sale"]

[[offers]]
id = "abroad"
advertiser = "acme"
url = "https://shop.example/{click_id}"
[[offers.events]]
id = "sale"
payout = { percent = "10", currency = "EUR" }
revenue = { percent = "20" }
[[offers.events]]
id = "deposit"
repeat = "1h"
initial_status = "pending"
reapprove = true
payout = { percent = "10", currency = "EUR" }
revenue = { percent = "20" }
[[offers.events]]
id = "refund"
reverses = ["sale"]

[[affiliates]]
id = "pub"
"#;

pub const OFFERS: [&str; 5] = ["open", "single", "capped", "watched", "abroad"];
/// What one dollar buys in euros, on one day or another, in billionths.
pub const RATES: [u64; 3] = [920_000_000, 700_000_000, 3_000_000_000];
pub const EVENTS: [&str; 3] = ["sale", "deposit", "refund"];
/// `repeat` of a deposit, milliseconds.
pub const WINDOW_MS: u64 = 60 * 60 * 1000;
const DAY_MS: u64 = 24 * WINDOW_MS;

/// One postback, as often as it is sent.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Request {
    pub click: ClickId,
    pub offer: &'static str,
    pub event: &'static str,
    pub txn_id: String,
    /// The sender's own ID of a refund; empty if it says none.
    pub reversal_id: String,
    /// The customer it names; empty if none.
    pub customer: &'static str,
    /// Whether it names no click beside the customer.
    pub alone: bool,
    /// The status it says, if any.
    pub status: Option<Status>,
    /// The amount it says, in whole dollars, if any.
    pub amount: Option<i64>,
}

impl Request {
    /// The same without what it says of status and money: what is counted once.
    fn bare(&self) -> Self {
        Self { status: None, amount: None, ..self.clone() }
    }

    pub fn query(&self) -> String {
        let mut query = format!("event={}", self.event);
        if !self.alone {
            query.push_str(&format!("&click_id={}", self.click.to_text()));
        }
        if !self.customer.is_empty() {
            query.push_str(&format!("&customer_id={}", self.customer));
        }
        if !self.txn_id.is_empty() {
            query.push_str("&txn_id=");
            query.push_str(&self.txn_id);
        }
        if !self.reversal_id.is_empty() {
            query.push_str("&reversal_id=");
            query.push_str(&self.reversal_id);
        }
        if let Some(status) = self.status {
            query.push_str("&status=");
            query.push_str(status.as_str());
        }
        if let Some(amount) = self.amount {
            query.push_str(&format!("&amount={amount}"));
        }
        query
    }

    /// What it is called itself: of a refund, its own ID before the transaction's.
    fn name(&self) -> &str {
        if self.reversal_id.is_empty() { &self.txn_id } else { &self.reversal_id }
    }

    fn keys_by(&self, click: RecordId, offer: &str) -> Vec<Key> {
        keys_of(click, offer, self.event, self.name(), !self.reversal_id.is_empty())
    }

    /// The keys that it is known to claim before it is answered.
    pub fn keys(&self) -> Vec<Key> {
        let mut keys = self.keys_by(self.click.record(), self.offer);
        if self.alone {
            keys.retain(|key| matches!(key, Key::Transaction { .. } | Key::Reversal(_)));
        }
        keys
    }

    /// The keys that it claims if it was attributed as a conversion is.
    fn keys_as(&self, record: &ConversionRecord<'_>) -> Vec<Key> {
        if !self.alone {
            return self.keys();
        }
        self.keys_by(RecordId::from_bytes(record.click), record.offer)
    }

    /// Whether it takes back whichever sale of its click is left.
    pub fn chooses(&self) -> bool {
        self.event == "refund" && self.txn_id.is_empty() && !self.alone
    }
}

/// A key that a conversion occupies.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Key {
    Transaction {
        event: String,
        txn_id: String,
    },
    Event {
        click: RecordId,
        event: String,
    },
    Click(RecordId),
    /// A refund's own ID.
    Reversal(String),
}

impl Key {
    /// How long a conversion occupies it, if not for ever.
    fn window_ms(&self) -> Option<u64> {
        matches!(self, Self::Event { event, .. } if event == "deposit").then_some(WINDOW_MS)
    }

    pub fn with_claim<T>(&self, look: impl FnOnce(Claim<'_>) -> T) -> T {
        look(match self {
            Self::Transaction { event, txn_id } => {
                Claim::Transaction { advertiser: "acme", event, txn_id }
            }
            Self::Event { click, event } => {
                Claim::Event { click: *click, event, window_ms: self.window_ms() }
            }
            Self::Click(click) => Claim::Click(*click),
            Self::Reversal(reversal_id) => {
                Claim::Reversal { advertiser: "acme", event: "refund", reversal_id }
            }
        })
    }
}

fn keys_of(click: RecordId, offer: &str, event: &str, name: &str, is_own: bool) -> Vec<Key> {
    let is_refund = event == "refund";
    let (event, name) = (event.to_owned(), name.to_owned());
    let mut keys = vec![match (&*name, is_own) {
        ("", _) => Key::Event { click, event },
        (_, true) => Key::Reversal(name),
        (_, false) => Key::Transaction { event, txn_id: name },
    }];
    if offer == "single" && !is_refund {
        keys.push(Key::Click(click));
    }
    keys
}

fn keys_of_record(record: &ConversionRecord<'_>) -> Vec<Key> {
    let (click, is_own) = (RecordId::from_bytes(record.click), record.claims & 8 != 0);
    keys_of(click, record.offer, record.event, record.txn_id, is_own)
}

/// The sales of a click of which something is left to be taken back.
pub fn open_sales(click: RecordId, disk: &Tables) -> BTreeSet<RecordId> {
    let all = disk.of(Table::Conversions).keys();
    let all = all.map(|key| keys::record(key).expect("a conversion's key"));
    let is_open = |id: &RecordId| {
        let record = on_disk(*id, disk);
        let is_its = (record.click, record.event) == (*click.as_bytes(), "sale");
        is_its && matches!(record.status(), Some(Status::Pending | Status::Approved))
    };
    all.filter(is_open).collect()
}

/// The customers of the simulation.
pub const CUSTOMERS: [&str; 3] = ["c1", "c2", "c3"];

pub fn customer_claim(customer_id: &str) -> Claim<'_> {
    Claim::Customer { advertiser: "acme", customer_id, windows: None }
}

/// Whether a conversion has bound its customer.
fn binds(record: &ConversionRecord<'_>) -> bool {
    record.claims & 16 != 0
}

/// For how long a customer stays bound to a click of this offer.
fn customer_window_ms(offer: &str) -> Option<u64> {
    (offer == "capped").then_some(WINDOW_MS)
}

/// What the outside world was told with a 2xx, over all lives.
#[derive(Default)]
pub struct Books {
    conversions: BTreeSet<RecordId>,
    clicks: BTreeSet<RecordId>,
    /// Answers to postbacks whose keys are all for ever.
    answers: HashMap<Request, RecordId>,
    minted: BTreeSet<RecordId>,
    /// Customers that are known to be bound for ever.
    bound: BTreeSet<&'static str>,
    /// Histories as they were when somebody was told of them.
    histories: BTreeMap<RecordId, Vec<Step>>,
    pub erasures: Erasures,
}

/// One step of a history: status, time of receipt, revenue and payout in force.
type Step = (Status, u64, i64, i64);

fn history_of(record: &ConversionRecord<'_>) -> Vec<Step> {
    let step = |entry: &HistoryEntry<'_>| {
        let status = Status::from_code(entry.status).expect("a status");
        (status, entry.time_ms, entry.booked_revenue, entry.booked_payout)
    };
    record.history.iter().map(step).collect()
}

impl Books {
    /// A client was told that its postback is a new conversion.
    pub fn accepted(
        &mut self,
        request: &Request,
        conversion: RecordId,
        status: Status,
        disk: &Tables,
    ) {
        assert!(self.minted.insert(conversion), "{conversion:?} was given out twice");
        let record = on_disk(conversion, disk);
        let is_forever = request.keys().iter().all(|key| key.window_ms().is_none());
        if is_forever && (!request.alone || !request.name().is_empty()) {
            let before = self.answers.insert(request.bare(), conversion);
            assert_eq!(before, None, "{request:?} was accepted twice");
        }
        self.conversions.insert(conversion);
        let named = (record.event, record.txn_id, record.customer_id);
        assert_eq!(named, (request.event, request.name(), request.customer), "{request:?}");
        assert_eq!(keys_of_record(&record), request.keys_as(&record), "another's conversion");
        let by_customer = record.flags().any(|flag| flag == Flag::ByCustomer);
        assert!(request.alone || !by_customer, "{request:?} named a click");
        if request.alone && !by_customer {
            // Its customer is bound to no click, so the transaction says which it is.
            assert!(is_of_what_it_takes_back(&record, disk), "{request:?} went to another click");
        }
        if by_customer {
            assert!(!binds(&record), "{request:?} has bound its customer");
            assert!(is_bound(request.customer, &record, disk), "{request:?} went to another click");
        }
        if binds(&record) && customer_window_ms(record.offer).is_none() {
            self.bound.insert(request.customer);
        }
        assert_eq!(history_of(&record)[0].0, status, "it did not begin as was said");
        self.told(conversion, &record);
    }

    /// A client was told that its postback has changed a conversion at `sent_ms`.
    pub fn updated(&mut self, request: &Request, now: Original, sent_ms: u64, disk: &Tables) {
        self.conversions.insert(now.conversion);
        let record = on_disk(now.conversion, disk);
        let (first, named) = (&request.keys_as(&record)[0], keys_of_record(&record));
        assert_eq!(&named[0], first, "{request:?} has changed another conversion");
        let history = history_of(&record);
        let is_there = |step: &Step| (step.0, step.1) == (now.status, sent_ms);
        assert!(history[1..].iter().any(is_there), "{request:?}: no such step in {history:?}");
        self.told(now.conversion, &record);
    }

    /// Whatever of a history somebody was told of stays its beginning.
    fn told(&mut self, conversion: RecordId, record: &ConversionRecord<'_>) {
        let history = history_of(record);
        if let Some(before) = self.histories.insert(conversion, history.clone()) {
            assert!(history.starts_with(&before), "{conversion:?}: {before:?}, now {history:?}");
        }
    }

    /// A client was told that its postback is known as `original`.
    pub fn duplicate(&mut self, request: &Request, known: Original, disk: &Tables) {
        let original = known.conversion;
        self.conversions.insert(original);
        let record = on_disk(original, disk);
        let keys = request.keys_as(&record);
        assert!(
            keys_of_record(&record).iter().any(|key| keys.contains(key)),
            "{request:?} was told of {original:?}, with which it shares no key"
        );
        if let Some(accepted) = self.answers.get(&request.bare()) {
            assert_eq!(*accepted, original, "{request:?} was accepted as another");
        }
        let history = history_of(&record);
        let is_there = |step: &Step| step.0 == known.status;
        assert!(history.iter().any(is_there), "{original:?} never was {:?}", known.status);
        self.told(original, &record);
    }

    /// Whether a customer is known to be bound, for ever.
    pub fn is_bound(&self, customer: &str) -> bool {
        self.bound.contains(customer)
    }

    /// A click's record was acknowledged.
    pub fn click(&mut self, click: RecordId) {
        self.clicks.insert(click);
    }

    /// Checks all that must hold of a disk, whenever it is looked at.
    pub fn audit(&self, disk: &Tables) {
        for conversion in &self.conversions {
            on_disk(*conversion, disk);
        }
        for (conversion, told) in &self.histories {
            let history = history_of(&on_disk(*conversion, disk));
            assert!(history.starts_with(told), "{conversion:?}: {told:?}, now {history:?}");
        }
        for click in &self.clicks {
            let bytes = disk.of(Table::Clicks).get(&click.as_bytes()[..]);
            let bytes = bytes.unwrap_or_else(|| panic!("click {click:?} was lost"));
            assert!(ClickRecord::decode(bytes).is_ok());
        }
        self.erasures.audit(disk);
        erased::audit(disk);
        audit_refunds(disk);
        audit_customers(&filed_below(disk), disk);
        caps::audit(disk);
        inbound::audit(disk);
        let filed_below = filed_below(disk);
        let holders = audit_conversions(&filed_below, disk);
        audit_dedupe(&holders, &filed_below, disk);
        audit_ledger(&filed_below, disk);
        audit_worth(&filed_below, disk);
    }
}

/// What earns euros is in dollars by one of the rates, or waits for one and says so; and once it is
/// filed, its postings come to what is left of it at that rate, rounded once.
fn audit_worth(filed_below: &[u8], disk: &Tables) {
    for id in disk.of(Table::Conversions).keys() {
        let id = keys::record(id).expect("a conversion's key");
        let record = on_disk(id, disk);
        if record.offer != "abroad" || record.event == "refund" {
            continue;
        }
        assert_eq!(record.currency, *b"EUR");
        let base = record.exchanged.as_ref().and_then(|exchanged| exchanged.base);
        let is_waiting = record.waits_for_rate();
        let is_nothing = (record.revenue, record.payout) == (0, 0);
        assert_eq!(base.is_none(), is_waiting || is_nothing, "{record:?}");
        if !is_filed(&id, filed_below) {
            continue;
        }
        let postings = disk.of(Table::Ledger).iter().filter(|(key, _)| {
            let key = keys::PostingKey::decode(key);
            key.is_some_and(|key| key.conversion == id)
        });
        let (mut own, mut worth) = ([0; 3], [0; 3]);
        let (mut count, mut converted) = (0, 0);
        for (_, value) in postings {
            let posting = PostingRecord::decode(value).expect("a posting");
            count += 1;
            for part in posting.converted {
                assert_eq!(part.base, *b"USD");
                converted += part.postings;
                for (sums, entries) in [(&mut own, part.own), (&mut worth, part.worth)] {
                    sums[0] += entries.receivable;
                    sums[1] += entries.payable;
                    sums[2] += entries.margin;
                }
            }
        }
        let last = record.history.last().expect("a step");
        let Some(base) = base else {
            assert!(own == [0; 3] && worth == [0; 3], "{record:?}: {own:?} are {worth:?}");
            continue;
        };
        assert!(RATES.contains(&base.rate.0) && base.rate.1 == 1_000_000_000, "{record:?}");
        let booked = (i128::from(last.booked_revenue), i128::from(last.booked_payout));
        let dollars = |euros: i128| {
            let (whole, rest) = (euros * 1_000_000_000, i128::from(base.rate.0));
            let (below, rest) = (whole / rest, 2 * (whole % rest) - rest);
            below + i128::from(rest > 0 || rest == 0 && below % 2 == 1)
        };
        let entries = |(revenue, payout): (i128, i128)| [revenue, -payout, payout - revenue];
        assert_eq!(own, entries(booked), "{record:?}");
        assert_eq!(worth, entries((dollars(booked.0), dollars(booked.1))), "{record:?}");
        assert_eq!(converted, count, "{record:?}");
    }
}

/// Every step that changed what was earned is in the ledger once its conversion is filed, and
/// nothing else ever is.
fn audit_ledger(filed_below: &[u8], disk: &Tables) {
    let mut rows = disk.of(Table::Ledger).clone();
    for id in disk.of(Table::Conversions).keys() {
        let record = on_disk(keys::record(id).expect("a conversion's key"), disk);
        let (mut before, mut latest_ms) = ((0, 0), keys::record(id).expect("a key").time_ms());
        for (step, entry) in record.history.iter().enumerate() {
            let now = (i128::from(entry.booked_revenue), i128::from(entry.booked_payout));
            latest_ms = latest_ms.max(entry.time_ms);
            let day = (latest_ms / DAY_MS) as u32;
            let key = [
                b"p",
                &record.click[13..],
                &day.to_be_bytes(),
                id,
                &(step as u16).to_be_bytes()[..],
            ];
            let row = rows.remove(&key.concat());
            let (revenue, payout) = (now.0 - before.0, now.1 - before.1);
            before = now;
            match row.map(|value| PostingRecord::decode(&value).expect("a posting")) {
                Some(PostingRecord { entries, .. }) => assert_eq!(
                    (entries.receivable, entries.payable, entries.margin),
                    (revenue, -payout, payout - revenue),
                    "step {step} of {id:?}"
                ),
                None => assert!(
                    (revenue, payout) == (0, 0) || id[..] >= *filed_below,
                    "step {step} of {id:?} is filed and not in the ledger"
                ),
            }
        }
    }
    assert!(rows.is_empty(), "postings of no step: {rows:?}");
}

/// Every conversion below has its index rows.
fn filed_below(disk: &Tables) -> Vec<u8> {
    disk.of(Table::Meta).get(keys::META_FILED).cloned().unwrap_or_default()
}

fn is_filed(conversion: &RecordId, filed_below: &[u8]) -> bool {
    conversion.as_bytes()[..] < *filed_below
}

/// Each conversion with its index row, once it is filed; returns who holds which key, oldest first.
fn audit_conversions(filed_below: &[u8], disk: &Tables) -> BTreeMap<Key, Vec<RecordId>> {
    let mut holders: BTreeMap<Key, Vec<RecordId>> = BTreeMap::new();
    let mut index = disk.of(Table::ByClick).clone();
    for id in disk.of(Table::Conversions).keys() {
        let id = keys::record(id).expect("a conversion's key");
        let record = on_disk(id, disk);
        let by_click = keys::by_click(RecordId::from_bytes(record.click), id);
        let indexed = index.remove(&by_click[..]).is_some();
        assert!(indexed || !is_filed(&id, filed_below), "{id:?} has no index row");
        audit_history(&record);
        let has_click = disk.of(Table::Clicks).contains_key(&record.click[..]);
        let is_flagged =
            record.flags().any(|flag| matches!(flag, Flag::ClickRecordMissing | Flag::ByCustomer));
        assert!(has_click || is_flagged, "nobody says that the click of {id:?} is missing");
        if record.offer == "watched" && record.event != "refund" {
            // All its clicks are those of programs.
            let is_rejected = record.history[0].reason == "fraud:bot_user_agent";
            assert!(is_rejected || is_flagged, "{id:?} went past the fraud rules: {record:?}");
            let stays = record.history.iter().all(|step| step.status == Status::Rejected.code());
            assert!(stays || !is_rejected, "an advertiser has undone the rejection: {record:?}");
        }
        for key in keys_of_record(&record) {
            holders.entry(key).or_default().push(id);
        }
    }
    assert!(index.is_empty(), "index rows of no conversion: {index:?}");
    holders
}

/// A history goes along the status machine, and what it books is what its last amount is worth
/// while it is approved, and nothing otherwise.
fn audit_history(record: &ConversionRecord<'_>) {
    use Status::{Approved, Pending, Rejected, Reversed};
    // `erased.rs` looks at the steps left out.
    let mut record = record.clone();
    record.history.retain(|step| step.reason != "erased");
    let (record, history) = (&record, history_of(&record));
    let legal = |from: Status, to: Status| match (from, to) {
        (Pending, Approved | Rejected) | (Approved, Reversed) => true,
        (Rejected, Approved) => record.event == "deposit" && record.offer != "capped",
        // Priced anew, whatever has become of it.
        (Rejected, Rejected) | (Reversed, Reversed) => record.offer == "abroad",
        // The same status once more: with another amount, or less of it.
        (Pending, Pending) | (Approved, Approved) => true,
        _ => false,
    };
    for pair in history.windows(2) {
        assert!(legal(pair[0].0, pair[1].0), "from {:?} to {:?}", pair[0], pair[1]);
    }
    for (status, _, revenue, payout) in &history {
        let is_capped = record.offer == "capped";
        assert!(*revenue >= 0 && (is_capped || revenue == &(2 * payout)), "{history:?}");
        assert!(*status == Approved || *revenue == 0, "{history:?}");
    }
    let (status, _, revenue, _) = history[history.len() - 1];
    assert_eq!(record.status(), Some(status), "{history:?}");
    if record.offer == "capped" {
        // Its prices are fixed; `caps.rs` says which.
        let worth = if status == Approved { record.earned().revenue } else { 0 };
        return assert_eq!(revenue, worth, "{history:?}");
    }
    let worth = (record.amount.unwrap_or(0) - record.reversed_amount) / 5;
    let worth = if record.event == "refund" { 0 } else { worth };
    assert_eq!(revenue, if status == Approved { worth } else { 0 }, "{history:?}");
}

/// Whether the conversion's click is one to which its customer was bound when it came.
fn is_bound(customer: &str, record: &ConversionRecord<'_>, disk: &Tables) -> bool {
    disk.of(Table::Conversions).keys().any(|id| {
        let id = keys::record(id).expect("a conversion's key");
        let binder = on_disk(id, disk);
        let window_ms = customer_window_ms(binder.offer).unwrap_or(u64::MAX);
        (binder.customer_id, binder.click) == (customer, record.click)
            && binds(&binder)
            // Money is taken back after the window, too.
            && (record.event == "refund"
                || record.received_ms < id.time_ms().saturating_add(window_ms))
    })
}

/// A customer has one binding, or several that lie its window apart; whoever has not bound it was
/// preceded by somebody; the rows of `customers` are those of conversions that name them.
fn audit_customers(filed_below: &[u8], disk: &Tables) {
    let mut rows = disk.of(Table::Customers).clone();
    for customer in CUSTOMERS {
        let key = customer_claim(customer).store_key();
        let mut binders: Vec<(RecordId, ConversionRecord<'_>)> = Vec::new();
        for id in disk.of(Table::Conversions).keys() {
            let id = keys::record(id).expect("a conversion's key");
            let record = on_disk(id, disk);
            if record.customer_id != customer {
                assert!(!binds(&record) || !record.customer_id.is_empty(), "{id:?} binds nobody");
                continue;
            }
            let has_row = rows.remove(&keys::of_customer(key, id)[..]).is_some();
            assert!(has_row || !is_filed(&id, filed_below), "{id:?} has no row in customers");
            if binds(&record) {
                assert_ne!(record.event, "refund", "{id:?} binds a customer");
                assert_ne!(record.history[0].status, Status::Rejected.code(), "{id:?} binds");
                binders.push((id, record));
            }
        }
        for pair in binders.windows(2) {
            let apart = pair[1].0.time_ms() - pair[0].0.time_ms();
            let window_ms = customer_window_ms(pair[0].1.offer);
            assert!(window_ms.is_some_and(|window| apart >= window), "{customer} bound twice");
        }
        let row = rows.remove(&key.0[..]).map(|row| Binding::decode(&row).expect("a binding"));
        let filed = binders.iter().rfind(|(id, _)| is_filed(id, filed_below)).map(|(id, _)| *id);
        let named = row.map(|row| row.conversion);
        assert!(named >= filed, "{customer}: bound by {named:?}, filed is {filed:?}");
        let is_true = |row: &Binding| {
            let is_it = |(id, record): &(RecordId, ConversionRecord<'_>)| {
                (*id, &record.click) == (row.conversion, row.click.as_bytes())
            };
            binders.iter().any(is_it)
        };
        assert!(row.as_ref().is_none_or(is_true), "{customer}: {row:?} is no binding");
        for id in disk.of(Table::Conversions).keys() {
            let record = on_disk(keys::record(id).expect("a key"), disk);
            let could = record.customer_id == customer
                && record.event != "refund"
                && record.history[0].status != Status::Rejected.code();
            assert!(!could || !binders.is_empty(), "{customer} is bound to nothing");
        }
    }
    assert!(rows.is_empty(), "rows of no customer: {rows:?}");
}

/// Whether a refund is of the click of the one conversion that it takes back.
fn is_of_what_it_takes_back(refund: &ConversionRecord<'_>, disk: &Tables) -> bool {
    let (_, reverses) = refund.params.last().expect("what it reverses");
    let mut all = disk.of(Table::Conversions).keys().filter_map(|key| keys::record(key));
    let id = all.find(|id| id.to_text().as_str() == *reverses);
    refund.event == "refund" && id.is_some_and(|id| on_disk(id, disk).click == refund.click)
}

/// What refunds have taken back is what their conversions say: both are on the disk, or neither.
fn audit_refunds(disk: &Tables) {
    let mut taken: BTreeMap<String, (usize, i64)> = BTreeMap::new();
    // Those that an amount was used up over, one after the other.
    let mut shared: BTreeSet<String> = BTreeSet::new();
    let all = disk.of(Table::Conversions).keys();
    let all: Vec<_> = all.map(|key| keys::record(key).expect("a conversion's key")).collect();
    for id in &all {
        let record = on_disk(*id, disk);
        if record.event == "refund" {
            let (_, all) = record.params.last().expect("what it reverses");
            let is_shared = all.contains(',') && record.amount.is_some();
            for reverses in all.split(',') {
                let (count, amount) = taken.entry(reverses.to_owned()).or_default();
                *count += 1;
                *amount += record.amount.unwrap_or(i64::from(u32::MAX) * 1_000_000);
                shared.extend(is_shared.then(|| reverses.to_owned()));
            }
        }
    }
    for id in &all {
        let record = on_disk(*id, disk);
        let (count, amount) = taken.remove(id.to_text().as_str()).unwrap_or_default();
        let steps = record.history.iter().filter(|step| step.reason == "refund").count();
        assert_eq!(steps, count, "{id:?}: refunds, and steps in its history");
        let last = record.history.iter().rfind(|step| step.reason != "erased");
        let by_refund = last.is_some_and(|step| step.reason == "refund");
        let is_refunded = |step: &HistoryEntry<'_>| {
            (step.status, step.reason) == (Status::Rejected.code(), "refund")
        };
        if record.history.iter().any(is_refunded) {
            // Pending when all of it was taken back; the network may have approved it since.
            assert!(amount >= record.amount.unwrap_or(0), "{id:?}: rejected by {amount}");
        } else if matches!(record.status(), Some(Status::Approved | Status::Pending)) {
            let is_shared = shared.contains(id.to_text().as_str());
            assert!(record.reversed_amount <= amount, "{id:?}: refunded");
            assert!(is_shared || record.reversed_amount == amount, "{id:?}: refunded");
        } else if by_refund {
            assert!(amount >= record.amount.unwrap_or(0), "{id:?}: reversed by {amount}");
        }
    }
    assert!(taken.is_empty(), "refunds of no conversion: {taken:?}");
}

/// Whether a postback that was told of a conversion by an event which may be repeated has the same
/// one: received less than the window before or after, if one of them was judged again.
pub fn is_same(
    request: &Request,
    original: RecordId,
    sent_ms: u64,
    again_of_ms: Option<u64>,
    disk: &Tables,
) {
    let record = on_disk(original, disk);
    let keys = request.keys_as(&record);
    let [key] = &keys[..] else { return };
    let Some(window_ms) = key.window_ms() else { return };
    match again_of_ms {
        Some(received_ms) => {
            let apart_ms = received_ms.abs_diff(record.received_ms);
            assert!(apart_ms < window_ms, "{request:?} is not {original:?}: {apart_ms} ms apart");
        }
        None if record.is_from_log() => {
            let until_ms = record.received_ms + window_ms;
            assert!(sent_ms < until_ms, "{request:?} at {sent_ms} is not {original:?}");
        }
        None => {}
    }
}

/// A key has one conversion, or several that were received a window apart, and the dedupe table
/// names the newest that is filed, or a newer one; or an older one, if the newest was judged again
/// and that one was received later.
fn audit_dedupe(holders: &BTreeMap<Key, Vec<RecordId>>, filed_below: &[u8], disk: &Tables) {
    let mut entries = disk.of(Table::Dedupe).clone();
    for (key, conversions) in holders {
        match key.window_ms() {
            None => assert_eq!(conversions.len(), 1, "{key:?} counted twice: {conversions:?}"),
            Some(window_ms) => {
                let mut received_ms: Vec<_> =
                    conversions.iter().map(|id| on_disk(*id, disk).received_ms).collect();
                received_ms.sort_unstable();
                assert!(
                    received_ms.windows(2).all(|pair| pair[1] - pair[0] >= window_ms),
                    "{key:?} counted twice within its window: {conversions:?}, {received_ms:?}"
                );
            }
        }
        let entry = key.with_claim(|claim| entries.remove(&claim.store_key().0[..]));
        let named = entry.map(|value| decode_dedupe(&value).expect("a dedupe record"));
        let filed = conversions.iter().rfind(|id| is_filed(id, filed_below)).copied();
        let is_hidden = named.zip(filed).is_some_and(|(named, filed)| {
            let (named, filed) = (on_disk(named, disk), on_disk(filed, disk));
            filed.is_from_log() && named.received_ms > filed.received_ms
        });
        assert!(
            named >= filed || is_hidden,
            "the dedupe entry of {key:?} is {named:?}, filed is {filed:?}"
        );
        assert!(named.is_none_or(|named| conversions.contains(&named)), "{key:?}: {named:?}");
    }
    assert!(entries.is_empty(), "dedupe entries of no conversion: {entries:?}");
}

/// A conversion's record, which must be there, with the texts that were erased.
pub fn on_disk(conversion: RecordId, disk: &Tables) -> ConversionRecord<'_> {
    let bytes = disk.of(Table::Conversions).get(&conversion.as_bytes()[..]);
    let bytes = bytes.unwrap_or_else(|| panic!("conversion {conversion:?} is not on disk"));
    erased::restored(ConversionRecord::decode(bytes).expect("a conversion record"))
}
