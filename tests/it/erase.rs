//! Erasing what is known of a person: gone from every answer and every file, and still counted
//! once, paid as before, and sound.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::{Value, json};

use crate::crash::StopOnDrop;
use crate::harness::{Answer, Ended, Server, Setup, eventually, run};

pub const CATALOG: &str = r#"
[[advertisers]]
id = "casino"

[[offers]]
id = "roulette"
advertiser = "casino"
url = "https://casino.example/?c={click_id}"
pass_params = ["kw"]
[[offers.events]]
id = "signup"
payout = { fixed = "5", currency = "USD" }
revenue = { fixed = "8" }
[[offers.events]]
id = "deposit"
initial_status = "pending"
payout = { percent = "10" }
revenue = { percent = "20" }
[[offers.events]]
id = "bet"
repeat = "1h"
payout = { percent = "10" }
revenue = { percent = "20" }
[[offers.events]]
id = "chargeback"
reverses = ["deposit", "signup"]

[[affiliates]]
id = "ann"
"#;

/// What tells of the person that is erased: none of it may be found in a file afterwards. No two
/// have anything in common that a table file's blocks would be compressed by.
pub const PERSON: [&str; 10] = [
    "Sk68+Yb31@mZ07.test",
    "Uf73/9.1 (Vx5HwZ)",
    "https://yP38.dcQ/17Rg",
    "qzWm81vKdT",
    "hLp62XcYrn",
    "Bg94tNoAes",
    "Oe46nIbSla",
    "Mr29uGtFky",
    "Jw85xCzQoh",
    "Tv52aEpLdi",
];

pub fn server() -> Server {
    Setup::new().catalog(CATALOG.to_owned()).key("click.ip", "full").start()
}

pub fn casino(server: &Server, query: &str) -> Answer {
    Answer::of(server.get(&format!("/postback/casino?{query}")))
}

/// Accepted; its conversion's ID.
pub fn accepted(server: &Server, query: &str) -> String {
    let answer = casino(server, query);
    assert_eq!(answer.verdict(), (200, "accepted", ""), "{query}: {answer:?}");
    answer.word("conversion_id").to_owned()
}

fn duplicate_of(server: &Server, query: &str, conversion: &str) {
    let answer = casino(server, query);
    assert_eq!(answer.verdict(), (200, "duplicate", ""), "{query}: {answer:?}");
    assert_eq!(answer.word("conversion_id"), conversion, "{query}");
}

/// A click of the person.
pub fn janes_click(server: &Server) -> String {
    let target = format!(
        "/click?offer=roulette&aff=ann&redirect=false&sub1={}&sub2={}&kw={}&gdpr=1&gdpr_consent={}\
         &us_privacy={}",
        PERSON[3], PERSON[4], PERSON[5], PERSON[8], PERSON[9]
    );
    let headers = format!("User-Agent: {}\r\nReferer: {}\r\n", PERSON[1], PERSON[2]);
    let answer = server.request("GET", &target, &headers).json();
    answer["click_id"].as_str().expect("a click").to_owned()
}

/// Begins a job and waits for its end.
pub fn erase(server: &Server, body: &Value) -> Value {
    server.work("erase", body)
}

pub fn assert_sound(server: &Server) {
    let job = server.ended(&server.post_api("verify", "", ""));
    assert_eq!(job["result"]["broken"], json!([]), "{job}");
}

/// Which of the texts are in which files below a folder.
pub fn found(folder: &Path, texts: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("readable") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            // One that was just removed holds nothing.
            let Ok(bytes) = std::fs::read(&path) else { continue };
            let is_in = |text: &&&str| bytes.windows(text.len()).any(|it| it == text.as_bytes());
            found.extend(
                texts.iter().filter(is_in).map(|text| format!("{text:?} in {}", path.display())),
            );
        }
    }
    found
}

/// What money and affiliates are told, whatever becomes of a person.
fn told(server: &Server) -> Vec<Value> {
    let calls = [
        "balances?affiliate=ann",
        "ledger?affiliate=ann",
        "totals",
        "reports?group_by=affiliate,event",
        "statements?affiliate=ann&from=2020-01-01&to=2020-01-02",
    ];
    calls.map(|call| server.api(call)).to_vec()
}

