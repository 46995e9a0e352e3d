use super::*;

/// What happened to the one transaction of the book: answers in order, `None` for a lost one.
type Answers<'a> = &'a [Option<(Outcome, &'a str)>];

/// Plays `answers` for transaction `run-0-0` of click `click`, then shows the store's rows
/// (conversion, click, txn) to the audit.
fn check(answers: Answers<'_>, rows: &[(&str, &str, &str)], expected: &[&str]) {
    let mut book = Book::new("run", 0, Vec::new());
    let id = ShortText::new(b"click").expect("short");
    let click = book.add_click(Click { id, place: Place::default() });
    let transaction = book.open(click);
    for answer in answers {
        match answer {
            Some((outcome, id)) => book.note(transaction, *outcome, ShortText::new(id.as_bytes())),
            None => book.lost(transaction),
        }
    }
    let books = [book];
    let mut audit = Audit::new("run", &books, None);
    for (conversion_id, click_id, txn_id) in rows {
        audit.stored(&Stored {
            conversion_id: (*conversion_id).to_owned(),
            click_id: Some((*click_id).to_owned()),
            txn_id: Some((*txn_id).to_owned()),
            status: None,
            payout: None,
            revenue: None,
            currency: None,
        });
    }
    let verdict = audit.finish().0;
    assert_eq!(verdict.first_mismatches, expected, "{answers:?} {rows:?}");
    assert_eq!(verdict.mismatches, expected.len() as u64);
}

const ACCEPTED: Option<(Outcome, &str)> = Some((Outcome::Accepted, "c1"));
const DUPLICATE: Option<(Outcome, &str)> = Some((Outcome::Duplicate, "c1"));
const REFUSED: Option<(Outcome, &str)> = Some((Outcome::Refused, ""));
const UNAVAILABLE: Option<(Outcome, &str)> = Some((Outcome::Unavailable, ""));
const ROW: (&str, &str, &str) = ("c1", "click", "run-0-0");

#[test]
fn books_that_agree_have_no_mismatch() {
    check(&[ACCEPTED], &[ROW], &[]);
    check(&[ACCEPTED, DUPLICATE, DUPLICATE], &[ROW], &[]);
    check(&[DUPLICATE, ACCEPTED], &[ROW], &[]);
    check(&[REFUSED], &[], &[]);
    check(&[UNAVAILABLE, ACCEPTED], &[ROW], &[]);
}

#[test]
fn a_lost_request_may_be_stored_or_not() {
    check(&[None], &[], &[]);
    check(&[None], &[ROW], &[]);
    check(&[None, DUPLICATE], &[ROW], &[]);
    check(&[None, UNAVAILABLE], &[ROW], &[]);
}

#[test]
fn a_lost_request_is_never_stored_twice() {
    let twice = ["run-0-0: stored twice, as c1 and c2"];
    check(&[None], &[ROW, ("c2", "click", "run-0-0")], &twice);
}

#[test]
fn an_acknowledged_postback_is_stored_once_as_answered() {
    check(&[ACCEPTED], &[], &["run-0-0: acknowledged but not stored"]);
    check(&[None, DUPLICATE], &[], &["run-0-0: acknowledged but not stored"]);
    check(&[ACCEPTED], &[ROW, ROW], &["run-0-0: stored twice, as c1 and c1"]);
    check(&[ACCEPTED], &[("c2", "click", "run-0-0")], &["run-0-0: answered as c1, stored as c2"]);
    check(
        &[ACCEPTED],
        &[("c1", "other", "run-0-0")],
        &["run-0-0: sent for click click, stored for other"],
    );
    check(
        &[Some((Outcome::Accepted, ""))],
        &[ROW],
        &["run-0-0: acknowledged without a conversion_id"],
    );
}

#[test]
fn answers_do_not_contradict_each_other() {
    check(&[ACCEPTED, ACCEPTED], &[ROW], &["run-0-0: answered accepted more than once"]);
    let other = Some((Outcome::Duplicate, "c2"));
    check(&[ACCEPTED, other], &[ROW], &["run-0-0: answers name c1 and c2"]);
    check(&[DUPLICATE], &[ROW], &["run-0-0: duplicate of nothing accepted"]);
}

#[test]
fn what_was_denied_or_never_sent_is_not_stored() {
    check(&[REFUSED], &[ROW], &["run-0-0: stored although every answer denied it"]);
    check(&[UNAVAILABLE], &[ROW], &["run-0-0: stored although every answer denied it"]);
    check(&[ACCEPTED], &[ROW, ("c9", "click", "run-0-9")], &["run-0-9: stored but never sent"]);
    check(&[ACCEPTED], &[ROW, ("c9", "click", "run-x")], &["run-x: stored but never sent"]);
}

#[test]
fn conversions_of_other_runs_are_passed_over() {
    check(&[ACCEPTED], &[("c8", "click", "runner-0-0"), ROW, ("c9", "click", "earlier-0-0")], &[]);
}

#[test]
fn a_sale_earns_what_the_catalog_says_and_counts_if_it_is_acknowledged_or_stored() {
    let stored = |payout: &str, currency: &str| Stored {
        conversion_id: "c1".to_owned(),
        click_id: Some("click".to_owned()),
        txn_id: Some("run-0-0".to_owned()),
        status: None,
        payout: Some(payout.to_owned()),
        revenue: Some("20.00".to_owned()),
        currency: Some(currency.to_owned()),
    };
    let check = |answer: Option<(Outcome, &str)>, row: Option<Stored>, sales, mismatches| {
        let catalog = Catalog::of(1, 9);
        let mut book = Book::new("run", 0, Vec::new());
        let id = ShortText::new(b"click").expect("short");
        let click = book.add_click(Click { id, place: Place { offer: 0, affiliate: 4 } });
        let transaction = book.open(click);
        match answer {
            Some((outcome, id)) => book.note(transaction, outcome, ShortText::new(id.as_bytes())),
            None => book.lost(transaction),
        }
        let books = [book];
        let mut audit = Audit::new("run", &books, Some(&catalog));
        row.iter().for_each(|row| audit.stored(row));
        let (verdict, earned) = audit.finish();
        let sums = earned.get(&4).copied().unwrap_or_default();
        assert_eq!((sums.postings, sums.payout), (sales, i128::from(sales) * 15_000_000));
        assert_eq!(verdict.mismatches, mismatches, "{verdict:?}");
    };
    check(ACCEPTED, Some(stored("15.00", "USD")), 1, 0);
    check(ACCEPTED, Some(stored("15.000001", "USD")), 1, 1);
    check(ACCEPTED, Some(stored("15.00", "EUR")), 1, 1);
    check(ACCEPTED, None, 1, 1);
    check(None, Some(stored("15.00", "USD")), 1, 0);
    check(None, None, 0, 0);
    check(REFUSED, Some(stored("15.00", "USD")), 0, 1);
}

#[test]
fn a_sale_that_was_taken_back_is_reversed_and_earns_nothing() {
    let check = |answer: Option<Outcome>, status: &str, postings, mismatches: &[&str]| {
        let catalog = Catalog::of(1, 1);
        let id = ShortText::new(b"click").expect("short");
        let mut book = Book::new("run", 0, vec![Click { id, place: Place::default() }]);
        let transaction = book.open(0);
        book.note(transaction, Outcome::Accepted, ShortText::new(b"c1"));
        answer.into_iter().for_each(|answer| book.note_reversal(transaction, answer));
        let books = [book];
        let mut audit = Audit::new("run", &books, Some(&catalog));
        audit.stored(&Stored {
            conversion_id: "c1".to_owned(),
            click_id: Some("click".to_owned()),
            txn_id: Some("run-0-0".to_owned()),
            status: Some(status.to_owned()),
            payout: Some("15.00".to_owned()),
            revenue: Some("20.00".to_owned()),
            currency: Some("USD".to_owned()),
        });
        let (verdict, earned) = audit.finish();
        assert_eq!(verdict.first_mismatches, mismatches, "{answer:?} {status}");
        assert_eq!(verdict.reversed, u64::from(status == "reversed"));
        let payout = if postings == 1 { 15_000_000 } else { 0 };
        assert_eq!((earned[&0].postings, earned[&0].payout), (postings, payout));
    };
    let other = |status| format!("run-0-0: stored as {status}, which is not what was answered");
    check(None, "approved", 1, &[]);
    check(None, "reversed", 1, &[&other("reversed")]);
    check(Some(Outcome::Updated), "reversed", 2, &[]);
    check(Some(Outcome::Updated), "approved", 2, &[&other("approved")]);
    check(Some(Outcome::Unavailable), "approved", 1, &[]);
    check(Some(Outcome::Unavailable), "reversed", 1, &[&other("reversed")]);
    // The answer was lost.
    check(Some(Outcome::Other), "approved", 1, &[]);
    check(Some(Outcome::Other), "reversed", 2, &[]);
}
