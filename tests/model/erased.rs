//! Erasures: what was erased stays erased, and is the same to everybody but for its texts.

use std::collections::BTreeSet;

use postbackd::click_id::RecordId;
use postbackd::dedup::Claim;
use postbackd::store::keys::{self, Subject};
use postbackd::store::records::{ClickRecord, ConversionRecord, ErasedTexts};
use postbackd::store::schema::Table;

use crate::books::{CUSTOMERS, customer_claim};
use crate::disk::Tables;

/// The transaction IDs of the simulation.
pub const TXNS: [&str; 6] = ["T0", "T1", "T2", "T3", "T4", "T5"];

/// The conversion with the texts that its keys were made of, as nobody else can tell them.
pub fn restored<'a>(mut record: ConversionRecord<'a>) -> ConversionRecord<'a> {
    let Some(erased) = record.erased.take() else { return record };
    let ErasedTexts { txn, customer } = *erased;
    assert_eq!((record.txn_id, record.customer_id), ("", ""), "a text was left or came back");
    let event = record.event;
    let txn_of = |txn_id: &&&'static str| {
        let transaction = Claim::Transaction { advertiser: "acme", event, txn_id };
        let reversal = Claim::Reversal { advertiser: "acme", event, reversal_id: txn_id };
        [transaction, reversal].map(|claim| Some(claim.store_key().0)).contains(&txn)
    };
    let customer_of = |id: &&&'static str| Some(customer_claim(id).store_key().0) == customer;
    let txn_id = TXNS.iter().find(txn_of);
    let customer_id = CUSTOMERS.iter().find(customer_of);
    assert_eq!((txn_id.is_some(), customer_id.is_some()), (txn.is_some(), customer.is_some()));
    record.txn_id = txn_id.copied().unwrap_or_default();
    record.customer_id = customer_id.copied().unwrap_or_default();
    record
}

/// What clients were told of erasures, over all lives.
#[derive(Default)]
pub struct Erasures {
    conversions: BTreeSet<RecordId>,
    clicks: BTreeSet<RecordId>,
    /// Those under way when a life ended.
    pub begun: Vec<Subject>,
}

/// What there was of a person when its erasure began.
pub fn of(subject: Subject, disk: &Tables) -> (Vec<RecordId>, BTreeSet<RecordId>) {
    let (mut conversions, mut clicks) = (Vec::new(), BTreeSet::new());
    for (id, bytes) in disk.of(Table::Conversions) {
        let record = ConversionRecord::decode(bytes).expect("a conversion");
        let click = RecordId::from_bytes(record.click);
        let is_its = match subject {
            Subject::Click(subject) => click == subject,
            Subject::Customer(customer) => record.customer_key() == Some(customer),
        };
        if is_its {
            conversions.push(keys::record(id).expect("a key"));
            clicks.insert(click);
        }
    }
    if let Subject::Click(click) = subject
        && disk.of(Table::Clicks).contains_key(&click.as_bytes()[..])
    {
        clicks.insert(click);
    }
    (conversions, clicks)
}

impl Erasures {
    /// It was said that what there was of a person is erased.
    pub fn done(&mut self, (conversions, clicks): (Vec<RecordId>, BTreeSet<RecordId>)) {
        self.conversions.extend(conversions);
        self.clicks.extend(clicks);
    }

    pub fn audit(&self, disk: &Tables) {
        for id in &self.conversions {
            let bytes = disk.of(Table::Conversions).get(&id.as_bytes()[..]);
            let record = ConversionRecord::decode(bytes.expect("nothing is let go"));
            let record = record.expect("a conversion");
            assert!(record.is_erased(), "{id:?} was not erased, or is not any more: {record:?}");
        }
        for id in &self.clicks {
            let Some(bytes) = disk.of(Table::Clicks).get(&id.as_bytes()[..]) else { continue };
            let record = ClickRecord::decode(bytes).expect("a click");
            assert!(record.is_erased() && record.subs[0].is_empty(), "{id:?}: {record:?}");
        }
    }
}

/// What is erased has nothing left, half erased or not.
pub fn audit(disk: &Tables) {
    for bytes in disk.of(Table::Clicks).values() {
        let record = ClickRecord::decode(bytes).expect("a click");
        assert!(!record.is_erased() || record.subs.iter().all(|sub| sub.is_empty()));
    }
    for bytes in disk.of(Table::Conversions).values() {
        let record = ConversionRecord::decode(bytes).expect("a conversion");
        let steps = record.history.iter().filter(|step| step.reason == "erased").count();
        assert_eq!(steps, usize::from(record.is_erased()), "{record:?}");
        let is_refund = record.event == "refund";
        assert!(!record.is_erased() || record.params.is_empty() || is_refund, "{record:?}");
        let same = |pair: &[postbackd::store::records::HistoryEntry<'_>]| {
            let what =
                |at: usize| (pair[at].status, pair[at].booked_revenue, pair[at].booked_payout);
            pair[1].reason != "erased" || what(0) == what(1)
        };
        assert!(record.history.windows(2).all(same), "an erasure has changed money: {record:?}");
    }
}
