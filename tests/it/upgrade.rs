//! Stores of earlier formats, made of records as earlier releases wrote them, are brought up to
//! date by their first start, and answer as before.

use std::path::Path;

use postbackd::click_id::{ClickId, Keyring, Minter, RecordId};
use postbackd::dedup::Claim;
use postbackd::model::ids::{AffiliateNumber, OfferNumber};
use postbackd::store::engine::{Batch, Engine as _};
use postbackd::store::keys::{self, Numbered};
use postbackd::store::postings::postings;
use postbackd::store::records::{ConversionRecord, encode_dedupe};
use postbackd::store::schema::Table;
use postbackd::store::{FORMAT_VERSION, RocksEngine, database_folder};
use postbackd::time::Clock;

use crate::harness::{Setup, run};
use crate::verify::verify;

const CLICK_KEY: [u8; 32] = [7; 32];
/// The newest that releases of a format wrote.
const CLICKS: [&str; 5] = [
    include_str!("../fixtures/click.v1.hex"),
    include_str!("../fixtures/click.v2.hex"),
    include_str!("../fixtures/click.v3.hex"),
    include_str!("../fixtures/click.v3.hex"),
    include_str!("../fixtures/click.v3.hex"),
];
const CONVERSIONS: [&str; 5] = [
    include_str!("../fixtures/conversion.v1.hex"),
    include_str!("../fixtures/conversion.v2.hex"),
    include_str!("../fixtures/conversion.v3.hex"),
    include_str!("../fixtures/conversion.v4.hex"),
    include_str!("../fixtures/conversion.v4-own.hex"),
];

fn bytes(fixture: &str) -> Vec<u8> {
    let digits: Vec<u8> = fixture.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    digits.chunks(2).map(|pair| byte(pair).expect("hex digits")).collect()
}

fn put(batch: &mut Batch, table: Table, key: &[u8], value: &[u8]) {
    batch.put(table, key, |out| out.extend_from_slice(value));
}

/// A conversion's record as the release of a format wrote it. Behind the version stand the click's
/// record ID and its MAC; `T-1` becomes another transaction of the same length.
fn conversion_of(format: u32, click: ClickId, txn_id: &str) -> Vec<u8> {
    let mut value = bytes(CONVERSIONS[format as usize - 1]);
    assert_eq!(u32::from(value[0]), format.min(4));
    value[1..17].copy_from_slice(click.record().as_bytes());
    value[17..25].copy_from_slice(&click.mac());
    let at = value.windows(4).position(|bytes| bytes == b"\x03T-1").expect("a transaction");
    value[at + 1..at + 4].copy_from_slice(txn_id.as_bytes());
    value
}

/// What of the past a release of this format had written beside a conversion that it had filed.
fn put_rows(batch: &mut Batch, format: u32, id: RecordId, value: &[u8]) {
    let record = ConversionRecord::decode(value).expect("decodes");
    let click = RecordId::from_bytes(record.click);
    put(batch, Table::ByClick, &keys::by_click(click, id), b"");
    let (advertiser, event, txn_id) = (record.advertiser, record.event, record.txn_id);
    let transaction = Claim::Transaction { advertiser, event, txn_id };
    for claim in [transaction, Claim::Click(click)] {
        put(batch, Table::Dedupe, &claim.store_key().0, &encode_dedupe(id));
    }
    if format >= 3 {
        for posting in postings(id, &record) {
            let mut value = Vec::new();
            posting.record.encode(&mut value);
            put(batch, Table::Ledger, &posting.key.encode(), &value);
        }
    }
}

/// A store with two conversions of two clicks: one that was filed and one that was not, where the
/// format knows of filing. Returns the clicks and the conversions.
fn store_of(format: u32, folder: &Path) -> ([ClickId; 2], [RecordId; 2]) {
    let database = database_folder(folder);
    std::fs::create_dir_all(&database).expect("writable");
    let engine = RocksEngine::open(&database, 8 << 20).expect("opens");
    let mut batch = Batch::default();
    let (offer, affiliate) = (OfferNumber::new(3), AffiliateNumber::new(2));
    let (offer, affiliate) = (offer.expect("small"), affiliate.expect("small"));
    put(&mut batch, Table::Catalog, &keys::number(Numbered::Offer, "spring"), &[0, 0, 0, 3]);
    put(&mut batch, Table::Catalog, &keys::number(Numbered::Affiliate, "pub-7"), &[0, 0, 0, 2]);
    let minter = Minter::new(0, 1, 0);
    let mint = || minter.mint(Clock::System.now_ms() - 60_000, offer, affiliate);
    let keyring = Keyring::new(CLICK_KEY, Vec::new());
    let (clicks, ids) = ([keyring.sign(mint()), keyring.sign(mint())], [mint(), mint()]);
    for ((click, id), txn_id) in clicks.iter().zip(ids).zip(["T-1", "T-2"]) {
        let click_value = bytes(CLICKS[format as usize - 1]);
        put(&mut batch, Table::Clicks, click.record().as_bytes(), &click_value);
        let mut value = conversion_of(format, *click, txn_id);
        if format == 3 {
            // Customers came with the next format.
            let at = value.windows(4).position(|bytes| &bytes[1..] == txn_id.as_bytes());
            let at = at.expect("a transaction") + 4;
            assert_eq!(value[at], 0, "no customer yet");
            value.splice(at..=at, *b"\x03K-1");
            assert_eq!(ConversionRecord::decode(&value).expect("decodes").customer_id, "K-1");
        }
        put(&mut batch, Table::Conversions, id.as_bytes(), &value);
        if format == 1 || id == ids[0] {
            put_rows(&mut batch, format, id, &value);
        }
    }
    put(&mut batch, Table::Meta, keys::META_FORMAT, &format.to_be_bytes());
    put(&mut batch, Table::Meta, keys::META_STARTS, &1u64.to_be_bytes());
    put(&mut batch, Table::Meta, keys::META_CLICK_KEY, &CLICK_KEY);
    if format >= 2 {
        put(&mut batch, Table::Meta, keys::META_FILED, &keys::after(ids[0]));
    }
    engine.append(&batch).and_then(|()| engine.sync()).expect("written");
    (clicks, ids)
}

