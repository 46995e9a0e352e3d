//! Walking and decoding a query string, beside `form_urlencoded`, which does the same work.
//!
//! Run with `cargo bench --bench query`. Each group times one query string both ways, so the
//! ratio reads in one run.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use postbackd::query::{Params, encode_into, encoded_len};

const CLICK: &[u8] = b"offer=spring&aff=pub-7&sub1=fb_142&sub2=adset-9981&sub3=creative_17\
    &sub4=lookalike-3&sub5=DE&sub6=mobile&sub7=android-16&sub8=2026-11&sub9=night\
    &sub10=c384EFV6JHQODRN70575OK6UG5&gdpr=1&us_privacy=1YNN";

const POSTBACK: &[u8] = b"click_id=02Kd8aZq7LxT4mWv1RyB9cUoPe3NsHiJf&txn_id=ORD-2026-0099812\
    &event=sale&amount=149.90&currency=EUR&status=approved&customer_id=c-558123\
    &ts=1795161600&sig=9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

const ESCAPED: &[u8] = b"offer=spring&aff=pub-7&sub1=Sommer+Schlussverkauf+%E2%80%93+bis+zu+70%25\
    &sub2=%D0%BB%D0%B5%D1%82%D0%BD%D1%8F%D1%8F+%D1%80%D0%B0%D1%81%D0%BF%D1%80%D0%BE%D0%B4%D0%B0%D0%B6%D0%B0\
    &sub3=https%3A%2F%2Fpub.example%2Flanding%3Futm_source%3Dnews%26utm_medium%3Dmail\
    &sub4=%E3%82%BB%E3%83%BC%E3%83%AB&sub5=%7B%22placement%22%3A%22top%22%2C%22slot%22%3A3%7D";

/// What every caller does at least: read every name and value.
fn ours(query: &[u8]) -> usize {
    Params::new(query)
        .map(|param| param.name.decode_lossy().len() + param.value.decode_lossy().len())
        .sum()
}

fn ours_strict(query: &[u8]) -> usize {
    Params::new(query)
        .map(|param| {
            let name = param.name.decode().map_or(0, |name| name.len());
            name + param.value.decode().map_or(0, |value| value.len())
        })
        .sum()
}

fn reference(query: &[u8]) -> usize {
    form_urlencoded::parse(query).map(|(name, value)| name.len() + value.len()).sum()
}

fn decode(c: &mut Criterion) {
    for (name, query) in [("click", CLICK), ("postback", POSTBACK), ("escaped", ESCAPED)] {
        assert_eq!(ours(query), reference(query), "both read {name} alike");
        assert_eq!(ours_strict(query), reference(query), "{name} is well formed");
        let mut group = c.benchmark_group(format!("query/{name}"));
        group.throughput(Throughput::Bytes(query.len() as u64));
        group.bench_function("lossy", |b| b.iter(|| ours(black_box(query))));
        group.bench_function("strict", |b| b.iter(|| ours_strict(black_box(query))));
        group.bench_function("form_urlencoded", |b| b.iter(|| reference(black_box(query))));
        group.finish();
    }
}

fn encode(c: &mut Criterion) {
    let value = "Sommer Schlussverkauf – bis zu 70%".as_bytes();
    let mut out = Vec::with_capacity(encoded_len(value));
    let mut group = c.benchmark_group("query/encode");
    group.throughput(Throughput::Bytes(value.len() as u64));
    group.bench_function("ours", |b| {
        b.iter(|| {
            out.clear();
            encode_into(black_box(value), &mut out);
            out.len()
        });
    });
    let mut out = String::with_capacity(encoded_len(value));
    group.bench_function("form_urlencoded", |b| {
        b.iter(|| {
            out.clear();
            out.extend(form_urlencoded::byte_serialize(black_box(value)));
            out.len()
        });
    });
    group.finish();
}

criterion_group!(benches, decode, encode);
criterion_main!(benches);
