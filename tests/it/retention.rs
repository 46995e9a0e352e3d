//! What is let go is old by the time that has passed, not by a clock that jumps.

use crate::harness::{Setup, eventually, let_the_clock_move_on};

const DAY_MS: i64 = 24 * 60 * 60 * 1000;
const AHEAD: &str = "postbackd_retention_clock_ahead_seconds";

#[test]
fn a_clock_that_is_ahead_at_a_start_frees_nothing_that_was_counted() {
    let mut server = Setup::new().on_faulty_disk().start();
    let sell = |txn: &str| {
        let click = server.click("offer=spring&aff=pub-7");
        let sale = format!("click_id={click}&event=sale&txn_id={txn}");
        let conversion = server.postback(&sale);
        assert_eq!(conversion.verdict(), (200, "accepted", ""));
        let_the_clock_move_on();
        (click, sale, conversion.word("conversion_id").to_owned())
    };
    // What came last is kept in any case.
    let [(click, sale, conversion), _] = ["T-1", "T-2"].map(sell);
    let refused = format!("click_id={click}&event=unheard");
    assert_eq!(server.postback(&refused).verdict().1, "refused");
    // What is not counted yet would be kept in any case.
    eventually("the sums", || {
        (server.metric("postbackd_store_uncounted_seconds") == 0.0).then_some(())
    });
    // Twice: the first start under the wrong clock is no proof of it.
    server.disk().shift_clock(401 * DAY_MS);
    for _ in 0..2 {
        server.stop();
        server.start_again();
        let ahead =
            eventually("retention", || Some(server.metric(AHEAD)).filter(|ahead| *ahead > 0.0));
        assert_eq!((ahead / (DAY_MS / 1000) as f64).round(), 401.0);
    }
    // Said when retention has come to its end.
    eventually("a warning", || {
        server.log().contains("the clock is ahead of the time that has passed").then_some(())
    });
    server.stop();
    server.disk().shift_clock(0);
    server.start_again();
    assert_eq!(server.metric(AHEAD), 0.0);
    let again = server.postback(&sale);
    assert_eq!(again.verdict(), (200, "duplicate", ""));
    assert_eq!(again.word("conversion_id"), conversion);
    assert_eq!(server.conversions("").len(), 2);
    assert_eq!(server.api(&format!("clicks/{click}"))["click_id"], click);
    assert_eq!(server.api("inbound?result=refused")["items"].as_array().map(Vec::len), Some(1));
}