/// The first job of this start of the server, if there is one.
fn first_job(server: &Server) -> Option<Value> {
    let started = |start| server.admin(&format!("/api/v1/jobs/{start}-1"));
    (1..100).map(started).find(|answer| answer.status == 200).map(|answer| answer.json())
}

#[test]
fn what_was_erased_is_in_no_file_and_everything_else_is_as_it_was() {
    let mut server = server();
    let click = janes_click(&server);
    let other = server.click("offer=roulette&aff=ann&sub1=sub-of-somebody-else");
    let signup = format!("click_id={click}&event=signup&own={}", PERSON[7]);
    let signup_id = accepted(&server, &signup);
    // In the log of postbacks as received alone.
    let again = server.postback(&signup);
    assert_eq!(again.verdict(), (200, "duplicate", ""));
    let refused = server.postback(&format!("click_id={click}&event=unheard&own={}", PERSON[7]));
    assert_eq!(refused.verdict(), (404, "refused", "unknown_event"));
    let deposit = format!(
        "click_id={click}&event=deposit&txn_id={}&customer_id={}&amount=100&own={}",
        PERSON[6],
        PERSON[0].replace('+', "%2B"),
        PERSON[7]
    );
    let deposit_id = accepted(&server, &deposit);
    let others = format!("click_id={other}&event=deposit&txn_id=T-9&customer_id=K-9&amount=7");
    let others_id = accepted(&server, &others);
    // Counted for its value of sub1, and half of it in table files, half in the log.
    let by_sub1 = |server: &Server| {
        let rows = server.api("reports?group_by=sub1")["rows"].clone();
        let subs = rows.as_array().expect("rows").iter();
        subs.filter_map(|row| row["group"]["sub1"].as_str().map(str::to_owned)).collect::<Vec<_>>()
    };
    assert!(by_sub1(&server).contains(&PERSON[3].to_owned()));
    server.stop();
    server.start_again();
    let second = janes_click(&server);
    let bet = format!(
        "click_id={second}&event=bet&customer_id={}&amount=3&own={}&paid_by={}",
        PERSON[0].replace('+', "%2B"),
        PERSON[7],
        PERSON[6]
    );
    let bet_id = accepted(&server, &bet);
    // In the log as they are; in table files a search may see none of them, by chance: compressed.
    let texts = found(&server.path("data"), &PERSON);
    for text in PERSON {
        let is_there = texts.iter().any(|found| found.starts_with(&format!("{text:?}")));
        assert!(is_there, "{text:?} would not be found: {texts:#?}");
    }
    // Each table file names its table, after the last part of that property's name.
    let in_tables = found(&server.path("data"), &["nameclicks", "nameconversions", "nameinbound"]);
    let in_tables = in_tables.iter().map(|it| it.split_once(" in ").expect("a path").1);
    let in_tables = in_tables.filter(|path| path.ends_with(".sst")).collect::<BTreeSet<_>>();
    assert_eq!(in_tables.len(), 3, "{in_tables:#?}");
    eventually("the sums", || {
        let lag = server.metric("postbackd_store_uncounted_seconds");
        (lag < 1.0).then_some(())
    });
    let before = told(&server);

    let body = json!({"advertiser": "casino", "customer_id": PERSON[0], "dry_run": true});
    let wanted = json!({"clicks": 2, "conversions": 3, "damaged": [], "dry_run": true});
    assert_eq!(erase(&server, &body), wanted);
    assert_eq!(server.conversions("customer_id=Sk68%2BYb31@mZ07.test").len(), 2);
    let body = json!({"advertiser": "casino", "customer_id": PERSON[0]});
    let wanted = json!({"clicks": 2, "conversions": 3, "damaged": [], "dry_run": false});
    assert_eq!(erase(&server, &body), wanted);
    let nothing = json!({"clicks": 0, "conversions": 0, "damaged": [], "dry_run": false});
    // RocksDB may take a moment to remove what it needs no more.
    eventually("no text in any file", || {
        let left = found(&server.path("data"), &PERSON);
        // What a search cannot see is in no file of before either.
        let is_gone = in_tables.iter().all(|path| !Path::new(path).exists());
        (left.is_empty() && is_gone).then_some(())
    });

    let check = |server: &Server| {
        assert_eq!(told(server), before);
        let subs = by_sub1(server);
        assert!(subs.contains(&"sub-of-somebody-else".to_owned()), "{subs:?}");
        assert!(!subs.contains(&PERSON[3].to_owned()), "{subs:?}");
        for id in [&click, &second] {
            let kept = server.api(&format!("clicks/{id}"));
            assert_eq!(kept["flags"], json!(["erased"]), "{kept}");
            assert_eq!((&kept["subs"], &kept["params"]), (&json!({}), &json!({})), "{kept}");
            for name in ["ip", "user_agent", "referrer", "gdpr", "gdpr_consent", "us_privacy"] {
                assert_eq!(kept[name], Value::Null, "{kept}");
            }
        }
        for (id, status) in
            [(&signup_id, "approved"), (&deposit_id, "pending"), (&bet_id, "approved")]
        {
            let kept = server.api(&format!("conversions/{id}"));
            assert_eq!(kept["flags"], json!(["erased"]), "{kept}");
            assert_eq!((&kept["txn_id"], &kept["customer_id"]), (&Value::Null, &Value::Null));
            assert_eq!((&kept["params"], &kept["status"]), (&json!({}), &json!(status)), "{kept}");
            let steps = kept["history"].as_array().expect("steps");
            assert_eq!(steps.last().expect("a step")["reason"], "erased", "{kept}");
        }
        duplicate_of(server, &signup, &signup_id);
        duplicate_of(server, &deposit, &deposit_id);
        duplicate_of(server, &bet, &bet_id);
        duplicate_of(server, &others, &others_id);
        let kept = server.api(&format!("conversions/{others_id}"));
        assert_eq!((&kept["customer_id"], &kept["flags"]), (&json!("K-9"), &json!([])));
        assert_sound(server);
    };
    check(&server);
    assert_eq!(erase(&server, &body), nothing);
    server.kill();
    server.start_again();
    check(&server);
    server.stop();
    server.start_again();
    check(&server);
    // What was sent again is erased by asking again, also where a log was written over in part.
    for round in 0..4 {
        let left = found(&server.path("data"), &PERSON);
        assert!(!left.is_empty(), "what is sent again is in the log of postbacks");
        assert_eq!(erase(&server, &body), nothing);
        eventually("no text in any file again", || {
            found(&server.path("data"), &PERSON).is_empty().then_some(())
        });
        duplicate_of(&server, &deposit, &deposit_id);
        eventually("it is on the disk", || {
            (!found(&server.path("data"), &PERSON).is_empty()).then_some(())
        });
        let again = server.api("inbound?result=duplicate&limit=1000");
        let erased = again["items"].as_array().expect("items").iter();
        let left = erased.filter(|row| row["erased"] == json!(false)).count();
        assert_eq!(left, 4, "round {round}: those of somebody else, and what came last: {again}");
    }
    let log = server.whole_log();
    assert!(PERSON.iter().all(|text| !log.contains(text)), "{log}");
}

