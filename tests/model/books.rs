//! What must be true, in the simplest words: which keys a postback claims, which conversions
//! clients were told of, and what that says about the bytes on the disk.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use postbackd::click_id::{ClickId, RecordId};
use postbackd::dedup::Claim;
use postbackd::model::reasons::Flag;
use postbackd::store::keys;
use postbackd::store::records::{ClickRecord, ConversionRecord, decode_dedupe};
use postbackd::store::schema::Table;

use crate::disk::Tables;

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
[[offers.events]]
id = "deposit"
repeat = "1h"

[[offers]]
id = "single"
advertiser = "acme"
url = "https://shop.example/{click_id}"
one_conversion_per_click = true
[[offers.events]]
id = "sale"
[[offers.events]]
id = "deposit"
repeat = "1h"

[[offers]]
id = "capped"
advertiser = "acme"
url = "https://shop.example/{click_id}"
[[offers.events]]
id = "sale"
payout = { fixed = "2" }
revenue = { fixed = "5" }
tiers = [{ from = 3, payout = { fixed = "3" } }]
[[offers.events]]
id = "deposit"
repeat = "1h"
payout = { fixed = "1" }
revenue = { fixed = "5" }
[[offers.caps]]
period = "day"
events = ["sale"]
count = 2
[[offers.caps]]
scope = "affiliate"
period = "month"
payout = "9"

[[affiliates]]
id = "pub"
"#;

pub const OFFERS: [&str; 3] = ["open", "single", "capped"];
pub const EVENTS: [&str; 2] = ["sale", "deposit"];
/// `repeat` of a deposit, milliseconds.
pub const WINDOW_MS: u64 = 60 * 60 * 1000;

/// One postback, as often as it is sent.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Request {
    pub click: ClickId,
    pub offer: &'static str,
    pub event: &'static str,
    pub txn_id: String,
}

impl Request {
    pub fn query(&self) -> String {
        let mut query = format!("click_id={}&event={}", self.click.to_text(), self.event);
        if !self.txn_id.is_empty() {
            query.push_str("&txn_id=");
            query.push_str(&self.txn_id);
        }
        query
    }

    pub fn keys(&self) -> Vec<Key> {
        keys_of(self.click.record(), self.offer, self.event, &self.txn_id)
    }
}

/// A key that a conversion occupies.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Key {
    Transaction { event: String, txn_id: String },
    Event { click: RecordId, event: String },
    Click(RecordId),
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
        })
    }
}

fn keys_of(click: RecordId, offer: &str, event: &str, txn_id: &str) -> Vec<Key> {
    let event = event.to_owned();
    let mut keys = vec![if txn_id.is_empty() {
        Key::Event { click, event }
    } else {
        Key::Transaction { event, txn_id: txn_id.to_owned() }
    }];
    if offer == "single" {
        keys.push(Key::Click(click));
    }
    keys
}

fn keys_of_record(record: &ConversionRecord<'_>) -> Vec<Key> {
    keys_of(RecordId::from_bytes(record.click), record.offer, record.event, record.txn_id)
}

/// What the outside world was told with a 2xx, over all lives.
#[derive(Default)]
pub struct Books {
    conversions: BTreeSet<RecordId>,
    clicks: BTreeSet<RecordId>,
    /// Answers to postbacks whose keys are all for ever.
    answers: HashMap<Request, RecordId>,
    minted: BTreeSet<RecordId>,
}

impl Books {
    /// A client was told that its postback is a new conversion.
    pub fn accepted(&mut self, request: &Request, conversion: RecordId, disk: &Tables) {
        assert!(self.minted.insert(conversion), "{conversion:?} was given out twice");
        if request.keys().iter().all(|key| key.window_ms().is_none()) {
            let before = self.answers.insert(request.clone(), conversion);
            assert_eq!(before, None, "{request:?} was accepted twice");
        }
        self.conversions.insert(conversion);
        let record = on_disk(conversion, disk);
        assert_eq!(keys_of_record(&record), request.keys(), "another postback's conversion");
    }

    /// A client was told that its postback is known as `original`.
    pub fn duplicate(&mut self, request: &Request, original: RecordId, disk: &Tables) {
        self.conversions.insert(original);
        let record = on_disk(original, disk);
        let keys = request.keys();
        assert!(
            keys_of_record(&record).iter().any(|key| keys.contains(key)),
            "{request:?} was told of {original:?}, with which it shares no key"
        );
        if let Some(accepted) = self.answers.get(request) {
            assert_eq!(*accepted, original, "{request:?} was accepted as another");
        }
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
        for click in &self.clicks {
            let bytes = disk.of(Table::Clicks).get(&click.as_bytes()[..]);
            let bytes = bytes.unwrap_or_else(|| panic!("click {click:?} was lost"));
            assert!(ClickRecord::decode(bytes).is_ok());
        }
        audit_caps(disk);
        let filed_below = filed_below(disk);
        let holders = audit_conversions(&filed_below, disk);
        audit_dedupe(&holders, &filed_below, disk);
    }
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
        let has_click = disk.of(Table::Clicks).contains_key(&record.click[..]);
        let is_flagged = record.flags().any(|flag| flag == Flag::ClickRecordMissing);
        assert!(has_click || is_flagged, "nobody says that the click of {id:?} is missing");
        for key in keys_of_record(&record) {
            holders.entry(key).or_default().push(id);
        }
    }
    assert!(index.is_empty(), "index rows of no conversion: {index:?}");
    holders
}

