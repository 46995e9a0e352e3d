//! The pieces of the hot path, one by one: click ID, template, claim, records, commit.

mod common;

use std::hint::black_box;
use std::sync::Arc;

use common::{Bench, NOW_MS, postback};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use postbackd::catalog::{Macro, MacroValues, Slot, Template};
use postbackd::click_id::{Keyring, Minter, RecordId};
use postbackd::dedup::{Acquired, Claim, ClaimSet, Deduplicator, Known, Original, Receipt};
use postbackd::model::ids::{AffiliateNumber, OfferNumber};
use postbackd::model::status::Status;
use postbackd::store::RocksEngine;
use postbackd::store::engine::{Batch, Engine};
use postbackd::store::records::{ClickRecord, ConversionRecord, Earned, HistoryEntry};
use postbackd::store::schema::Table;

fn numbers() -> (OfferNumber, AffiliateNumber) {
    OfferNumber::new(1).zip(AffiliateNumber::new(2)).expect("24 bits")
}

fn click_id(c: &mut Criterion) {
    let (offer, affiliate) = numbers();
    let (minter, keyring) = (Minter::new(1, 1, 0), Keyring::new([7; 32], vec![]));
    let id = keyring.sign(minter.mint(NOW_MS, offer, affiliate));
    let text = id.to_text();
    let mut group = c.benchmark_group("click_id");
    group.bench_function("mint", |b| b.iter(|| minter.mint(NOW_MS, offer, affiliate)));
    group.bench_function("sign", |b| b.iter(|| keyring.sign(black_box(id.record()))));
    group.bench_function("print", |b| b.iter(|| black_box(id).to_text()));
    let record = id.record().to_text();
    group.bench_function("parse_record", |b| {
        b.iter(|| RecordId::parse(black_box(record.as_str().as_bytes())));
    });
    group.bench_function("verify", |b| {
        b.iter(|| keyring.verify(black_box(text.as_str().as_bytes())))
    });
    group.bench_function("verify_forged", |b| {
        let mut forged = text.as_str().as_bytes().to_vec();
        forged[30] = if forged[30] == b'a' { b'b' } else { b'a' };
        b.iter(|| keyring.verify(black_box(&forged)));
    });
    group.bench_function("reject_length", |b| b.iter(|| keyring.verify(black_box(b"TEST_123"))));
    group.finish();
}

struct Fixed;

impl MacroValues for Fixed {
    fn fill(&self, which: Macro, slot: &mut Slot<'_>) {
        match which {
            Macro::ClickId => slot.put("015iQ6ARTCvePEqiW5kZzbxJzJeXlB6hI"),
            _ => slot.put("summer sale/7"),
        }
    }
}

fn template(c: &mut Criterion) {
    let text = "https://shop.example/landing?subid={click_id}&src={sub1}&campaign={sub2}";
    let template = Template::compile(text, &[]).expect("sound");
    let mut out = Vec::new();
    c.bench_function("template/expand", |b| {
        b.iter(|| {
            out.clear();
            template.expand(&Fixed, &mut out);
            out.len()
        });
    });
}

fn claim(c: &mut Criterion) {
    let bench = Bench::new();
    let mut group = c.benchmark_group("claim");
    let claim = |txn_id| Claim::Transaction { advertiser: "acme", event: "sale", txn_id };
    group.bench_function("cache_key", |b| b.iter(|| black_box(claim("T-123456789")).cache_key(7)));
    group.bench_function("store_key", |b| b.iter(|| black_box(claim("T-123456789")).store_key()));
    let dedup = Deduplicator::new(1_000_000, 7, Arc::default());
    let original = Original { conversion: RecordId::from_bytes([1; 16]), status: Status::Approved };
    let known = claim("known");
    dedup.remember(&ClaimSet::new(known, None), Known { original, is_from_log: false });
    group.bench_function("known", |b| {
        b.iter(|| dedup.known(black_box(&known), Receipt::Now(NOW_MS)))
    });
    let store = Arc::clone(&bench.clicks.store);
    let fresh = ClaimSet::new(claim("fresh"), None);
    group.bench_function("acquire_and_release", |b| {
        b.iter(|| {
            let acquire =
                std::pin::pin!(dedup.acquire(&store, fresh, original, Receipt::Now(NOW_MS)));
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            let std::task::Poll::Ready(Ok(Acquired::Held(held))) = acquire.poll(&mut context)
            else {
                panic!("nobody else has it");
            };
            drop(held);
        });
    });
    group.finish();
}