#[test]
fn an_erased_conversion_changes_status_and_is_taken_back_as_any_other() {
    let mut server = server();
    let click = janes_click(&server);
    let deposit = |txn: &str| {
        format!("click_id={click}&event=deposit&txn_id={txn}&customer_id=jane&amount=100")
    };
    let ids: Vec<_> =
        ["A-1", "A-2", "A-3"].iter().map(|txn| accepted(&server, &deposit(txn))).collect();
    erase(&server, &json!({"click_id": click}));
    let say = |server: &Server, txn: &str, status: &str| {
        casino(server, &format!("{}&status={status}", deposit(txn)))
    };
    let status = |server: &Server, id: &str| {
        server.api(&format!("conversions/{id}"))["status"].as_str().map(str::to_owned)
    };
    // From the store, from memory and the other way round: each is told what the last one did.
    assert_eq!(say(&server, "A-1", "approved").verdict(), (200, "updated", ""));
    assert_eq!(say(&server, "A-1", "approved").verdict(), (200, "duplicate", ""));
    let lines = format!("conversion_id,status\n{},rejected\n", ids[1]);
    let uploaded = server.post_api("conversions/status", "text/csv", &lines);
    assert!(uploaded.text().contains("updated"), "{uploaded:?}");
    let again = say(&server, "A-2", "rejected");
    assert_eq!((again.word("result"), again.word("status")), ("duplicate", "rejected"));
    assert_eq!(say(&server, "A-2", "reversed").verdict(), (409, "refused", "illegal_transition"));
    let lines = "advertiser,event,txn_id,status\ncasino,deposit,A-3,approved\n";
    let uploaded = server.post_api("conversions/status", "text/csv", lines);
    assert!(uploaded.text().contains("updated"), "{uploaded:?}");
    server.kill();
    server.start_again();
    assert_eq!(status(&server, &ids[2]).as_deref(), Some("approved"));
    // A chargeback by transaction, another by the customer alone: its binding is still there.
    let chargeback = "event=chargeback&txn_id=A-1";
    let taken = casino(&server, &format!("click_id={click}&{chargeback}"));
    assert_eq!(taken.verdict(), (200, "accepted", ""), "{taken:?}");
    assert_eq!(status(&server, &ids[0]).as_deref(), Some("reversed"));
    let taken = casino(&server, "customer_id=jane&event=chargeback");
    assert_eq!(taken.verdict(), (200, "accepted", ""), "{taken:?}");
    assert_eq!(status(&server, &ids[2]).as_deref(), Some("reversed"));
    assert_eq!(status(&server, &ids[1]).as_deref(), Some("rejected"));
    let later = accepted(&server, "customer_id=jane&event=deposit&txn_id=A-4&amount=10");
    let later = server.api(&format!("conversions/{later}"));
    assert_eq!((&later["affiliate"], &later["click_id"]), (&json!("ann"), &json!(click)));
    // What an advertiser tells anew is new, and erased by asking anew; a negative event with it.
    assert_eq!(later["customer_id"], "jane");
    let done = erase(&server, &json!({"advertiser": "casino", "customer_id": "jane"}));
    assert_eq!((&done["clicks"], &done["conversions"]), (&json!(0), &json!(3)), "{done}");
    let taken = server.api(&format!("conversions/{}", taken.word("conversion_id")));
    assert_eq!(taken["params"], json!({"reverses": ids[2]}), "what it took back is no person");
    let balance = server.api("balances?affiliate=ann");
    assert_eq!(balance["balances"][0]["owed"], "0.00", "{balance}");
    assert_sound(&server);
}

