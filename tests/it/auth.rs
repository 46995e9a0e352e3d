//! Advertisers whose senders have to show who they are: tokens, signatures, addresses; enforced,
//! or looked on at.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use postbackd::auth::{Canonical, SecretSource, SigningKey, hash_text};
use postbackd::model::hex::hex;
use serde_json::json;
use tempfile::TempDir;

use crate::harness::{
    Answer, Connection, Ended, Response, Server, Setup, binary, eventually, let_the_clock_move_on,
};
use crate::inbound::{grep, judged, log_of};

pub const KEY: &str = "a-key-that-signs";
const NEXT_KEY: &str = "the-next-key";

/// A server, and the folder of its secrets.
struct World {
    server: Server,
    secrets: TempDir,
}

/// An advertiser with an offer of the same name.
fn advertiser(id: &str, more: &str) -> String {
    format!(
        "[[advertisers]]\nid = \"{id}\"\n{more}\n\
         [[offers]]\nid = \"{id}\"\nadvertiser = \"{id}\"\nurl = \"https://a.example/?c={{click_id}}\"\n\
         [[offers.events]]\nid = \"sale\"\npayout = {{ percent = \"10\", currency = \"USD\" }}\n"
    )
}

/// Of an advertiser that has names of its own for what is secret.
const OWN_NAMES: &str = "params = { token = \"pass\", sig = \"mac\", nonce = \"salt\" }";

/// Of an advertiser whose token has another name than before.
fn renamed(mode: &str) -> String {
    let [past, valid, future] = RENAMED.map(hash_text);
    format!(
        "params = {{ token = \"key\" }}\nauth = {{ mode = \"{mode}\", tokens = [\
         {{ secret = \"{past}\", until = \"2020-01-01\" }}, {{ secret = \"{valid}\" }}, \
         {{ secret = \"{future}\", from = \"2999-01-01\" }}] }}"
    )
}

/// Its tokens: that of the past, the valid one, that of the future.
const RENAMED: [&str; 3] = ["past-5ecre7", "valid-5ecre7", "future-5ecre7"];

fn catalog(secrets: &TempDir) -> String {
    let key = format!("{{ secret = \"file:{}\" }}", secrets.path().join("key").display());
    let next = format!("{{ secret = \"file:{}\" }}", secrets.path().join("next").display());
    let token = |text: &str| format!("{{ secret = \"{}\" }}", hash_text(text));
    let dated = |text: &str, more: &str| format!("{{ secret = \"{}\", {more} }}", hash_text(text));
    let all =
        format!("tokens = [{}], hmac = [{key}], allow_ips = [\"203.0.113.0/24\"]", token("t0ken"));
    let rotating = [
        dated("past", "until = \"2020-01-01\""),
        dated("old", "until = \"2999-01-01\""),
        dated("new", "from = \"2020-01-01\""),
        dated("future", "from = \"2999-01-01\""),
    ];
    [
        advertiser("open", ""),
        advertiser("token", &format!("auth = {{ tokens = [{}] }}", rotating.join(", "))),
        advertiser("other", &format!("auth = {{ tokens = [{}] }}", token("others"))),
        advertiser("signed", &format!("auth = {{ hmac = [{key}, {next}] }}")),
        advertiser(
            "nonce",
            &format!("auth = {{ hmac = [{key}], nonce = true, ts_window = \"1h\" }}"),
        ),
        advertiser(
            "ip",
            "auth = { allow_ips = [\"203.0.113.0/24\", \"2001:db8::7\", \"::ffff:192.0.2.0/120\", \"::ffff:198.18.0.1\"] }",
        ),
        advertiser("all", &format!("auth = {{ {all} }}")),
        advertiser("shadow", &format!("auth = {{ mode = \"shadow\", {all} }}"))
            + "[[offers.events]]\nid = \"refund\"\nreverses = [\"sale\"]\n",
        advertiser(
            "mixed",
            &format!("auth = {{ {all}, modes = {{ hmac = \"shadow\", allow_ips = \"shadow\" }} }}"),
        ),
        advertiser(
            "affise",
            &format!("preset = \"affise\"\nauth = {{ tokens = [{}] }}", token("t0ken")),
        ),
        advertiser(
            "tune",
            &format!("preset = \"tune\"\nauth = {{ tokens = [{}] }}", token("t0ken")),
        ),
        advertiser(
            "renamed",
            &format!("preset = \"affise\"\nanswer = \"json\"\nauth = {{ hmac = [{key}] }}"),
        ),
        advertiser("own", OWN_NAMES),
        advertiser(
            "moved",
            &format!(
                "params = {{ token = \"api_key\", ts = \"sig_time\" }}\n\
                 auth = {{ tokens = [{}], hmac = [{key}] }}",
                token("t0ken")
            ),
        ),
        advertiser("timed", "params = { ts = \"sig_time\" }"),
        advertiser("renamed_token", &renamed("enforce")),
        advertiser("renamed_in_shadow", &renamed("shadow")),
        // Its token has the standard name again.
        advertiser("named_back", &renamed("shadow").replace("params = { token = \"key\" }", "")),
        "[[affiliates]]\nid = \"ann\"\n".to_owned(),
    ]
    .join("\n")
}

pub fn secrets() -> TempDir {
    let secrets = tempfile::tempdir().expect("a folder");
    std::fs::write(secrets.path().join("key"), format!("{KEY}\n")).expect("writable");
    std::fs::write(secrets.path().join("next"), NEXT_KEY).expect("writable");
    secrets
}

fn world() -> World {
    let secrets = secrets();
    let setup =
        Setup::new().catalog(catalog(&secrets)).key("server.trusted_proxies", "127.0.0.0/8");
    World { server: setup.start(), secrets }
}

impl World {
    fn click(&self, offer: &str) -> String {
        self.server.click(&format!("offer={offer}&aff=ann"))
    }

    fn from(&self, address: &str, target: &str) -> Answer {
        let forwarded = format!("X-Forwarded-For: {address}\r\n");
        Answer::of(self.server.request("GET", target, &forwarded))
    }

    /// Asks `/postback/{advertiser}`; status and the reason, or the result if there is none.
    fn ask(&self, advertiser: &str, query: &str) -> (u16, String) {
        told(&Answer::of(self.server.get(&format!("/postback/{advertiser}?{query}"))))
    }

    fn checks(&self, check: &str) -> [f64; 3] {
        ["passed", "shadowed", "refused"].map(|result| {
            let series =
                format!("postbackd_auth_checks_total{{check=\"{check}\",result=\"{result}\"}}");
            self.server.metric(&series)
        })
    }
}

fn told(answer: &Answer) -> (u16, String) {
    let (status, result, reason) = answer.verdict();
    (status, if reason.is_empty() { result } else { reason }.to_owned())
}

fn is(status: u16, word: &str) -> (u16, String) {
    (status, word.to_owned())
}

pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

fn key(text: &str) -> SigningKey {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("key");
    std::fs::write(&path, text).expect("writable");
    SigningKey::new(SecretSource::File(&path).read().expect("a secret"))
}

/// A query string, as a sender signs it.
pub fn signed_by(secret: &str, pairs: &[(&str, &str)]) -> String {
    let mut canonical = Canonical::default();
    pairs.iter().for_each(|(name, value)| canonical.add(name, value));
    let text = String::from_utf8(canonical.into_text()).expect("ASCII");
    let signature = hex(&key(secret).sign(text.as_bytes()));
    format!("{text}&sig={signature}")
}

fn signed(pairs: &[(&str, &str)]) -> String {
    let ts = now().to_string();
    signed_by(KEY, &[pairs, &[("ts", ts.as_str())]].concat())
}

