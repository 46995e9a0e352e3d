//! Caps in total: they count what was paid from the first conversion on, whatever has been let go.

use std::time::{Duration, Instant};

use postbackd::store::Retention;
use serde_json::{Value, json};

use crate::caps::{SALE, all_accepted, catalog, insist, kept, sales, server};
use crate::harness::{PATIENCE, Server, eventually, run};
use crate::once::at_once;
use crate::verify;

/// All affiliates together, each, and one of them.
const CAPS: &str = r#"
[[offers.caps]]
period = "total"
count = 10
[[offers.caps]]
scope = "affiliate"
period = "total"
payout = "13.00"
[[offers.caps]]
affiliate = "pub-8"
period = "total"
events = ["sale"]
count = 3
[[affiliates]]
id = "pub-10"
"#;

/// What 500 days without traffic do, up to the moment: everything is let go, but for what came in
/// the last millisecond, which is another offer's.
fn let_everything_go(server: &mut Server) {
    let newest = |server: &Server, offer: &str| {
        let all = server.conversions(&format!("offer={offer}"));
        all.last().map(|last| last["received_time"].as_str().expect("a time").to_owned())
    };
    eventually("a later millisecond", || {
        let click = server.click("offer=spring&aff=pub-7");
        let answer = server.postback(&format!("click_id={click}&event=sale"));
        assert_eq!(answer.verdict(), (200, "accepted", ""));
        (newest(server, "spring") > newest(server, "limited")).then_some(())
    });
    server.stop();
    {
        let store = verify::open(&server.path("data"));
        store.catch_up(Instant::now() + PATIENCE).expect("counted");
        let day = Duration::from_secs(24 * 60 * 60);
        let now = std::time::UNIX_EPOCH.elapsed().expect("after 1970") + 500 * day;
        let now_ms = u64::try_from(now.as_millis()).expect("soon");
        let kept = Retention {
            clicks: 90 * day,
            conversions: 400 * day,
            audit: 400 * day,
            inbound: 30 * day,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        assert_eq!(runtime.block_on(store.expire(now_ms, 500 * day, kept)), Ok(true));
        store.close();
    }
    server.start_again();
    assert_eq!(kept(server, ""), Vec::<Value>::new());
}

fn of(kept: &[Value], payout: &str, reason: &str) -> usize {
    kept.iter().filter(|c| c[0] == payout && c[2] == reason).count()
}

fn reload(server: &Server, text: &str) {
    server.reload_catalog(&catalog(text));
}

fn check_sound(server: &mut Server) {
    server.stop();
    let ended = run(&server.path("."), &["verify", "--store", "data"]);
    assert_eq!((ended.code, &*ended.err), (Some(0), ""), "{}", ended.out);
}

#[test]
fn a_total_counts_what_was_let_go_for_the_offer_and_each_affiliate() {
    let mut server = server(&format!("{SALE}{CAPS}"));
    all_accepted(&server, &sales(&server, "pub-7", "A", 4));
    all_accepted(&server, &sales(&server, "pub-8", "B", 1));
    // Reversed or rejected later, it stays paid; pending, it counts; rejected at once, it does not.
    let more = sales(&server, "pub-8", "C", 2);
    all_accepted(&server, &[format!("{}&status=pending", more[0])]);
    all_accepted(&server, &[format!("{}&status=rejected", more[1])]);
    for (status, to) in [("rejected", &more[0]), ("reversed", &sales(&server, "pub-7", "A", 1)[0])]
    {
        let target = to.replace("/postback?", "");
        assert_eq!(server.postback(&format!("{target}&status={status}")).word("result"), "updated");
    }
    let_everything_go(&mut server);
    // 8.00 of 13.00 are paid, and 6 of 10.
    all_accepted(&server, &sales(&server, "pub-7", "D", 3));
    let now = kept(&server, "affiliate=pub-7");
    assert_eq!(of(&now, "2.00", "postback"), 2, "{now:?}");
    assert_eq!(of(&now, "0.00", "cap:affiliate:total:payout"), 1, "{now:?}");
    server.kill();
    server.start_again();
    // 2 of 3.
    for answer in at_once(&server, &sales(&server, "pub-8", "E", 16)) {
        assert_eq!(answer.verdict(), (200, "accepted", ""));
    }
    let now = kept(&server, "affiliate=pub-8");
    assert_eq!(of(&now, "2.00", "postback"), 1, "{now:?}");
    assert_eq!(of(&now, "0.00", "cap:pub-8:total:count"), 15, "{now:?}");
    let_everything_go(&mut server);
    // 9 of 10, and nobody else has anything.
    all_accepted(&server, &sales(&server, "pub-10", "F", 16));
    let now = kept(&server, "");
    assert_eq!(of(&now, "2.00", "postback"), 1, "{now:?}");
    assert_eq!(of(&now, "0.00", "cap:offer:total:count"), 15, "{now:?}");
    check_sound(&mut server);
}

#[test]
fn a_total_that_comes_later_counts_from_the_first_conversion_on() {
    let month = "[[offers.caps]]\nperiod = \"month\"\ncount = 1000\n";
    let total =
        |count: u32| format!("{SALE}{month}[[offers.caps]]\nperiod = \"total\"\ncount = {count}\n");
    let paid = |server: &Server| {
        let kept = kept(server, "");
        let over = of(&kept, "0.00", "cap:offer:total:count");
        assert_eq!(of(&kept, "2.00", "postback") + over, kept.len(), "{kept:?}");
        kept.len() - over
    };
    let mut server = server(SALE);
    all_accepted(&server, &sales(&server, "pub-7", "A", 3));
    let_everything_go(&mut server);
    // It is counted by the month already when the total comes.
    reload(&server, &format!("{SALE}{month}"));
    all_accepted(&server, &sales(&server, "pub-7", "B", 4));
    reload(&server, &total(12));
    all_accepted(&server, &sales(&server, "pub-7", "C", 32));
    assert_eq!(paid(&server), 12 - 3);
    // What is paid without a cap counts when there is one again.
    for (limits, name) in [(format!("{SALE}{month}"), "D"), (SALE.to_owned(), "E")] {
        reload(&server, &limits);
        all_accepted(&server, &sales(&server, "pub-7", name, 5));
        reload(&server, &total(20));
    }
    assert_eq!(paid(&server), 22 - 3);
    all_accepted(&server, &sales(&server, "pub-7", "F", 1));
    assert_eq!(paid(&server), 22 - 3);
    reload(&server, &total(24));
    server.kill();
    server.start_again();
    all_accepted(&server, &sales(&server, "pub-7", "G", 32));
    assert_eq!(paid(&server), 24 - 3);
    check_sound(&mut server);
}

#[test]
fn a_total_that_comes_under_load_lets_nobody_wait_in_vain() {
    const CLIENTS: usize = 8;
    const EACH: usize = 150;
    const MOST: usize = 700;
    let month = "[[offers.caps]]\nperiod = \"month\"\ncount = 100000\n";
    let server = server(&format!("{SALE}{month}"));
    let before = server.catalog_version();
    let targets: Vec<_> =
        (0..CLIENTS).map(|n| sales(&server, "pub-7", &format!("C{n}-"), EACH)).collect();
    let public = server.public;
    let started = Instant::now();
    std::thread::scope(|scope| {
        for targets in &targets {
            scope.spawn(move || targets.iter().for_each(|target| insist(public, target)));
        }
        let total = format!("[[offers.caps]]\nperiod = \"total\"\ncount = {MOST}\n");
        reload(&server, &format!("{SALE}{month}{total}"));
    });
    assert!(started.elapsed() < Duration::from_secs(15), "somebody waited for a meter in vain");
    assert_eq!(server.metric("postbackd_postbacks_total{result=\"unavailable\"}"), 0.0);
    let all = server.conversions("offer=limited");
    assert_eq!(all.len(), CLIENTS * EACH);
    let paid = |c: &&Value| c["payout"] == json!("2.00");
    let old = all.iter().filter(|c| c["catalog_version"] == before).count();
    assert_eq!(all.iter().filter(paid).count(), MOST.max(old));
}