fn records(c: &mut Criterion) {
    let click = ClickRecord {
        subs: ["summer-sale", "banner_3", "42", "", "", "", "", "", "", ""],
        user_agent: "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/140.0 Safari/537.36",
        ..ClickRecord::default()
    };
    let earned = Earned::new(20_000_000, 15_000_000, None);
    let history = vec![HistoryEntry::new(Status::Approved, NOW_MS, None, earned, "postback")];
    let conversion = ConversionRecord {
        click: [1; 16],
        click_mac: [2; 8],
        advertiser: "acme",
        offer: "spring",
        affiliate: "pub-7",
        event: "sale",
        txn_id: "T-123456789",
        status: 2,
        amount: Some(15_100_000),
        amount_currency: Some(*b"USD"),
        revenue: 20_000_000,
        payout: 15_000_000,
        currency: *b"USD",
        event_time_ms: NOW_MS,
        received_ms: NOW_MS,
        catalog_version: 7,
        params: vec![("sub1", "summer-sale")],
        history,
        claims: 1,
        ..ConversionRecord::default()
    };
    let mut group = c.benchmark_group("records");
    let mut out = Vec::with_capacity(1024);
    group.bench_function("encode_click", |b| {
        b.iter(|| {
            out.clear();
            click.encode(&mut out);
        });
    });
    let bytes = out.clone();
    group.bench_function("decode_click", |b| {
        b.iter(|| ClickRecord::decode(black_box(&bytes)).map(|record| record.user_agent.len()));
    });
    group.bench_function("encode_conversion", |b| {
        b.iter(|| {
            out.clear();
            conversion.encode(&mut out);
        });
    });
    let bytes = out.clone();
    group.bench_function("decode_conversion", |b| {
        b.iter(|| ConversionRecord::decode(black_box(&bytes)).map(|record| record.txn_id.len()));
    });
    group.finish();
}

fn commit(c: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder");
    let engine = RocksEngine::open(folder.path(), 64 << 20).expect("a store");
    let (offer, affiliate) = numbers();
    let minter = Minter::new(1, 1, 0);
    let mut group = c.benchmark_group("commit_with_fsync");
    group.sample_size(20);
    for commits in [1u64, 16, 128, 1024] {
        group.throughput(Throughput::Elements(commits));
        group.bench_with_input(BenchmarkId::from_parameter(commits), &commits, |b, commits| {
            let mut batch = Batch::default();
            b.iter(|| {
                batch.clear();
                for _ in 0..*commits {
                    let id = minter.mint(NOW_MS, offer, affiliate);
                    batch.put(Table::Clicks, id.as_bytes(), |out| out.extend_from_slice(&[7; 150]));
                }
                engine.append(&batch).and_then(|()| engine.sync()).expect("a working disk");
            });
        });
    }
    group.finish();
}

fn flow(c: &mut Criterion) {
    let mut bench = Bench::new();
    let click = bench.click_id();
    let mut group = c.benchmark_group("flow");
    let mut number = 0u64;
    group.bench_function("postback", |b| {
        b.iter(|| {
            number += 1;
            let query = format!("click_id={click}&event=sale&txn_id=T-{number}&amount=15.10");
            let request = postback(&query);
            bench.rounds.drive(bench.postbacks.take(&request))
        });
    });
    group.finish();
}

criterion_group!(benches, click_id, template, claim, records, commit, flow);
criterion_main!(benches);
