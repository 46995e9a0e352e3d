//! Heap allocations of one click and one postback, accepted or refused, from parameters to the
//! reply's bytes, the writer's rounds included and hyper's own excluded. Read the `alloc` column:
//! divan prints how many allocations one iteration makes.

mod common;

use std::time::Instant;

use common::{Bench, NOW_MS, postback};
use divan::AllocProfiler;
use hyper::header::HeaderValue;
use postbackd::click::ClickRequest;
use postbackd::http::{RefusedBodies, reply};
use postbackd::model::country::Country;

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

const CLICK: &str = "offer=spring&aff=pub-7&sub1=summer-sale&sub2=banner_3&sub3=42";
const POLICY: HeaderValue = HeaderValue::from_static("no-referrer");

fn main() {
    divan::main();
}

fn request() -> ClickRequest<'static> {
    ClickRequest {
        code: None,
        query: CLICK,
        ip: std::net::IpAddr::from([203, 0, 113, 9]),
        user_agent: "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/140.0 Safari/537.36",
        referrer: "https://news.example/article",
        country: Country::parse("DE"),
        head: false,
        now_ms: NOW_MS,
        random: 1,
    }
}

#[divan::bench]
fn click(bencher: divan::Bencher<'_, '_>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.expect("a runtime");
    let _entered = runtime.enter();
    let mut bench = Bench::new();
    bencher.bench_local(|| {
        let (answer, recording) = bench.clicks.take(&request());
        if let Some(recording) = recording {
            bench.rounds.drive(bench.clicks.confirmed(&recording, Instant::now()));
        }
        reply::click(answer, &POLICY)
    });
}

#[divan::bench(name = "postback")]
fn new_postback(bencher: divan::Bencher<'_, '_>) {
    let (mut bench, bodies) = (Bench::new(), RefusedBodies::default());
    let click = bench.click_id();
    let mut number = 0;
    bencher
        .with_inputs(|| {
            number += 1;
            format!("click_id={click}&event=sale&txn_id=T-{number}&amount=15.10&currency=USD")
        })
        .bench_local_refs(|query| {
            let request = postback(query);
            reply::postback(&bench.rounds.drive(bench.postbacks.take(&request)), false, &bodies)
        });
}

#[divan::bench]
fn duplicate(bencher: divan::Bencher<'_, '_>) {
    let (mut bench, bodies) = (Bench::new(), RefusedBodies::default());
    let query = format!("click_id={}&event=sale&txn_id=T-1&amount=15.10", bench.click_id());
    bencher.bench_local(|| {
        let request = postback(&query);
        reply::postback(&bench.rounds.drive(bench.postbacks.take(&request)), false, &bodies)
    });
}

#[divan::bench]
fn forged(bencher: divan::Bencher<'_, '_>) {
    let (mut bench, bodies) = (Bench::new(), RefusedBodies::default());
    let mut click = bench.click_id();
    let last = if click.pop() == Some('0') { '1' } else { '0' };
    let query = format!("click_id={click}{last}&event=sale&txn_id=T-1&amount=15.10");
    bencher.bench_local(|| {
        let request = postback(&query);
        reply::postback(&bench.rounds.drive(bench.postbacks.take(&request)), false, &bodies)
    });
}