#[test]
fn an_erasure_under_way_is_taken_up_after_a_kill_whatever_comes_meanwhile() {
    let mut server = server();
    let click = janes_click(&server);
    let query = |n: usize| {
        format!("click_id={click}&event=deposit&txn_id=K-{n}&customer_id=jane&amount=1&own=o-{n}")
    };
    let ids: Vec<_> = (0..300).map(|n| accepted(&server, &query(n))).collect();
    let is_over = AtomicBool::new(false);
    let sent = thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let mut sent = Vec::new();
            let mut connection = server.connect();
            for n in 1000.. {
                let target = format!("/postback/casino?{}", query(n));
                match connection.request("GET", &target, "") {
                    Ok(answer) if answer.status == 200 => sent.push(n),
                    _ if is_over.load(Ordering::Acquire) => break,
                    other => panic!("{other:?}"),
                }
                if is_over.load(Ordering::Acquire) {
                    break;
                }
            }
            sent
        });
        let body = json!({"advertiser": "casino", "customer_id": "jane"}).to_string();
        let begun = server.post_api("erase", "application/json", &body);
        assert_eq!(begun.status, 202, "{begun:?}");
        eventually("the erasure under way", || {
            let first = server.api(&format!("conversions/{}", ids[20]));
            (first["flags"] == json!(["erased"])).then_some(())
        });
        is_over.store(true, Ordering::Release);
        sender.join().expect("a sender")
    });
    server.kill();
    server.start_again();
    for (n, id) in ids.iter().enumerate() {
        eventually("the conversion erased", || {
            let kept = server.api(&format!("conversions/{id}"));
            (kept["flags"] == json!(["erased"])).then_some(())
        });
        duplicate_of(&server, &query(n), id);
    }
    for n in &sent {
        assert_eq!(casino(&server, &query(*n)).word("result"), "duplicate", "{n}");
    }
    assert_eq!(server.conversions("").len(), ids.len() + sent.len());
    eventually("the end of the erasure", || {
        (first_job(&server)?["status"] == "succeeded").then_some(())
    });
    assert_eq!(server.api("reports?group_by=sub1")["rows"].as_array().map(Vec::len), Some(1));
    assert_sound(&server);
}