/// A key has one conversion, or several that are a window apart, and the dedupe table names the
/// newest that is filed, or a newer one.
fn audit_dedupe(holders: &BTreeMap<Key, Vec<RecordId>>, filed_below: &[u8], disk: &Tables) {
    let mut entries = disk.of(Table::Dedupe).clone();
    for (key, conversions) in holders {
        match key.window_ms() {
            None => assert_eq!(conversions.len(), 1, "{key:?} counted twice: {conversions:?}"),
            Some(window_ms) => assert!(
                conversions
                    .windows(2)
                    .all(|pair| pair[1].time_ms() - pair[0].time_ms() >= window_ms),
                "{key:?} counted twice within its window: {conversions:?}"
            ),
        }
        let entry = key.with_claim(|claim| entries.remove(&claim.store_key().0[..]));
        let named = entry.map(|value| decode_dedupe(&value).expect("a dedupe record"));
        let filed = conversions.iter().rfind(|id| is_filed(id, filed_below)).copied();
        assert!(named >= filed, "the dedupe entry of {key:?} is {named:?}, filed is {filed:?}");
        assert!(named.is_none_or(|named| conversions.contains(&named)), "{key:?}: {named:?}");
    }
    assert!(entries.is_empty(), "dedupe entries of no conversion: {entries:?}");
}

/// What the caps and tiers of `capped` say, by the times at which its conversions were minted: a
/// day pays for two sales, the month pays 9, and a sale pays 3 from the month's third on.
///
/// Both ways: nothing is paid over a cap, and nothing goes unpaid without a full cap. A place
/// that was taken is never lost alone, since whoever came after it is lost with it.
fn audit_caps(disk: &Tables) {
    let mut paid = Paid::default();
    let mut over = Vec::new();
    for id in disk.of(Table::Conversions).keys() {
        let id = keys::record(id).expect("a conversion's key");
        let record = on_disk(id, disk);
        if record.offer == "capped" {
            assert_eq!(record.revenue, 5_000_000, "revenue knows no cap");
            if record.flags & Flag::OverCap.bit() == 0 {
                paid.add(id, &record);
            } else {
                over.push((id, record));
            }
        }
    }
    assert!(paid.sales_by_day.values().all(|sales| *sales <= 2), "{paid:?}");
    assert!(paid.payout <= 9_000_000, "{paid:?}");
    assert_eq!(paid.in_tier, paid.sales.saturating_sub(2), "{paid:?}");
    for (id, record) in over {
        assert_eq!(record.payout, 0, "{id:?} is over a cap");
        let reason = record.history.first().map_or("", |first| first.reason);
        let full = match (reason, record.event) {
            ("cap:offer:day:count", "sale") => paid.sales_by_day.get(&day_of(id)) == Some(&2),
            ("cap:affiliate:month:payout", "sale") => paid.payout > 6_000_000,
            ("cap:affiliate:month:payout", _) => paid.payout == 9_000_000,
            _ => false,
        };
        assert!(full, "{id:?} is over {reason:?}, which is not full: {paid:?}");
    }
}

#[derive(Default, Debug)]
struct Paid {
    sales_by_day: BTreeMap<u64, u32>,
    sales: u32,
    in_tier: u32,
    payout: i64,
}

impl Paid {
    fn add(&mut self, id: RecordId, record: &ConversionRecord<'_>) {
        self.payout += record.payout;
        let in_tier = record.history.first().is_some_and(|first| first.reason == "tier:3");
        let price = match record.event {
            "sale" if in_tier => 3_000_000,
            "sale" => 2_000_000,
            _ => 1_000_000,
        };
        assert_eq!(record.payout, price, "{id:?}");
        if record.event == "sale" {
            *self.sales_by_day.entry(day_of(id)).or_default() += 1;
            self.sales += 1;
            self.in_tier += u32::from(in_tier);
        }
    }
}

fn day_of(id: RecordId) -> u64 {
    id.time_ms() / (24 * 60 * 60 * 1000)
}

/// A conversion's record, which must be there.
pub fn on_disk(conversion: RecordId, disk: &Tables) -> ConversionRecord<'_> {
    let bytes = disk.of(Table::Conversions).get(&conversion.as_bytes()[..]);
    let bytes = bytes.unwrap_or_else(|| panic!("conversion {conversion:?} is not on disk"));
    ConversionRecord::decode(bytes).expect("a conversion record")
}