#[test]
fn a_store_of_each_earlier_format_is_brought_up_to_date_and_answers_as_before() {
    for format in 1..FORMAT_VERSION {
        let folder = tempfile::tempdir().expect("a folder");
        let (clicks, ids) = store_of(format, folder.path());
        let before = verify(folder.path());
        assert_eq!(before.code, Some(1), "{}", before.out);
        let named = format!("the store has format {format}; start the server once");
        assert!(before.err.contains(&named), "{}", before.err);

        let mut server = Setup::new().start_on(folder.path());
        for ((click, id), txn_id) in clicks.iter().zip(ids).zip(["T-1", "T-2"]) {
            let query = format!("click_id={}&event=sale&txn_id={txn_id}", click.to_text());
            let again = server.postback(&query);
            assert_eq!(again.verdict(), (200, "duplicate", ""), "format {format}: {again:?}");
            assert_eq!(again.word("conversion_id"), id.to_text().as_str());
            let shown = server.api(&format!("conversions/{}", id.to_text()));
            // The last has been taken back in part.
            let revenue = if format >= 3 { "14.9995" } else { "20.00" };
            assert_eq!((&shown["revenue"], &shown["amount"]), (&revenue.into(), &"99.99".into()));
            let trace = server.api(&format!("trace/{}", click.to_text()));
            let entries = trace["entries"].as_array().expect("entries").iter();
            let kept = entries
                .filter(|entry| entry["kind"] == "click" || entry["kind"] == "conversion")
                .count();
            assert_eq!(kept, 2, "{trace}");
        }
        let balances = server.api("balances?affiliate=pub-7");
        assert_eq!(balances["balances"][0]["postings"], 2, "format {format}: {balances}");
        if format == 3 {
            let named = server.api("customers/acme/K-1");
            let of_customer = named["conversions"].as_array().expect("a list");
            assert_eq!(of_customer.len(), 2, "{named}");
        }
        let fresh = server.click("offer=spring&aff=pub-7");
        let sold = server.postback(&format!("click_id={fresh}&event=sale&txn_id=T-1000"));
        assert_eq!(sold.verdict(), (200, "accepted", ""), "format {format}");
        server.stop();
        let after = run(&server.path("."), &["verify", "--store", "data"]);
        assert_eq!(after.code, Some(0), "format {format}: {}{}", after.out, after.err);
    }
}

#[test]
fn a_store_of_a_newer_format_is_refused_by_name_and_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let database = database_folder(folder.path());
    std::fs::create_dir_all(&database).expect("writable");
    let newer = FORMAT_VERSION + 1;
    {
        let engine = RocksEngine::open(&database, 8 << 20).expect("opens");
        let mut batch = Batch::default();
        put(&mut batch, Table::Meta, keys::META_FORMAT, &newer.to_be_bytes());
        engine.append(&batch).and_then(|()| engine.sync()).expect("written");
    }
    let named = format!("the store has format {newer}, this release reads up to {FORMAT_VERSION}");
    let store = format!("[store]\npath = {:?}\n", folder.path());
    std::fs::write(folder.path().join("postbackd.toml"), store).expect("writable");
    for arguments in [&["serve", "--config", "postbackd.toml"][..], &["verify", "--store", "."]] {
        let ended = run(folder.path(), arguments);
        assert_eq!(ended.code, Some(1), "{arguments:?}");
        let said = format!("{}{}", ended.out, ended.err);
        assert!(said.contains(&named), "{arguments:?}: {said}");
    }
    let engine = RocksEngine::open(&database, 8 << 20).expect("opens");
    let kept = engine.value(Table::Meta, keys::META_FORMAT).expect("readable");
    assert_eq!(kept, Some(newer.to_be_bytes().to_vec()));
    assert_eq!(engine.value(Table::Meta, keys::META_STARTS).expect("readable"), None);
}