#[test]
fn copies_of_the_store_that_a_kill_has_left_keep_nothing_of_what_was_erased() {
    let mut server = server();
    let click = janes_click(&server);
    let data = server.path("data");
    let copies = ["verify", "verify.tmp", "backup.partial", "backup.partial.tmp"];
    let copies = copies.map(|name| data.join(name));
    let leave = || {
        for copy in &copies {
            std::fs::create_dir_all(copy).expect("a folder");
            for entry in std::fs::read_dir(data.join("db")).expect("readable") {
                let path = entry.expect("an entry").path();
                let copied = copy.join(path.file_name().expect("a name"));
                // One that was just removed is in no copy.
                let _ = std::fs::copy(&path, copied);
            }
        }
    };
    let left = || copies.iter().filter(|copy| copy.exists()).collect::<Vec<_>>();
    server.kill();
    leave();
    assert!(!found(&copies[0], &PERSON).is_empty(), "the copy has nothing of the person");
    server.start_again();
    assert!(left().is_empty(), "{:?}", left());

    // What another process began to back up before the server was started is its own; while it is
    // at it, nobody says that all is erased.
    server.stop();
    leave();
    let other = std::fs::File::open(&data).expect("there");
    other.lock().expect("locked");
    server.start_again();
    assert_eq!(left(), [&copies[2], &copies[3]]);
    let body = json!({"click_id": click}).to_string();
    let fails = || {
        let job = server.ended(&server.post_api("erase", "application/json", &body));
        assert_eq!(job["status"], "failed", "{job}");
        assert_eq!(left(), [&copies[2], &copies[3]]);
        server.api(&format!("clicks/{click}"))["flags"] == json!(["erased"])
    };
    assert!(fails(), "erased, but not out of all files");
    // Whoever tries again looks for copies first: others want the job's turn, too.
    let id = accepted(&server, &format!("click_id={click}&event=signup"));
    std::fs::create_dir(&copies[0]).expect("a folder");
    fails();
    assert_eq!(server.api(&format!("conversions/{id}"))["flags"], json!([]));
    drop(other);
    erase(&server, &json!({"click_id": click}));
    assert_eq!(server.api(&format!("conversions/{id}"))["flags"], json!(["erased"]));
    eventually("no text in any file", || found(&data, &PERSON).is_empty().then_some(()));
    assert!(left().is_empty(), "{:?}", left());
}

#[test]
fn others_have_their_turn_between_erasures_that_a_start_takes_up() {
    let mut server = server();
    let clicks: Vec<_> = (0..20).map(|_| janes_click(&server)).collect();
    server.stop();
    // While a backup seems to be under way, each is begun and fails.
    let other = std::fs::File::open(server.path("data")).expect("there");
    other.lock().expect("locked");
    server.start_again();
    for click in &clicks {
        let body = json!({"click_id": click}).to_string();
        let job = server.ended(&server.post_api("erase", "application/json", &body));
        assert_eq!(job["status"], "failed", "{job}");
    }
    server.stop();
    drop(other);
    server.start_again();
    eventually("the first of them", || first_job(&server));
    let begun = eventually("a turn", || {
        let begun = server.post_api("verify", "", "");
        (begun.status == 202).then_some(begun)
    });
    let id = begun.json()["job_id"].clone();
    let number = id.as_str().and_then(|id| id.split_once('-'));
    let before: usize = number.and_then(|(_, number)| number.parse().ok()).expect("a number");
    assert!(before <= 3, "{before} jobs were begun before");
    server.ended(&begun);
}