#[test]
fn a_secrets_name_that_was_replaced_means_nothing_any_more_and_is_not_kept() {
    let world = world();
    let check = |id: &str, query: &str, (status, word): (u16, &str)| {
        let query = query.replace("{click}", &world.click(id));
        assert_eq!(world.ask(id, &query), is(status, word), "{query}");
    };
    check("timed", "click_id={click}&event=sale&ts=77001&sig_time=77002&kept=x", (200, "accepted"));
    let affise = "clickid={click}&goal=sale&kept=x";
    check("affise", &format!("{affise}&secure=t0ken&token=hunter2"), (200, "accepted"));
    check("affise", &format!("{affise}&token=t0ken"), (200, "bad_token"));
    let (click, now) = (world.click("moved"), now().to_string());
    let said = |key: &str, ts: &str, sig_time: &str| {
        let pairs =
            [("click_id", &*click), ("event", "sale"), ("api_key", key), ("token", "hunter2")];
        let times = [("ts", ts), ("sig_time", sig_time), ("kept", "x")];
        signed_by(KEY, &[&pairs[..], &times].concat())
    };
    assert_eq!(world.ask("moved", &said("t0ken", &now, "77001")), is(401, "stale_signature"));
    assert_eq!(world.ask("moved", &said("hunter2", "77001", &now)), is(401, "bad_token"));
    assert_eq!(world.ask("moved", &said("t0ken", "77001", &now)), is(200, "accepted"));
    let kept = world.server.conversions("");
    let params: Vec<_> = kept.iter().map(|one| one["params"].to_string()).collect();
    assert_eq!(params, [r#"{"kept":"x"}"#; 3]);
    let inbound = world.server.api("inbound").to_string();
    for secret in ["hunter2", "77001", "77002", "t0ken"] {
        assert!(!inbound.contains(secret), "{secret}: {inbound}");
    }
}

#[test]
fn a_token_under_the_name_that_it_had_before_is_kept_nowhere() {
    let mut world = world();
    for id in ["renamed_token", "renamed_in_shadow", "named_back"] {
        let is_taken = id != "renamed_token";
        let first = if is_taken { is(200, "accepted") } else { is(401, "bad_token") };
        let then = if is_taken { is(200, "duplicate") } else { first.clone() };
        for token in RENAMED {
            let click = world.click(id);
            let within = format!("&sub3=+{token}&own=y%3Fpw%3D{token}%26z%3D1");
            for (txn_id, more) in [("alone", ""), ("within", &within)] {
                let txn_id = format!("{txn_id}-{}", token.len());
                let query = format!(
                    "click_id={click}&event=sale&txn_id={txn_id}&amount=1&kept=x&pw={token}{more}"
                );
                let asked = ["nobody", id, id].map(|path| world.ask(path, &query));
                let nobody = is(404, "unknown_advertiser");
                assert_eq!(asked, [nobody, first.clone(), then.clone()], "{query}");
            }
        }
    }
    let conversions = world.server.conversions("");
    assert_eq!(conversions.len(), 2 * 2 * RENAMED.len());
    for one in conversions {
        let is_alone = one["txn_id"].as_str().is_some_and(|id| id.starts_with("alone"));
        let params =
            if is_alone { json!({ "kept": "x" }) } else { json!({ "kept": "x", "own": "y" }) };
        assert_eq!(one["params"], params, "{one}");
        assert_eq!(one["flags"], json!(["unauthenticated", "parameters_left_out"]), "{one}");
    }
    // The parameter of one whose tokens it is none of.
    assert_eq!(world.ask("open", "click_id=x&kept=valid-5ecre"), is(400, "malformed_click_id"));
    log_of(&world.server, "advertiser=open", 1);
    assert!(world.server.api("inbound").to_string().contains("valid-5ecre"));
    world.server.stop();
    let found = grep(&world.server.path("data"), &["5ecre7"]);
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn of_several_tokens_those_that_are_valid_count() {
    let world = world();
    let click = world.click("token");
    let check = |more: &str, expected: (u16, String)| {
        let query = format!("click_id={click}&event=sale&txn_id=T{more}");
        assert_eq!(world.ask("token", &query), expected, "{more}");
        let shared = Answer::of(world.server.get(&format!("/postback?{query}")));
        // On the shared path it comes second.
        let second = if expected.0 == 200 { is(200, "duplicate") } else { expected };
        assert_eq!(told(&shared), second, "{more}, by the click");
    };
    for bad in [
        "",
        "&token=",
        "&token=Old",
        "&token=old+",
        "&token=past",
        "&token=future",
        "&token=others",
    ] {
        check(bad, is(401, "bad_token"));
    }
    check("1&token=old", is(200, "accepted"));
    check("2&token=new", is(200, "accepted"));
    let kept = world.server.conversions("offer=token");
    assert_eq!(kept.len(), 2, "what was refused left nothing");
    assert!(!format!("{kept:?}").contains("unauthenticated"));
    assert_eq!(world.checks("token"), [4.0, 0.0, 14.0]);
    assert_eq!(world.checks("ip"), [0.0; 3]);
    let of_another = world.ask("open", &format!("click_id={click}&event=sale&token=old"));
    assert_eq!(of_another, is(403, "wrong_advertiser"), "no detour by one that checks nothing");
}

#[test]
fn without_credentials_nothing_is_learned_of_clicks_or_customers() {
    let world = world();
    let click = world.click("token");
    let forged = format!("{}0", &click[..32]);
    let forged = if forged == click { format!("{}1", &click[..32]) } else { forged };
    let known = format!("click_id={click}&event=sale&txn_id=T&customer_id=C&token=new");
    assert_eq!(world.ask("token", &known), is(200, "accepted"));
    let there = "customer_id=C&event=sale&txn_id=T2";
    for query in [
        format!("click_id={click}&event=sale&txn_id=T").as_str(),
        format!("click_id={forged}&event=sale").as_str(),
        "click_id=%7Bclick_id%7D",
        "event=none",
        "",
        there,
        "customer_id=D&event=sale",
    ] {
        for more in ["", "&dry_run=1", "&token=guess"] {
            let answer = world.ask("token", &format!("{query}{more}"));
            assert_eq!(answer, is(401, "bad_token"), "{query}{more}");
        }
    }
    let with = |query: &str| world.ask("token", &format!("{query}&token=old"));
    assert_eq!(with(&format!("click_id={forged}&event=sale")), is(404, "forged_click_id"));
    assert_eq!(with("customer_id=D&event=sale"), is(404, "unknown_customer"));
    assert_eq!(with(there), is(200, "accepted"));
    let head = world.server.request("HEAD", "/postback/token?event=none", "");
    assert_eq!((head.status, head.header("x-postback-reason")), (401, Some("bad_token")));
}

#[test]
fn a_signature_holds_for_all_parameters_and_for_nothing_else() {
    let world = world();
    let click = world.click("signed");
    let ts = now().to_string();
    let pairs = [
        ("click_id", click.as_str()),
        ("event", "sale"),
        ("txn_id", "A/1 ü"),
        ("amount", "15.00"),
        ("note", "a&b=c"),
        ("empty", ""),
        ("ts", ts.as_str()),
    ];
    let whole = signed_by(KEY, &pairs);
    let (text, signature) = whole.split_once("&sig=").expect("signed");
    for at in 0..pairs.len() {
        let mut other = pairs.to_vec();
        other[at].1 = if pairs[at].0 == "amount" { "150.0" } else { "x" };
        let changed = signed_by(KEY, &other);
        let changed = changed.split_once("&sig=").expect("signed").0;
        let answer = world.ask("signed", &format!("{changed}&sig={signature}"));
        assert_eq!(answer, is(401, "bad_signature"), "{:?}", other[at]);
        other.remove(at);
        let without = signed_by(KEY, &other);
        let without = without.split_once("&sig=").expect("signed").0;
        let answer = world.ask("signed", &format!("{without}&sig={signature}"));
        assert_eq!(answer, is(401, "bad_signature"), "without {}", pairs[at].0);
    }
    let last = if signature.ends_with('0') { "1" } else { "0" };
    let almost = format!("&sig={}{last}", &signature[..63]);
    let (more, twice) = (format!("&x=1&sig={signature}"), format!("&sig={signature}&amount=15.00"));
    for more in ["", "&sig=", "&sig=zz", &*almost, &*more, &*twice] {
        let answer = world.ask("signed", &format!("{text}{more}"));
        assert_eq!(answer, is(401, "bad_signature"), "{more}");
    }
    assert_eq!(world.ask("signed", &signed_by("another", &pairs)), is(401, "bad_signature"));
    assert_eq!(world.server.conversions("offer=signed"), [] as [serde_json::Value; 0]);
    // In another order and encoding, in upper case, by HEAD: the same parameters.
    let mut parts: Vec<_> = text.split('&').collect();
    parts.reverse();
    let reversed = parts.join("&").replace("%20", "+");
    let upper = signature.to_ascii_uppercase();
    let head =
        world.server.request("HEAD", &format!("/postback/signed?sig={upper}&{reversed}"), "");
    assert_eq!((head.status, head.header("x-postback-result")), (200, Some("accepted")));
    assert_eq!(world.ask("signed", &format!("sig={upper}&{reversed}")), is(200, "accepted"));
    assert_eq!(world.ask("signed", &whole), is(200, "duplicate"), "sent again");
    let shared = Answer::of(world.server.get(&format!("/postback?{whole}")));
    assert_eq!(told(&shared), is(200, "duplicate"), "by the click");
    let next = signed_by(NEXT_KEY, &pairs);
    assert_eq!(world.ask("signed", &next), is(200, "duplicate"), "the next secret is valid, too");
    let kept = world.server.conversions("offer=signed");
    assert_eq!(kept.len(), 1);
    let params = kept[0]["params"].to_string();
    assert!(
        params.contains("note") && !params.contains(signature) && !params.contains(&ts),
        "{params}"
    );
}

#[test]
fn what_is_signed_means_the_same_on_every_path_or_is_refused() {
    let world = world();
    let click = world.click("renamed");
    let query =
        signed(&[("clickid", &click), ("goal", "sale"), ("action_id", "O-1"), ("sum", "9")]);
    assert_eq!(world.ask("renamed", &query), is(200, "accepted"));
    // Here `action_id` is no order.
    for path in ["/postback", "/track/conv/renamed", "/acquisition/renamed", "/click.php/renamed"] {
        let again = told(&Answer::of(world.server.get(&format!("{path}?{query}"))));
        assert_eq!(again, is(401, "bad_signature"), "{path}");
    }
    assert_eq!(world.server.conversions("offer=renamed").len(), 1);
}

#[test]
fn bodies_are_signed_like_queries() {
    let world = world();
    let click = world.click("signed");
    let ts = now().to_string();
    let mut connection = Connection::open(world.server.public);
    let mut post = |query: &str, kind: &str, body: &str| {
        let target = format!("/postback/signed?{query}");
        told(&Answer::of(connection.post(&target, kind, body.as_bytes()).expect("an answer")))
    };
    let pairs = [
        ("click_id", &*click),
        ("event", "sale"),
        ("txn_id", "B"),
        ("amount", "15.10"),
        ("ts", &*ts),
    ];
    let signature = signed_by(KEY, &pairs);
    let signature = signature.split_once("&sig=").expect("signed").1;
    let query = format!("click_id={click}&sig={signature}");
    let form = format!("event=sale&txn_id=B&amount=15.10&ts={ts}");
    assert_eq!(post(&query, "", &form.replace("15.10", "95.10")), is(401, "bad_signature"));
    assert_eq!(post(&query, "", &form), is(200, "accepted"));
    let json = format!(
        "{{\"event\":\"sale\",\"txn_id\":\"\\u0042\",\"amount\":15.10,\"ts\":{ts},\"x\":null}}"
    );
    assert_eq!(post(&query, "application/json", &json), is(200, "duplicate"));
    let other = json.replace("15.10", "15.1");
    assert_eq!(post(&query, "application/json", &other), is(401, "bad_signature"), "as written");
}

#[test]
fn a_signature_is_good_for_a_while_and_a_nonce_for_one_signature() {
    let world = world();
    let click = world.click("nonce");
    let ask = |txn: &str, amount: &str, ts: u64, nonce: &[(&str, &str)]| {
        let ts = ts.to_string();
        let pairs = [
            ("click_id", &*click),
            ("event", "sale"),
            ("txn_id", txn),
            ("amount", amount),
            ("ts", &*ts),
        ];
        world.ask("nonce", &signed_by(KEY, &[&pairs[..], nonce].concat()))
    };
    let n = |nonce: &'static str| [("nonce", nonce)];
    assert_eq!(ask("A", "1", now(), &[]), is(401, "bad_signature"), "a nonce must be there");
    assert_eq!(ask("A", "1", now() - 3700, &n("a")), is(401, "stale_signature"));
    assert_eq!(ask("A", "1", now() + 3700, &n("a")), is(401, "stale_signature"));
    let ts = now() - 3000;
    let dry = [("nonce", "a"), ("dry_run", "1")];
    assert_eq!(ask("A", "1", ts, &dry), is(200, "accepted"), "a dry run uses nothing up");
    assert_eq!(ask("A", "1", ts, &n("a")), is(200, "accepted"));
    assert_eq!(ask("A", "1", ts, &n("a")), is(200, "duplicate"), "a retry");
    assert_eq!(ask("A", "2", ts, &n("a")), is(401, "replayed_nonce"));
    assert_eq!(ask("B", "1", ts, &n("a")), is(401, "replayed_nonce"));
    assert_eq!(ask("A", "1", ts + 1, &n("a")), is(401, "replayed_nonce"));
    assert_eq!(ask("A", "1", ts, &dry), is(401, "replayed_nonce"));
    assert_eq!(ask("B", "1", ts, &n("b")), is(200, "accepted"));
    let pairs = [("click_id", &*click), ("event", "sale"), ("nonce", "c")];
    let answer = world.ask("nonce", &signed_by(KEY, &pairs));
    assert_eq!(answer, is(401, "stale_signature"), "when it was signed must be said");
    // Where it is not required, a nonce is remembered all the same.
    let click = world.click("signed");
    let ask = |txn: &str, nonce: &[(&str, &str)]| {
        let pairs = [("click_id", &*click), ("event", "sale"), ("txn_id", txn)];
        world.ask("signed", &signed(&[&pairs[..], nonce].concat()))
    };
    assert_eq!(ask("A", &n("a")), is(200, "accepted"), "another advertiser's nonce");
    assert_eq!(ask("B", &n("a")), is(401, "replayed_nonce"));
    assert_eq!(ask("B", &[]), is(200, "accepted"));
    let mut world = world;
    world.server.kill();
    world.server.start_again();
    assert_eq!(ask_again(&world, ts), is(200, "duplicate"), "after a restart it counts once");
}

/// A server whose one advertiser signs with nonces, and may approve what was rejected.
fn world_of_replays(reapprove: bool) -> (World, impl Fn(bool) -> String) {
    let secrets = secrets();
    let key = format!("{{ secret = \"file:{}\" }}", secrets.path().join("key").display());
    let text = move |reapprove: bool| {
        format!(
            "[[advertisers]]\nid = \"a\"\nauth = {{ hmac = [{key}], nonce = true, ts_window = \"1h\" }}\n\
             [[offers]]\nid = \"a\"\nadvertiser = \"a\"\nurl = \"https://a.example/?c={{click_id}}\"\n\
             [[offers.events]]\nid = \"sale\"\nreapprove = {reapprove}\n\
             payout = {{ percent = \"10\", currency = \"USD\" }}\n\
             [[affiliates]]\nid = \"ann\"\n"
        )
    };
    let server = Setup::new().catalog(text(reapprove)).on_faulty_disk().start();
    (World { server, secrets }, text)
}

/// Signs parameters with a nonce.
fn once(click: &str, nonce: &str, more: &[(&str, &str)]) -> String {
    // Times of the history are milliseconds; what follows is to be later.
    let_the_clock_move_on();
    let pairs = [("click_id", click), ("event", "sale"), ("txn_id", "T"), ("nonce", nonce)];
    signed(&[&pairs[..], more].concat())
}

#[test]
fn a_signed_postback_sent_again_undoes_no_correction() {
    let (world, _) = world_of_replays(true);
    let click = world.click("a");
    let new = once(&click, "n-1", &[("status", "approved"), ("amount", "10")]);
    let higher = once(&click, "n-2", &[("status", "approved"), ("amount", "100")]);
    let lower = once(&click, "n-3", &[("status", "approved"), ("amount", "50")]);
    assert_eq!(world.ask("a", &new), is(200, "accepted"));
    assert_eq!(world.ask("a", &higher), is(200, "updated"));
    assert_eq!(world.ask("a", &higher), is(200, "duplicate"), "a retry");
    let_the_clock_move_on();
    assert_eq!(world.ask("a", &lower), is(200, "updated"));
    for again in [&higher, &new, &lower, &higher] {
        let head = world.server.request("HEAD", &format!("/postback/a?{again}"), "");
        assert_eq!(head.header("x-postback-result"), Some("duplicate"));
        assert_eq!(world.ask("a", again), is(200, "duplicate"));
        let shared = Answer::of(world.server.get(&format!("/postback?{again}")));
        assert_eq!(told(&shared), is(200, "duplicate"), "by the click");
    }
    let kept = world.server.conversions("");
    assert_eq!((kept.len(), kept[0]["amount"].as_str()), (1, Some("50.00")));
    assert_eq!(kept[0]["history"].as_array().map(Vec::len), Some(3));
    // Who says it by a signature of its own means it.
    let meant = once(&click, "n-4", &[("status", "approved"), ("amount", "100")]);
    assert_eq!(world.ask("a", &meant), is(200, "updated"));
}

#[test]
fn a_signed_postback_sent_again_approves_nothing_that_the_network_has_rejected() {
    let (world, text) = world_of_replays(true);
    let held = text(true).replace("reapprove", "initial_status = \"pending\"\nreapprove");
    world.server.reload_catalog(&held);
    let click = world.click("a");
    let approved = once(&click, "n-1", &[("status", "approved")]);
    assert_eq!(world.ask("a", &approved), is(200, "accepted"));
    let kept = world.server.conversions("");
    assert_eq!(kept[0]["status"], "pending", "the offer holds it back");
    let id = kept[0]["conversion_id"].as_str().expect("an ID");
    let_the_clock_move_on();
    let file = format!("conversion_id,status\n{id},rejected\n");
    let uploaded = world.server.post_api("conversions/status", "text/csv", &file);
    assert_eq!(uploaded.status, 200, "{}", uploaded.text());
    assert_eq!(world.ask("a", &approved), is(200, "duplicate"));
    assert_eq!(world.server.conversions("")[0]["status"], "rejected");
    let meant = once(&click, "n-2", &[("status", "approved")]);
    assert_eq!(world.ask("a", &meant), is(200, "updated"), "signed anew, reapprove lets it");
}

#[test]
fn a_signed_deposit_that_was_refused_counts_once_however_often_it_came() {
    const MORE_THAN_REPEAT_MS: i64 = 2_000;
    let event =
        "[[offers.events]]\nid = \"deposit\"\nrepeat = \"1s\"\npayout = { fixed = \"3\" }\n";
    for is_killed in [false, true] {
        let (mut world, text) = world_of_replays(false);
        let [again, once] = ["n-1", "n-2"].map(|nonce| {
            let click = world.click("a");
            signed(&[("click_id", &click), ("event", "deposit"), ("nonce", nonce)])
        });
        for time in 1..=2 {
            for deposit in [&again, &once] {
                assert_eq!(world.ask("a", deposit), is(404, "unknown_event"));
            }
            world.server.disk().shift_clock(time * MORE_THAN_REPEAT_MS);
        }
        log_of(&world.server, "result=refused", 4);
        let more = text(false).replace("[[affiliates]]", &format!("{event}[[affiliates]]"));
        world.server.reload_catalog(&more);
        if is_killed {
            world.server.kill();
            world.server.start_again();
        }
        assert_eq!(world.ask("a", &again), is(200, "accepted"));
        assert_eq!(world.ask("a", &again), is(200, "duplicate"));
        for apply in [false, true] {
            let judged = judged(&world.server, apply);
            let expected = (&json!(1), &json!({ "illegal_transition": 3 }));
            assert_eq!((&judged["accepted"], &judged["refused"]), expected, "{apply}: {judged}");
        }
        assert_eq!(world.server.conversions("").len(), 2, "killed: {is_killed}");
    }
}

#[test]
fn a_signed_retry_counts_if_the_first_changed_nothing() {
    let (world, text) = world_of_replays(false);
    let click = world.click("a");
    let new = once(&click, "n-1", &[("status", "rejected"), ("amount", "10")]);
    assert_eq!(world.ask("a", &new), is(200, "accepted"));
    let approved = once(&click, "n-2", &[("status", "approved")]);
    assert_eq!(world.ask("a", &approved), is(409, "illegal_transition"));
    world.server.write_catalog(&text(true));
    world.server.signal("HUP");
    eventually("the catalog", || (world.ask("a", &approved) == is(200, "updated")).then_some(()));
    assert_eq!(world.server.conversions("")[0]["status"], "approved");
}

#[test]
fn a_signed_postback_sent_again_is_counted_once_after_any_window() {
    let secrets = secrets();
    let key = format!("{{ secret = \"file:{}\" }}", secrets.path().join("key").display());
    let catalog = format!(
        "[[advertisers]]\nid = \"a\"\nauth = {{ hmac = [{key}], ts_window = \"1h\" }}\n\
         [[offers]]\nid = \"a\"\nadvertiser = \"a\"\nurl = \"https://a.example/?c={{click_id}}\"\n\
         [[offers.events]]\nid = \"sale\"\nrepeat = \"100ms\"\n\
         [[affiliates]]\nid = \"ann\"\n"
    );
    let mut world = World { server: Setup::new().catalog(catalog).start(), secrets };
    let sale = |click: &str, more: &[(&str, &str)]| {
        signed(&[&[("click_id", click), ("event", "sale")], more].concat())
    };
    let clicks = [(); 3].map(|()| world.click("a"));
    let with_nonce = sale(&clicks[0], &[("nonce", "n-1")]);
    let without = sale(&clicks[1], &[]);
    let (rest, signature) = without.split_once("sig=").expect("signed");
    let written_otherwise = format!("{rest}sig={}", signature.to_uppercase());
    assert_eq!(world.ask("a", &with_nonce), is(200, "accepted"));
    assert_eq!(world.ask("a", &without), is(200, "accepted"));
    // Signed anew, it counts when the window is over.
    let next = |world: &World, click: &str| {
        let mut nonce = 1;
        eventually("the window's end", || {
            nonce += 1;
            let sale = sale(click, &[("nonce", &format!("n-{nonce}-{click}"))]);
            (world.ask("a", &sale) == is(200, "accepted")).then_some(())
        });
    };
    next(&world, &clicks[2]);
    next(&world, &clicks[2]);
    for restarted in [false, true] {
        if restarted {
            world.server.kill();
            world.server.start_again();
        }
        for (again, times) in [(&with_nonce, 3), (&without, 3), (&written_otherwise, 1)] {
            for _ in 0..times {
                assert_eq!(world.ask("a", again), is(200, "duplicate"), "{restarted} {again}");
            }
            let dry = world.server.request("HEAD", &format!("/postback/a?{again}"), "");
            assert_eq!(dry.header("x-postback-result"), Some("duplicate"));
        }
        assert_eq!(world.server.conversions("").len(), 4 + usize::from(restarted));
        next(&world, &clicks[2]);
    }
    next(&world, &clicks[0]);
    assert_eq!(world.ask("a", &with_nonce), is(200, "duplicate"));
}

/// Of an advertiser that signs events that may be repeated after an hour.
fn hourly(secrets: &TempDir, more: &str) -> String {
    let key = format!("{{ secret = \"file:{}\" }}", secrets.path().join("key").display());
    format!(
        "[[advertisers]]\nid = \"a\"\nauth = {{ hmac = [{key}], ts_window = \"1d\" }}\n{more}\n\
         [[offers]]\nid = \"a\"\nadvertiser = \"a\"\nurl = \"https://a.example/?c={{click_id}}\"\n\
         [[offers.events]]\nid = \"sale\"\nrepeat = \"1h\"\n\
         [[affiliates]]\nid = \"ann\"\n"
    )
}

/// Its server, on a clock of its own.
fn world_of_hours(more: &str) -> World {
    let secrets = secrets();
    let catalog = hourly(&secrets, more);
    World { server: Setup::new().catalog(catalog).on_faulty_disk().start(), secrets }
}

/// Sets the server's clock so many minutes ahead, and signs a sale there.
fn sale_at(world: &World, minutes: u64, click: &str, more: &[(&str, &str)]) -> String {
    world.server.disk().shift_clock(i64::try_from(minutes).expect("few") * 60_000);
    let ts = (now() + minutes * 60).to_string();
    let pairs = [("click_id", click), ("event", "sale"), ("ts", ts.as_str())];
    signed_by(KEY, &[&pairs[..], more].concat())
}

#[test]
fn a_signed_postback_from_before_a_conversion_is_no_news_of_it_after_a_restart() {
    let mut world = world_of_hours("");
    let click = world.click("a");
    let rejected = sale_at(&world, 0, &click, &[("status", "rejected")]);
    assert_eq!(world.ask("a", &rejected), is(200, "accepted"));
    let pending = sale_at(&world, 61, &click, &[("status", "pending")]);
    assert_eq!(world.ask("a", &pending), is(200, "accepted"));
    world.server.kill();
    world.server.start_again();
    world.server.disk().shift_clock(122 * 60_000);
    let dry = world.server.request("HEAD", &format!("/postback/a?{rejected}"), "");
    assert_eq!(dry.header("x-postback-result"), Some("duplicate"));
    assert_eq!(world.ask("a", &rejected), is(200, "duplicate"));
    let kept = world.server.conversions("");
    let statuses: Vec<_> = kept.iter().map(|kept| kept["status"].as_str()).collect();
    assert_eq!(statuses, [Some("rejected"), Some("pending")]);
    // What is said of it later is.
    let approved = sale_at(&world, 110, &click, &[("status", "approved")]);
    assert_eq!(world.ask("a", &approved), is(200, "updated"));
}

#[test]
fn a_signed_postback_that_was_to_be_tried_again_is_counted_as_if_it_came_then() {
    let world = world_of_hours("rate_limit = \"1/30m\"");
    let [first, click] = [(); 2].map(|()| world.click("a"));
    let sale = sale_at(&world, 0, &first, &[]);
    assert_eq!(world.ask("a", &sale), is(200, "accepted"));
    let with_nonce = sale_at(&world, 1, &click, &[("nonce", "n-1")]);
    let without = sale_at(&world, 1, &first, &[]);
    for limited in [&with_nonce, &without] {
        assert_eq!(world.ask("a", limited), is(429, "rate_limited"));
    }
    let another = sale_at(&world, 1, &click, &[("nonce", "n-1"), ("amount", "1")]);
    assert_eq!(world.ask("a", &another), is(401, "replayed_nonce"));
    // Others of both clicks are counted meanwhile.
    for (minutes, click) in [(62, &click), (93, &first)] {
        let sale = sale_at(&world, minutes, click, &[]);
        assert_eq!(world.ask("a", &sale), is(200, "accepted"));
    }
    for (minutes, again, result) in [
        (124, &with_nonce, "accepted"),
        (155, &without, "accepted"),
        (186, &with_nonce, "duplicate"),
        (217, &without, "duplicate"),
    ] {
        world.server.disk().shift_clock(minutes * 60_000);
        assert_eq!(world.ask("a", again), is(200, result), "{minutes}");
    }
    assert_eq!(world.server.conversions("").len(), 5);
}

#[test]
fn a_signed_postback_that_was_taken_from_the_log_counts_once_when_it_is_sent_again() {
    let world = world_of_hours("");
    let click = world.click("a");
    // What was signed before the start would be judged by that.
    let sale = sale_at(&world, 1, &click, &[("status", "good")]);
    assert_eq!(world.ask("a", &sale), is(400, "bad_status"));
    world.server.reload_catalog(&hourly(&world.secrets, "statuses = { good = \"approved\" }"));
    log_of(&world.server, "result=refused", 1);
    assert_eq!(judged(&world.server, true)["accepted"], 1);
    world.server.disk().shift_clock(62 * 60_000);
    assert_eq!(world.ask("a", &sale), is(200, "duplicate"));
    assert_eq!(world.server.conversions("").len(), 1);
}

/// As the first that was accepted.
fn ask_again(world: &World, ts: u64) -> (u16, String) {
    let kept = world.server.conversions("offer=nonce");
    let click = kept[0]["click_id"].as_str().expect("a click");
    let ts = ts.to_string();
    let pairs = [
        ("click_id", click),
        ("event", "sale"),
        ("txn_id", "A"),
        ("amount", "1"),
        ("ts", &*ts),
        ("nonce", "a"),
    ];
    world.ask("nonce", &signed_by(KEY, &pairs))
}

#[test]
fn an_address_counts_as_trusted_proxies_say_it() {
    let world = world();
    let click = world.click("ip");
    let query = format!("/postback/ip?click_id={click}&event=sale");
    let check = |forwarded: &str, expected| {
        assert_eq!(told(&world.from(forwarded, &query)), expected, "{forwarded}");
    };
    let no = || is(403, "ip_not_allowed");
    check("198.51.100.1", no());
    check("203.0.113.9, 198.51.100.1", no());
    check("203.0.113.9, 198.51.100.1, 127.0.0.2", no());
    check("203.0.113.9, nonsense", no());
    check("203.0.113.9, 127.0.0.2, unknown, 127.0.0.3", no());
    check("203.0.113.9\r\nX-Forwarded-For: 198.51.100.1", no());
    check("", no());
    assert_eq!(world.ask("ip", &format!("click_id={click}&event=sale")), no(), "the proxy itself");
    let real = Answer::of(world.server.request(
        "GET",
        &query,
        "Forwarded: for=203.0.113.9\r\nX-Real-IP: 203.0.113.9\r\n",
    ));
    assert_eq!(told(&real), no(), "other headers say nothing");
    check("203.0.113.9", is(200, "accepted"));
    check("198.51.100.1, 203.0.113.9, 127.0.0.2", is(200, "duplicate"));
    check("::ffff:203.0.113.9", is(200, "duplicate"));
    check("2001:db8::7", is(200, "duplicate"));
    check("2001:db8::8", no());
    check("192.0.2.200", is(200, "duplicate"));
    check("::ffff:192.0.2.200", is(200, "duplicate"));
    check("192.0.3.200", no());
    check("198.18.0.1", is(200, "duplicate"));
    check("198.18.0.2", no());
    assert_eq!(world.server.conversions("offer=ip").len(), 1);
}

#[test]
fn without_trusted_proxies_only_the_peer_counts() {
    let secrets = secrets();
    let text = advertiser("ip", "auth = { allow_ips = [\"127.0.0.1\"] }")
        + "[[affiliates]]\nid = \"ann\"\n"
        + &advertiser("far", "auth = { allow_ips = [\"203.0.113.9\"] }");
    let world = World { server: Setup::new().catalog(text).start(), secrets };
    let at = |offer: &str| format!("/postback/{offer}?click_id={}&event=sale", world.click(offer));
    assert_eq!(told(&world.from("203.0.113.9", &at("far"))), is(403, "ip_not_allowed"));
    assert_eq!(told(&world.from("203.0.113.9", &at("ip"))), is(200, "accepted"));
}

/// What `all`, `shadow` and `mixed` are shown, and whether each part of it is right.
fn show(world: &World, offer: &str, txn: &str, right: [bool; 3]) -> Answer {
    let click = world.click(offer);
    let said = [("click_id", &*click), ("event", "sale"), ("txn_id", txn), ("amount", "5")];
    show_with(world, offer, &said, right)
}

fn show_with(world: &World, offer: &str, said: &[(&str, &str)], right: [bool; 3]) -> Answer {
    let [ip, token, signature] = right;
    let token = if token { "t0ken" } else { "wrong" };
    let ts = now().to_string();
    let pairs = [said, &[("token", token), ("ts", &*ts)]].concat();
    let query = signed_by(if signature { KEY } else { "another" }, &pairs);
    let from = if ip { "203.0.113.9" } else { "198.51.100.9" };
    world.from(from, &format!("/postback/{offer}?{query}"))
}

#[test]
fn checks_combine_and_those_in_shadow_flag_what_they_would_refuse() {
    let world = world();
    let flags = |answer: &Answer| {
        let kept = world.server.api(&format!("conversions/{}", answer.word("conversion_id")));
        kept["flags"].to_string()
    };
    let marked = "[\"unauthenticated\"]";
    for bits in 0..8_u8 {
        let right = [bits & 1 != 0, bits & 2 != 0, bits & 4 != 0];
        let txn = format!("T{bits}");
        let enforced = told(&show(&world, "all", &txn, right));
        let expected = match right {
            [false, _, _] => is(403, "ip_not_allowed"),
            [_, false, _] => is(401, "bad_token"),
            [_, _, false] => is(401, "bad_signature"),
            [true, true, true] => is(200, "accepted"),
        };
        assert_eq!(enforced, expected, "{right:?}");
        let shadow = show(&world, "shadow", &txn, right);
        assert_eq!(told(&shadow), is(200, "accepted"), "{right:?}");
        assert_eq!(flags(&shadow), if bits == 7 { "[]" } else { marked }, "{right:?}");
        let mixed = show(&world, "mixed", &txn, right);
        if right[1] {
            assert_eq!(told(&mixed), is(200, "accepted"), "{right:?}");
            assert_eq!(flags(&mixed), if bits == 7 { "[]" } else { marked }, "{right:?}");
        } else {
            assert_eq!(told(&mixed), is(401, "bad_token"), "{right:?}");
        }
    }
    // all: 4 wrong addresses end it, then 2 wrong tokens, then 1 wrong signature.
    assert_eq!(world.checks("ip"), [12.0, 8.0, 4.0]);
    assert_eq!(world.checks("token"), [2.0 + 4.0 + 4.0, 4.0, 2.0 + 4.0]);
    assert_eq!(world.checks("signature"), [1.0 + 4.0 + 2.0, 4.0 + 2.0, 1.0]);
    let flagged = world.server.metric("postbackd_conversion_flags_total{flag=\"unauthenticated\"}");
    assert_eq!(flagged, 7.0 + 3.0);
}

#[test]
fn what_is_changed_or_taken_back_without_credentials_is_flagged_in_shadow() {
    let world = world();
    let flagged =
        || world.server.metric("postbackd_conversion_flags_total{flag=\"unauthenticated\"}");
    let marked = json!(["unauthenticated"]);
    let (none, all) = ([false; 3], [true; 3]);
    for (txn, changes, refunds) in [("A", all, none), ("B", none, all)] {
        let click = world.click("shadow");
        let before = flagged();
        let said = |event: &str, more: &[(&str, &str)], right| {
            let named = [("click_id", &*click), ("event", event), ("txn_id", txn)];
            show_with(&world, "shadow", &[&named[..], more].concat(), right)
        };
        let kept = |answer: &Answer| {
            let id = answer.word("conversion_id");
            world.server.api(&format!("conversions/{id}"))["flags"].clone()
        };
        let sale = said("sale", &[("amount", "5"), ("status", "pending")], all);
        assert_eq!((told(&sale), kept(&sale)), (is(200, "accepted"), json!([])));
        // Once: it is flagged already.
        for amount in ["6", "7"] {
            let changed = said("sale", &[("amount", amount), ("status", "approved")], changes);
            let flags = if changes == none { &marked } else { &json!([]) };
            assert_eq!((told(&changed), &kept(&changed)), (is(200, "updated"), flags));
        }
        let refund = said("refund", &[], refunds);
        let flags = if refunds == none { &marked } else { &json!([]) };
        assert_eq!((told(&refund), &kept(&refund)), (is(200, "accepted"), flags));
        assert_eq!(flagged(), before + 1.0, "one of them came without");
    }
}

#[test]
fn what_waits_is_checked_and_counted_once() {
    let world = world();
    let click = world.click("shadow");
    let answer =
        world.server.get(&format!("/postback/shadow?click_id={click}&event=sale&dry_run=1"));
    assert_eq!(answer.status, 200);
    let mut connection = Connection::open(world.server.public);
    let body = format!("click_id={click}&event=sale&txn_id=W");
    let posted = connection.post("/postback/shadow", "", body.as_bytes()).expect("an answer");
    assert_eq!(posted.status, 200);
    assert_eq!(world.checks("token"), [0.0, 2.0, 0.0]);
}

#[test]
fn presets_have_their_own_name_for_the_token_and_their_own_answers() {
    let world = world();
    let told = |answer: &Response| {
        let header = |name| answer.header(name).unwrap_or_default().to_owned();
        (answer.status, header("x-postback-result"), header("x-postback-reason"))
    };
    let (ok, bad) = (("accepted", ""), ("refused", "bad_token"));
    let check = |offer: &str, target: &str, (result, reason): (&str, &str)| {
        let answer = world.server.get(&target.replace("CLICK", &world.click(offer)));
        assert_eq!(told(&answer), (200, result.to_owned(), reason.to_owned()), "{target}");
        answer
    };
    check("affise", "/postback/affise?clickid=CLICK&goal=sale", bad);
    check("affise", "/postback/affise?clickid=CLICK&goal=sale&secure=wrong", bad);
    check("affise", "/postback/affise?clickid=CLICK&goal=sale&secure=t0ken", ok);
    check("affise", "/postback/affise?clickid=CLICK&goal=sale&token=t0ken", bad);
    check("affise", "/postback?clickid=CLICK&goal=sale&secure=t0ken", bad);
    let refused = check("tune", "/aff_lsr/tune?transaction_id=CLICK&goal_ref=sale", bad);
    assert!(refused.text().starts_with("success=false; err_msg=bad_token: "), "{refused:?}");
    let target = "/aff_lsr?transaction_id=CLICK&goal_ref=sale&security_token=t0ken";
    assert_eq!(check("tune", target, ok).text(), "success=true;");
    check("tune", "/SL2?transaction_id=CLICK&goal_ref=sale&security_token=token", bad);
}

#[test]
fn no_secret_is_kept_or_shown() {
    let mut world = world();
    let click = world.click("all");
    let query =
        signed(&[("click_id", &click), ("event", "sale"), ("token", "t0ken"), ("tok", "kept")]);
    let answer = world.from("203.0.113.9", &format!("/postback/all?{query}"));
    assert_eq!(told(&answer), is(200, "accepted"));
    let id = answer.word("conversion_id").to_owned();
    let shown = [
        world.server.admin("/api/v1/catalog").text().to_owned(),
        world.server.api(&format!("conversions/{id}")).to_string(),
        world.server.api(&format!("trace/{click}")).to_string(),
        world.server.whole_log(),
    ];
    assert!(shown[1].contains("kept"), "{}", shown[1]);
    let signature = query.split_once("&sig=").expect("signed").1;
    for secret in ["t0ken", KEY, NEXT_KEY, signature] {
        for text in &shown {
            assert!(!text.contains(secret), "{secret}: {text}");
        }
    }
}

#[test]
fn a_secret_is_not_kept_under_an_advertisers_own_name_either() {
    let mut world = world();
    let click = world.click("own");
    let secret = "pass=hunter2&mac=hunter2&salt=hunter2";
    for path in ["/postback/own", "/postback", "/track/conv", "/track/conv/own"] {
        let query = format!(
            "click_id={click}&clickid={click}&event=sale&goal=sale&goal_alias=sale&{secret}&kept={path}"
        );
        let txn = path.len();
        let answer = world.server.get(&format!("{path}?{query}&txn_id={txn}&action_id={txn}"));
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
    }
    let mut connection = Connection::open(world.server.public);
    let body = format!("click_id={click}&event=sale&txn_id=B&{secret}&kept=body");
    assert_eq!(connection.post("/postback", "", body.as_bytes()).expect("an answer").status, 200);
    let kept = world.server.conversions("offer=own");
    assert!(kept.len() > 3, "{kept:?}");
    assert!(kept.iter().all(|one| one["params"].to_string().contains("kept")));
    let trace = world.server.api(&format!("trace/{click}")).to_string();
    for text in [format!("{kept:?}"), trace, world.server.whole_log()] {
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[test]
fn a_secret_is_read_again_by_a_signal_and_an_unreadable_one_changes_nothing() {
    let mut world = world();
    let click = world.click("nonce");
    let ask = |world: &World, secret: &str, txn: &str| {
        let (ts, nonce) = (now().to_string(), format!("{txn}{secret}"));
        let pairs = [
            ("click_id", &*click),
            ("event", "sale"),
            ("txn_id", txn),
            ("ts", &*ts),
            ("nonce", &*nonce),
        ];
        world.ask("nonce", &signed_by(secret, &pairs))
    };
    assert_eq!(ask(&world, KEY, "1"), is(200, "accepted"));
    assert_eq!(world.server.metric("postbackd_auth_secrets_unreadable"), 0.0);
    let age = world.server.metric("postbackd_auth_secret_age_seconds");
    assert!(age > 6.0 * 365.0 * 86_400.0, "since 2020: {age}");
    let file = world.secrets.path().join("key");
    std::fs::write(&file, "renewed").expect("writable");
    world.server.signal("HUP");
    eventually("the new secret", || (ask(&world, "renewed", "2").0 == 200).then_some(()));
    assert_eq!(ask(&world, KEY, "3"), is(401, "bad_signature"));
    std::fs::remove_file(&file).expect("it was there");
    world.server.signal("HUP");
    eventually("a refused catalog", || {
        (world.server.metric("postbackd_catalog_loads_total{result=\"refused\"}") == 1.0)
            .then_some(())
    });
    assert_eq!(ask(&world, "renewed", "4"), is(200, "accepted"), "the old one stays in force");
    world.server.stop();
    world.server.start_again();
    assert_eq!(world.server.metric("postbackd_auth_secrets_unreadable"), 7.0);
    assert_eq!(ask(&world, "renewed", "5"), is(401, "bad_signature"), "nothing matches it");
    let click = world.click("signed");
    let pairs = [("click_id", &*click), ("event", "sale"), ("ts", &*now().to_string())];
    let next = world.ask("signed", &signed_by(NEXT_KEY, &pairs));
    assert_eq!(next, is(200, "accepted"), "the others count");
}

#[test]
fn a_secret_that_is_named_twice_keeps_no_server_from_starting() {
    let text = |token: &str| {
        let both = format!("{{ secret = \"{token}\" }}, {{ secret = \"{token}\" }}");
        advertiser("a", &format!("auth = {{ tokens = [{both}] }}"))
            + "[[affiliates]]\nid = \"ann\"\n"
    };
    // As an earlier `token rotate` has written it, and an earlier build has taken it.
    let server = Setup::new().catalog(text(&hash_text("t0ken"))).start();
    server.says("is the same as an earlier one");
    let click = server.click("offer=a&aff=ann");
    let sale = |token: &str| server.postback(&format!("click_id={click}&event=sale&token={token}"));
    assert_eq!(told(&sale("t0ken")), is(200, "accepted"));
    server.write_catalog(&text(&hash_text("other")));
    server.signal("HUP");
    eventually("a refused catalog", || {
        (server.metric("postbackd_catalog_loads_total{result=\"refused\"}") == 1.0).then_some(())
    });
    assert_eq!(told(&sale("other")), is(401, "bad_token"));
}

#[test]
fn that_an_advertisers_last_secret_ends_is_seen_before_and_after_it() {
    let text = |id: &str, more: &str| {
        let token = format!("{{ secret = \"{}\"{more} }}", hash_text("t0ken"));
        advertiser(id, &format!("auth = {{ tokens = [{token}] }}"))
    };
    let server = Setup::new().catalog(text("a", "")).start();
    let left = || server.metric("postbackd_auth_secret_left_seconds");
    let without = || server.metric("postbackd_auth_checks_without_secret");
    assert!(left().is_infinite());
    let ends = text("a", ", until = \"2999-01-01\"");
    server.reload_catalog(&ends);
    assert!(left().is_finite() && left() > 900.0 * 365.0 * 86_400.0, "{}", left());
    assert_eq!(without(), 0.0);
    let ended = text("b", ", until = \"2020-01-01\"");
    let warning = "tokens has no secret that is valid now: every postback is refused";
    let both = format!("{ends}{ended}");
    let compared = server.put_catalog("?dry_run=1", "application/toml", "", &both);
    assert_eq!(compared.json()["warnings"][0]["message"], warning);
    server.reload_catalog(&both);
    assert_eq!(without(), 1.0);
    assert!(left().is_finite() && left() > 0.0, "the other one is still to come: {}", left());
    server.says(warning);
    assert_eq!(server.log().matches("has warnings").count(), 1, "none before: {}", server.log());
    let checked = Ended::of(
        binary().args(["catalog", "check", "catalog.toml"]).current_dir(server.path(".")),
    );
    assert!(checked.code == Some(0) && checked.err.contains(warning), "{}", checked.said());
    let paused = both.replace("[[offers]]\n", "[[offers]]\nstatus = \"paused\"\n");
    server.reload_catalog(&paused);
    assert!(without() == 1.0 && left().is_finite(), "refunds of what they sent still come");
}

#[test]
fn a_secret_that_is_still_to_begin_is_none_yet() {
    let token = format!("{{ secret = \"{}\", from = \"2999-01-01\" }}", hash_text("t0ken"));
    let server =
        Setup::new().catalog(advertiser("a", &format!("auth = {{ tokens = [{token}] }}"))).start();
    assert_eq!(server.metric("postbackd_auth_checks_without_secret"), 1.0);
    assert!(server.metric("postbackd_auth_secret_left_seconds").is_infinite());
    server.says(
        "tokens has no secret that is valid now, nor before 2999-01-01T00:00:00Z: \
         until then every postback is refused",
    );
}

#[test]
fn a_catalog_by_the_api_holds_no_secret_either() {
    let mut server = Setup::new().without_catalog_file().start();
    let text = |secret: &str| {
        advertiser("a", &format!("auth = {{ hmac = [{{ secret = \"{secret}\" }}] }}"))
    };
    let put = |text: &str| server.put_catalog("", "application/toml", "If-Match: *\r\n", text);
    let refused = put(&text("hunter2-in-plain-text"));
    assert_eq!(refused.status, 400, "{refused:?}");
    assert!(!refused.text().contains("hunter2"), "{refused:?}");
    assert_eq!(put(&advertiser("a", "")).status, 200);
    let before = server.catalog_version();
    let refused = put(&text("env:NOT_SET_ANYWHERE"));
    assert_eq!(refused.status, 400, "{refused:?}");
    assert!(refused.text().contains("NOT_SET_ANYWHERE is not set"), "{refused:?}");
    assert_eq!(server.catalog_version(), before);
    assert!(!server.whole_log().contains("hunter2"));
}

/// Rows of the table of examples in the documentation: secret, parameters, text, signature.
fn examples() -> Vec<[String; 4]> {
    let page = page();
    let (_, table) = page.split_once("| secret | parameters |").expect("the table");
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let rows = rows.map(|row| {
        let cells: Vec<_> = row.split('|').map(|cell| cell.trim().trim_matches('`')).collect();
        [1, 2, 3, 4].map(|at| cells[at].to_owned())
    });
    rows.collect()
}

fn page() -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/api.md")).expect("the page")
}

/// The first program of this language on the page.
fn program(language: &str) -> String {
    let page = page();
    let (_, rest) = page.split_once(&format!("```{language}\n")).expect("a program");
    rest.split_once("\n```").expect("its end").0.to_owned()
}

/// What a program says; `None` where it is not installed.
fn run(program: &str, arguments: &[&str]) -> Option<String> {
    let output = match Command::new(program).args(arguments).stdin(Stdio::null()).output() {
        Err(error) if error.kind() == ErrorKind::NotFound => return None,
        output => output.expect("it runs"),
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).expect("UTF-8").trim().to_owned())
}

/// The page's sender in Go, built; `None` where there is no Go.
fn go_sender(folder: &Path) -> Option<String> {
    let imports = ["crypto/hmac", "crypto/sha256", "encoding/hex", "fmt", "net/url", "os", "sort"];
    let imports: String = imports.iter().map(|it| format!("import \"{it}\"\n")).collect();
    let main = "func main() {
        query, _ := url.ParseQuery(os.Args[2])
        params := map[string]string{}
        for name := range query {
            params[name] = query.Get(name)
        }
        fmt.Print(signed(params, os.Args[1]))
    }";
    let sender = program("go");
    let text = format!("package main\n{imports}import \"strings\"\n{sender}\n{main}\n");
    let (source, built) = (folder.join("sender.go"), folder.join("sender"));
    std::fs::write(&source, text).expect("writable");
    let [source, built] = [source, built].map(|path| path.to_str().expect("UTF-8").to_owned());
    run("go", &["build", "-o", &built, &source])?;
    Some(built)
}

#[test]
fn the_examples_of_the_documentation_are_right() {
    let examples = examples();
    let folder = tempfile::tempdir().expect("a folder");
    let go = go_sender(folder.path());
    assert!(examples.len() >= 4, "{examples:?}");
    let python = format!(
        "{}\nimport sys, urllib.parse\nprint(signed(urllib.parse.parse_qsl(sys.argv[2], keep_blank_values=True), sys.argv[1]))",
        program("python")
    );
    let node = format!(
        "{}\nconsole.log(signed(Object.fromEntries(new URLSearchParams(process.argv[2])), process.argv[1]));",
        program("js")
    );
    let php = format!(
        "{}\nparse_str($argv[2], $params);\necho signed($params, $argv[1]);",
        program("php")
    );
    let mut not_run = BTreeSet::new();
    for [secret, query, text, signature] in &examples {
        let mut canonical = Canonical::default();
        for param in postbackd::query::Params::new(query.as_bytes()) {
            let (name, value) = (param.name.decode(), param.value.decode());
            canonical.add(&name.expect("sound"), &value.expect("sound"));
        }
        let ours = canonical.into_text();
        assert_eq!(String::from_utf8_lossy(&ours), *text);
        assert_eq!(hex(&key(secret).sign(&ours)), *signature, "{text}");
        let expected = format!("{text}&sig={signature}");
        let said = [
            ("python3", run("python3", &["-c", &python, secret, query])),
            ("node", run("node", &["-e", &node, secret, query])),
            ("php", run("php", &["-r", php.trim_start_matches("<?php"), "--", secret, query])),
            ("go", go.as_deref().and_then(|go| run(go, &[secret, query]))),
        ];
        for (language, said) in said {
            match said {
                Some(said) => assert_eq!(said, expected, "{language}"),
                None => drop(not_run.insert(language)),
            }
        }
        let url = format!("https://t.example/postback/acme?{query}");
        let command = ["sign", "--secret", "env:KEY", &url];
        let url = Ended::of(binary().args(command).env("KEY", secret)).out;
        let has_nonce = query.contains("nonce=");
        assert_eq!(url.contains(&format!("&sig={signature}")), has_nonce, "{url}");
    }
    for language in not_run {
        // Past the test harness, which shows what a test prints only if it fails.
        let _ = writeln!(std::io::stderr(), "the sender of docs/api.md was not run: {language}");
    }
}

#[test]
fn what_the_commands_print_is_what_the_server_takes() {
    let token = |arguments: &[&str]| {
        let ended = Ended::of(binary().arg("token").args(arguments));
        assert_eq!(ended.code, Some(0), "{}", ended.err);
        ended.out
    };
    let parts = |text: &str| {
        let secret = text.lines().nth(1).expect("a secret").to_owned();
        let lines = text.split_once("advertiser:\n").expect("the lines").1.to_owned();
        (secret, lines)
    };
    let (old, lines) = parts(&token(&["new"]));
    let name = lines.split('"').nth(1).expect("a hash");
    assert_eq!(name, hash_text(&old));
    let moment = |place: usize| {
        let text = lines.split('"').nth(place).expect("a moment");
        text.parse::<jiff::Timestamp>().expect("a moment").as_second()
    };
    let days = (moment(5) - moment(3)) / 86_400;
    // What an alert asks to replace is valid for some time yet.
    let alerts = std::fs::read_to_string("deploy/alerts.yml").expect("readable");
    assert!(alerts.contains("postbackd_auth_secret_age_seconds > 90 * 86400"), "{alerts}");
    assert!((90 + 14..180).contains(&days), "{days}");
    let (new, lines) = parts(&token(&["rotate", "--old", name, "--overlap", "1d"]));
    let secrets = secrets();
    let path = secrets.path().join("made");
    let reference = format!("file:{}", path.display());
    let (made, keys) = parts(&token(&["new", "--hmac", &reference]));
    std::fs::write(&path, &made).expect("writable");
    let auth = |lines: &str| format!("[advertisers.auth]\n{lines}");
    let text = advertiser("a", &auth(&lines)) + &advertiser("b", &auth(&keys));
    let server = Setup::new().catalog(text + "[[affiliates]]\nid = \"ann\"\n").start();
    let world = World { server, secrets };
    let click = world.click("a");
    for (txn, token, expected) in [("1", &old, 200), ("2", &new, 200), ("3", &made, 401)] {
        let query = format!("click_id={click}&event=sale&txn_id={txn}&token={token}");
        assert_eq!(world.ask("a", &query).0, expected, "{txn}");
    }
    let click = world.click("b");
    let sign = |more: &[&str], code: i32| {
        let ended = Ended::of(binary().arg("sign").args(more));
        assert_eq!(ended.code, Some(code), "{}", ended.said());
        ended.out.trim().to_owned()
    };
    let url = format!("/postback/b?click_id={click}&event=sale&sub1=a+b%26");
    let signed = sign(&["--secret", &reference, &url], 0);
    assert_eq!(told(&Answer::of(world.server.get(&signed))), is(200, "accepted"), "{signed}");
    assert_eq!(told(&Answer::of(world.server.get(&url))), is(401, "bad_signature"));
    sign(&["--secret", "plain", &url], 2);
    sign(&["--secret", "env:NOT_SET", &url], 1);
    sign(&["--secret", &reference, &signed], 2);
    // What is told twice, and what nobody would ever get.
    sign(&["--secret", &reference, "--ts", "1", &format!("{url}&ts=2")], 2);
    sign(&["--secret", &reference, "--nonce", "a", &format!("{url}&nonce=b")], 2);
    sign(&["--secret", &reference, &format!("{url}&txn_id=#1")], 2);
    assert!(sign(&["--secret", &reference, &format!("{url}&ts=2")], 0).contains("&ts=2&nonce="));
    for command in [&["new"][..], &["admin", "--name", "n", "--role", "read"]] {
        for (valid, code) in [("0s", 2), ("999ms", 2), ("1s", 0)] {
            let ended = Ended::of(binary().arg("token").args(command).args(["--valid", valid]));
            assert_eq!(ended.code, Some(code), "{command:?} {valid}");
        }
    }
    let hash = |token: &str| {
        let mut hash = binary()
            .args(["token", "hash"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it runs");
        std::io::Write::write_all(&mut hash.stdin.take().expect("piped"), token.as_bytes())
            .expect("it reads");
        let output = hash.wait_with_output().expect("it ends");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let long = "t0ken-of-16-char";
    assert_eq!(hash(&format!("{long}\n")), (Some(0), hash_text(long)));
    assert_eq!(hash(&long[1..]), (Some(2), String::new()), "whoever sees the hash finds it");
}