#[test]
fn erasing_leaves_the_log_whole_at_every_kill() {
    let mut server = server();
    let mut known = Vec::new();
    for round in 0..3 {
        let clicks: Vec<_> = (0..10).map(|_| janes_click(&server)).collect();
        let is_over = AtomicBool::new(false);
        let sent = thread::scope(|scope| {
            let sender = scope.spawn(|| {
                let mut sent = Vec::new();
                let mut connection = server.connect();
                while !is_over.load(Ordering::Acquire) {
                    let n = sent.len();
                    let click = &clicks[n % clicks.len()];
                    let query =
                        format!("click_id={click}&event=deposit&txn_id=R{round}-{n}&amount=1");
                    let answer = connection.request("GET", &format!("/postback?{query}"), "");
                    let answer = answer.expect("an answer").json();
                    assert_eq!(answer["result"], "accepted", "{answer}");
                    sent.push((query, answer["conversion_id"].as_str().expect("an ID").to_owned()));
                }
                sent
            });
            // Also if an erasure fails: the sender would go on for ever.
            let ends = StopOnDrop(&is_over);
            // Each empties the logs that are over, while new ones begin.
            for click in &clicks[..3] {
                erase(&server, &json!({"click_id": click}));
            }
            drop(ends);
            sender.join().expect("a sender")
        });
        known.extend(sent);
        server.kill();
        server.start_again();
    }
    let mut connection = server.connect();
    for (query, id) in &known {
        let answer = connection.request("GET", &format!("/postback?{query}"), "");
        let answer = Answer::of(answer.expect("an answer"));
        assert_eq!((answer.word("result"), answer.word("conversion_id")), ("duplicate", &**id));
    }
    assert_eq!(server.conversions("").len(), known.len());
    assert_sound(&server);
}

#[test]
fn what_names_nobody_is_not_erased_and_the_command_says_what_was() {
    let server = server();
    let click = janes_click(&server);
    let check = |body: Value, code: &str| {
        let answer = server.post_api("erase", "application/json", &body.to_string());
        assert_eq!((answer.status, &answer.json()["error"]["code"]), (400, &json!(code)), "{body}");
    };
    check(json!({}), "bad_parameter");
    check(json!({"advertiser": "casino"}), "bad_parameter");
    check(json!({"advertiser": "casino", "customer_id": ""}), "bad_parameter");
    check(json!({"advertiser": "casino", "customer_id": "x".repeat(300)}), "bad_parameter");
    check(json!({"click_id": click, "customer_id": "x"}), "bad_parameter");
    check(json!({"click_id": "nonsense"}), "bad_click_id");
    check(json!({"click_id": click, "all": true}), "bad_body");
    let nobody = erase(&server, &json!({"advertiser": "casino", "customer_id": "nobody"}));
    assert_eq!(nobody, json!({"clicks": 0, "conversions": 0, "damaged": [], "dry_run": false}));

    let folder = server.path(".");
    let run = |arguments: &[&str]| {
        let command = ["erase", "--config", "postbackd.toml"];
        let Ended { code, out, err } = run(&folder, &[&command, arguments].concat());
        (code, out, err)
    };
    let (code, said, error) = run(&["--click", &click, "--dry-run"]);
    assert_eq!((code, &*said), (Some(0), "would be erased: 1 clicks, 0 conversions\n"), "{error}");
    let (code, said, _) = run(&["--click", &click]);
    assert_eq!((code, &*said), (Some(0), "erased: 1 clicks, 0 conversions\n"));
    let (code, said, _) = run(&["--customer", "casino", "nobody"]);
    assert_eq!((code, &*said), (Some(0), "erased: 0 clicks, 0 conversions\n"));
    let (code, _, error) = run(&[]);
    assert_eq!(code, Some(2));
    for target in ["--click <CLICK_ID>", "--customer <ADVERTISER> <CUSTOMER_ID>"] {
        assert!(error.contains(target), "{error}");
    }
    assert_eq!(run(&["--click", &click, "--customer", "casino", "nobody"]).0, Some(2));
    assert_eq!(run(&["--click", "nonsense"]).0, Some(1));
    let mut server = server;
    server.stop();
    let (_, _, error) = run(&["--click", &click]);
    assert!(error.contains("no server runs"), "{error}");
}
