//! Senders of other systems, as they really ask, and the answers they get.

use postbackd::model::preset::Preset;
use serde_json::{Value, json};

use crate::harness::{Answer, Response, Server, Setup, eventually};

/// An advertiser for each preset, each with an offer of one event and an offer of two; and some
/// with settings of their own.
fn catalog() -> String {
    let mut text = String::new();
    for preset in Preset::ALL {
        text += &format!(
            "[[advertisers]]\nid = \"{preset}\"\npreset = \"{preset}\"\n\
             [[offers]]\nid = \"{preset}\"\nadvertiser = \"{preset}\"\nurl = \"https://a.example/?c={{click_id}}\"\n\
             [[offers.events]]\nid = \"sale\"\n\
             [[offers]]\nid = \"{preset}-two\"\nadvertiser = \"{preset}\"\nurl = \"https://a.example/?c={{click_id}}\"\n\
             [[offers.events]]\nid = \"sale\"\n[[offers.events]]\nid = \"deposit\"\n"
        );
    }
    text + OWN
}

const OWN: &str = r#"
[[advertisers]]
id = "own"
preset = "keitaro"
params = { click_id = "c" }
statuses = { done = "approved", lead = "rejected" }
events = { "1" = "deposit" }
default_event = "sale"
answer = "ok"
path = "/5e1f/postback"

[[offers]]
id = "own"
advertiser = "own"
url = "https://a.example/?c={click_id}"

[[offers.events]]
id = "sale"

[[offers.events]]
id = "deposit"

[[advertisers]]
id = "blanket"
answer = "always_200"
default_event = "sale"

[[offers]]
id = "blanket"
advertiser = "blanket"
url = "https://a.example/?c={click_id}"

[[offers.events]]
id = "sale"

[[offers.events]]
id = "deposit"

[[affiliates]]
id = "pub-7"
"#;

fn start() -> Server {
    Setup::new().catalog(catalog()).start()
}

fn click(server: &Server, offer: &str) -> String {
    server.click(&format!("offer={offer}&aff=pub-7"))
}

/// The same click ID with its last letter changed.
fn forged(click: &str) -> String {
    let (start, last) = click.split_at(click.len() - 1);
    format!("{start}{}", if last == "0" { "1" } else { "0" })
}

const FORGED: &str =
    "it looks like a click ID, but this network did not mint it; check for changed letters or case";

/// What comes with a duplicate that says of money and has no order.
const IF_ANOTHER: &str = ",\"hint\":\"taken for the first one sent again, so it does not count: if it is another one, send a txn_id with each, or with each refund a reversal_id\"";

/// Status, body, `X-Postback-Result` and `X-Postback-Reason`.
fn check(answer: &Response, status: u16, body: &str, headers: (Option<&str>, Option<&str>)) {
    let told = (answer.header("x-postback-result"), answer.header("x-postback-reason"));
    assert_eq!((answer.status, answer.text(), told), (status, body, headers));
}

/// Asks three times as the preset's senders do, with `{click}` in the target: new, again, and
/// with a forged click ID. Answers the only conversion.
fn converse(server: &Server, offer: &str, target: &str) -> Value {
    let click = click(server, offer);
    let (right, wrong) =
        (target.replace("{click}", &click), target.replace("{click}", &forged(&click)));
    let dry = server.get(&format!("{right}&dry_run=1"));
    assert_eq!(dry.status, 200, "{dry:?}");
    assert_eq!(server.conversions(&format!("offer={offer}")), [] as [Value; 0], "a dry run");
    let answers = [server.get(&right), server.get(&right), server.get(&wrong)];
    let kept = server.conversions(&format!("offer={offer}"));
    assert_eq!(kept.len(), 1, "{answers:?}");
    let (id, status) = (text(&kept[0], "conversion_id"), text(&kept[0], "status"));
    let again = |answer: &Response| answer.header("idempotent-replayed").map(str::to_owned);
    assert_eq!([&answers[0], &answers[1]].map(again), [None, Some("true".to_owned())]);
    let has_order = !text(&kept[0], "txn_id").is_empty();
    let json = |result: &str| {
        let hint = if result == "duplicate" && !has_order { IF_ANOTHER } else { "" };
        format!(
            "{{\"result\":\"{result}\",\"reason\":null,\"conversion_id\":\"{id}\",\
             \"click_id\":\"{click}\",\"status\":\"{status}\"{hint}}}\n"
        )
    };
    let refused = format!(
        "{{\"result\":\"refused\",\"reason\":\"forged_click_id\",\"conversion_id\":null,\
         \"click_id\":null,\"status\":null,\"hint\":\"{FORGED}\"}}\n"
    );
    let reason = Some("forged_click_id");
    match offer {
        "tune" => {
            check(&answers[0], 200, "success=true;", (Some("accepted"), None));
            check(&answers[1], 200, "success=true;", (Some("duplicate"), None));
            let hint = FORGED.replace(';', ",");
            let refused = format!("success=false; err_msg=forged_click_id: {hint};");
            check(&answers[2], 200, &refused, (Some("refused"), reason));
            assert_eq!(answers[2].header("content-type"), Some("text/plain; charset=utf-8"));
        }
        "affise" | "everflow" => {
            check(&answers[0], 200, &json("accepted"), (Some("accepted"), None));
            check(&answers[1], 200, &json("duplicate"), (Some("duplicate"), None));
            check(&answers[2], 200, &refused, (Some("refused"), reason));
        }
        _ => {
            check(&answers[0], 200, &json("accepted"), (None, None));
            check(&answers[1], 200, &json("duplicate"), (None, None));
            check(&answers[2], 404, &refused, (None, None));
        }
    }
    kept[0].clone()
}

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value[name].as_str().unwrap_or_default()
}

/// The members of a conversion by which a sender knows it.
fn known_by(conversion: &Value) -> [&str; 4] {
    ["event", "txn_id", "status", "amount"].map(|name| text(conversion, name))
}

#[test]
fn standard() {
    let kept = converse(
        &start(),
        "standard",
        "/postback?click_id={click}&event=sale&txn_id=A-1&amount=120.00&currency=USD&status=approved",
    );
    assert_eq!(known_by(&kept), ["sale", "A-1", "approved", "120.00"]);
}

#[test]
fn a_second_order_of_a_click_counts_by_every_sample_url() {
    let server = start();
    let page = include_str!("../../docs/presets.md");
    let samples = page.lines().filter_map(|line| line.strip_prefix("https://track.example"));
    let samples: Vec<_> = samples.collect();
    assert_eq!(samples.len(), Preset::ALL.len());
    for (preset, sample) in Preset::ALL.iter().map(ToString::to_string).zip(samples) {
        let click = click(&server, &preset);
        for order in ["A-1", "A-2"] {
            let value = |name| match name {
                "click_id" | "clickid" | "subid" | "transaction_id" | "reqid" => &click,
                "order" | "txid" | "tid" => order,
                "event" | "event_id" | "goal" | "goal_id" => "sale",
                "status" => "approved",
                _ => "1",
            };
            // Between braces, or number signs, is a name.
            let pieces = sample.split(['{', '}', '#']).enumerate();
            let filled = pieces.map(|(at, text)| if at % 2 == 1 { value(text) } else { text });
            let target = filled.collect::<String>().replace("/acme?", &format!("/{preset}?"));
            let answer = server.get(&target);
            assert_eq!(answer.status, 200, "{target}: {answer:?}");
        }
        let kept = server.conversions(&format!("offer={preset}"));
        let orders: Vec<_> = kept.iter().map(|kept| text(kept, "txn_id")).collect();
        assert_eq!(orders, ["A-1", "A-2"], "{preset}");
    }
}

#[test]
fn voluum() {
    let server = start();
    let target =
        "/postback/voluum?cid={click}&payout=15.00&txid=T-1&currency=usd&et=&param1=a&param5=b";
    let kept = converse(&server, "voluum", target);
    assert_eq!(known_by(&kept), ["sale", "T-1", "approved", ""]);
    assert_eq!(kept["params"], json!({"param1": "a", "param5": "b"}));
    let two = click(&server, "voluum-two");
    let answer = server.get(&format!("/postback/voluum?cid={two}&et=deposit&txid=T-1"));
    assert_eq!(answer.json()["result"], "accepted", "one transaction, another event");
}

#[test]
fn keitaro() {
    let server = start();
    let target = "/postback/keitaro?subid={click}&tid=7&payout=15.00&status=lead&currency=usd\
        &sub_id_1=x&sub_id_11=y&extra_param_1=z&return=OK";
    let kept = converse(&server, "keitaro", target);
    assert_eq!(known_by(&kept), ["sale", "7", "pending", ""]);
    assert_eq!(
        kept["params"],
        json!({"sub1": "x", "sub_id_11": "y", "extra_param_1": "z", "return": "OK"})
    );
    let statuses = [("sale", "approved"), ("rebill", "approved"), ("rejected", "rejected")];
    for (word, status) in statuses.into_iter().chain([("", "approved")]) {
        let click = click(&server, "keitaro");
        let answer =
            server.get(&format!("/postback/keitaro?sub_id={click}&tid={word}-1&status={word}"));
        assert_eq!(answer.json()["status"], status, "{word}");
    }
}

#[test]
fn keitaro_means_its_status_words_as_the_url_says() {
    // Another answer's form than its own, whose headers tell.
    let words = catalog()
        + "[[advertisers]]\nid = \"words\"\npreset = \"keitaro\"\nanswer = \"ok\"\n\
           [[offers]]\nid = \"words\"\nadvertiser = \"words\"\n\
           url = \"https://a.example/?c={click_id}\"\n[[offers.events]]\nid = \"sale\"\n";
    let server = Setup::new().catalog(words).start();
    let lists = "lead_status=reg,topup&sale_status=billed,Lead&rejected_status=canceled;fake\
        &ignore_status=ping,sale";
    let check = |offer: &str, target: &str, expected: &str| {
        let answer = server.get(&format!("{target}={}", click(&server, offer)));
        let told = match answer.status {
            200 => {
                server.conversions(&format!("offer={offer}")).pop().expect("one")["status"].take()
            }
            _ => json!(answer.header("x-postback-reason")),
        };
        assert_eq!(told, expected, "{target}: {answer:?}");
    };
    let keitaro = |query: &str, expected| {
        check("words", &format!("/postback/words?{query}&subid"), expected);
    };
    for (word, status) in [
        ("topup", "pending"),
        ("billed", "approved"),
        ("BILLED", "approved"),
        ("canceled", "rejected"),
        ("fake", "rejected"),
        ("lead", "approved"),
        ("rebill", "approved"),
        ("ping", "bad_status"),
        ("sale", "bad_status"),
        ("perhaps", "bad_status"),
        ("", "approved"),
    ] {
        keitaro(&format!("{lists}&status={word}"), status);
        keitaro(&format!("status={word}&{lists}"), status);
    }
    keitaro("status=fake&rejected=canceled,fake", "rejected");
    // However many others there are, before and after.
    let many: String = (0..40).map(|n| format!("&extra_param_{n}=x")).collect();
    keitaro(&format!("status=lead{many}&{lists}"), "approved");
    keitaro(&format!("status=lead&{lists}{many}"), "approved");
    // A list that cannot be kept is missed only where a word has to be looked up.
    let long = "x".repeat(513);
    keitaro(&format!("status=lead&sale_status={long}"), "bad_encoding");
    let all: String = (0..21).map(|n| format!("&sale_status=s{n}")).collect();
    keitaro(&format!("status=s0{all}"), "bad_encoding");
    keitaro(&format!("status=s0{}", all.replace("&sale_status=s20", "")), "approved");
    for list in ["rejected", "ignore", "sale_status"] {
        keitaro(&format!("{list}={long}"), "approved");
        check("own", &format!("/5e1f/postback?status=lead&{list}={long}&c"), "rejected");
    }
    let kept = server.conversions("offer=own").pop().expect("one");
    assert!(kept["flags"].to_string().contains("parameters_left_out"), "{kept}");
    // Of several lists that have a word, what is to be ignored goes first.
    for (lists, status) in [
        ("sale_status=w&lead_status=w&rejected_status=w", "pending"),
        ("rejected_status=w&sale_status=w", "approved"),
        ("lead_status=w&ignore=w", "bad_status"),
    ] {
        keitaro(&format!("status=w&{lists}"), status);
    }
    // What the catalog says of a word goes before, in whatever case.
    for lead in ["lead", "Lead", "LEAD"] {
        for lists in [lists, "sale_status=lead", "sale_status=LEAD", ""] {
            check("own", &format!("/5e1f/postback?status={lead}&{lists}&c"), "rejected");
        }
    }
    check("own", &format!("/5e1f/postback?status=reg&{lists}&c"), "pending");
    let ours = format!("click_id={}&event=sale&status=billed", click_of_standard(&server));
    let ours = server.postback(&format!("{ours}&sale_status=billed"));
    assert_eq!(ours.verdict(), (400, "refused", "bad_status"));
}

#[test]
fn keitaro_takes_a_sale_back_by_rejecting_it_and_means_a_sale_if_it_says_no_status() {
    let server = start();
    let click = click(&server, "keitaro");
    let check = |query: &str, result: &str, status: &str| {
        let answer = server.get(&format!("/postback/keitaro?subid={click}&{query}")).json();
        let told = (text(&answer, "result"), text(&answer, "status"));
        assert_eq!(told, (result, status), "{query}: {answer}");
    };
    check("tid=1&status=lead", "accepted", "pending");
    check("tid=1&dry_run=1", "updated", "approved");
    check("tid=1", "updated", "approved");
    check("tid=1", "duplicate", "approved");
    check("tid=1&status=lead", "duplicate", "approved");
    check("tid=1&status=rejected&dry_run=1", "updated", "reversed");
    check("tid=1&status=rejected", "updated", "reversed");
    check("tid=1&status=rejected", "duplicate", "reversed");
    check("tid=2&status=lead", "accepted", "pending");
    check("tid=2&status=rejected", "updated", "rejected");
    check("tid=2&status=rejected", "duplicate", "rejected");
    check("tid=3&status=rebill", "accepted", "approved");
    check("tid=3&status=rejected", "updated", "reversed");
    let ours = server.postback(&format!("click_id={click}&event=sale&txn_id=2"));
    let refused = (409, "refused", "illegal_transition");
    assert_eq!(ours.verdict(), refused, "what is unsaid is a sale by our path, too");
}

#[test]
fn a_decline_takes_an_approved_sale_back_where_there_is_no_other_word_or_the_catalog_says_so() {
    let ours = ["standard", "affise", "keitaro"];
    let advertiser = |preset: &str, id: &str, more: &str| {
        format!(
            "[[advertisers]]\nid = \"{id}\"\npreset = \"{preset}\"\nanswer = \"json\"\n{more}\n\
             [[offers]]\nid = \"{id}\"\nadvertiser = \"{id}\"\nurl = \"https://a.example/?c={{click_id}}\"\n\
             [[offers.events]]\nid = \"sale\"\npayout = {{ fixed = \"15.00\" }}\nrevenue = {{ fixed = \"20.00\" }}\n\
             [[affiliates]]\nid = \"of-{id}\"\n"
        )
    };
    let mut catalog: String =
        Preset::ALL.iter().map(|it| advertiser(it.as_str(), it.as_str(), "")).collect();
    for preset in ours {
        let otherwise = format!("rejects_approved = {}", preset != "keitaro");
        catalog += &advertiser(preset, &format!("{preset}-otherwise"), &otherwise);
    }
    let server = Setup::new().catalog(catalog).start();
    let check = |id: &str, target: &str, words: (&str, &str), takes_back: bool| {
        let click = server.click(&format!("offer={id}&aff=of-{id}"));
        let say = |word: &str| {
            let target = target.replace("{click}", &click).replace("{word}", word);
            let answer = server.get(&format!("/postback/{id}?{target}")).json();
            let told = if answer["reason"].is_null() { "result" } else { "reason" };
            (text(&answer, told).to_owned(), text(&answer, "status").to_owned())
        };
        let owed = || {
            let balance = server.api(&format!("balances?affiliate=of-{id}"))["balances"][0].take();
            let receivable = text(&balance["accounts"], "advertiser_receivable").to_owned();
            (text(&balance, "owed").to_owned(), receivable)
        };
        let told = |result: &str, status: &str| (result.to_owned(), status.to_owned());
        assert_eq!(say(words.0), told("accepted", "approved"), "{id}");
        assert_eq!(owed(), told("15.00", "20.00"), "{id}");
        if takes_back {
            assert_eq!(say(words.1), told("updated", "reversed"), "{id}");
            assert_eq!(owed(), told("0.00", "0.00"), "{id}");
            assert_eq!(say(words.1), told("duplicate", "reversed"), "{id}");
        } else {
            assert_eq!(say(words.1), told("illegal_transition", ""), "{id}");
            assert_eq!(owed(), told("15.00", "20.00"), "{id}");
        }
    };
    let binom = "clickid={click}&txn_id=1&cnv_status={word}";
    check("binom", binom, ("sale", "declined"), true);
    let redtrack = "clickid={click}&rdtk_event_id=1&status={word}";
    check("redtrack", redtrack, ("approved", "declined"), true);
    let scaleo = "click_id={click}&adv_order_id=1&conv_status={word}";
    check("scaleo", scaleo, ("approved", "rejected"), true);
    let trackier = "click_id={click}&txn_id=1&status={word}";
    check("trackier", trackier, ("approved", "cancelled"), true);
    check("bemob", "cid={click}&txid=1&status={word}", ("sale", "cancelled"), true);
    let (keitaro, keitaros) = ("subid={click}&tid=1&status={word}", ("sale", "rejected"));
    check("keitaro", keitaro, keitaros, true);
    check("keitaro-otherwise", keitaro, keitaros, false);
    let affise = "clickid={click}&action_id=1&status={word}";
    check("affise", affise, ("1", "3"), false);
    check("affise-otherwise", affise, ("1", "3"), true);
    let standard = "click_id={click}&event=sale&txn_id=1&status={word}";
    check("standard", standard, ("approved", "rejected"), false);
    check("standard-otherwise", standard, ("approved", "rejected"), true);
}

#[test]
fn keitaro_approves_nothing_that_is_approved_later_by_saying_nothing() {
    let held = catalog().replacen(
        "[[offers]]\nid = \"keitaro\"",
        "[[offers]]\nid = \"held\"\nadvertiser = \"keitaro\"\nurl = \"https://a.example/?c={click_id}\"\n\
         [[offers.events]]\nid = \"sale\"\ninitial_status = \"pending\"\n\
         [[offers]]\nid = \"keitaro\"",
        1,
    );
    let server = Setup::new().catalog(held).start();
    let click = click(&server, "held");
    for (query, result) in [("tid=1", "accepted"), ("tid=1", "duplicate"), ("tid=1", "duplicate")] {
        let answer = server.get(&format!("/postback/keitaro?subid={click}&{query}")).json();
        assert_eq!((text(&answer, "result"), text(&answer, "status")), (result, "pending"));
    }
}

#[test]
fn binom() {
    let server = start();
    let target = "/click.php?cnv_id={click}&payout=15.00&cnv_status=lead&cnv_status2=free+text\
        &cnv_currency=EUR&to_offer=3&disable_postback=1";
    let kept = converse(&server, "binom", target);
    assert_eq!(known_by(&kept), ["sale", "", "pending", ""]);
    assert_eq!(text(&kept, "amount_currency"), "EUR");
    let click = click(&server, "binom");
    let second = server.get(&format!("/postback/binom?clickid={click}&payout=3"));
    assert_eq!(second.json()["result"], "accepted");
    // As its own page writes the word.
    let held = format!("/click.php?cnv_id={}&cnv_status=Hold", self::click(&server, "binom"));
    assert_eq!(server.get(&held).json()["status"], "pending");
}

#[test]
fn redtrack() {
    let server = start();
    let target = "/postback/redtrack?clickid={click}&sum=15.00&type=sale&rdtk_event_id=E-9&status=other&sub1=a&sub20=b";
    let kept = converse(&server, "redtrack", target);
    assert_eq!(known_by(&kept), ["sale", "E-9", "pending", ""]);
    assert_eq!(kept["params"], json!({"sub1": "a", "sub20": "b"}));
}

#[test]
fn everflow() {
    let server = start();
    let target = "/postback/everflow?nid=12&transaction_id={click}&amount=99.90&adv1=x\
        &verification_token=secret";
    let kept = converse(&server, "everflow", target);
    assert_eq!(known_by(&kept), ["sale", "", "approved", "99.90"]);
    assert_eq!(kept["params"], json!({"nid": "12", "adv1": "x"}), "the token is not kept");
    let unknown = server.get(&format!(
        "/postback/everflow?transaction_id={}&event_id=44",
        click(&server, "everflow")
    ));
    assert_eq!(unknown.status, 200, "its senders never see a refusal");
    assert_eq!(unknown.header("x-postback-reason"), Some("unknown_event"));
    assert_eq!(unknown.json()["reason"], "unknown_event");
}

#[test]
fn tune() {
    let server = start();
    let target = "/aff_lsr?offer_id=26&transaction_id={click}&amount=99.90&adv_sub=x\
        &conversion_unique_id=U-1&security_token=secret";
    let kept = converse(&server, "tune", target);
    assert_eq!(known_by(&kept), ["sale", "U-1", "approved", "99.90"]);
    assert_eq!(kept["params"], json!({"offer_id": "26", "adv_sub": "x"}));
    let hashed = server.get(&format!("/SL2?transaction_id={}", click(&server, "tune")));
    check(&hashed, 200, "success=true;", (Some("accepted"), None));
    let named = click(&server, "tune-two");
    let named = server.get(&format!("/aff_lsr/tune?transaction_id={named}&goal_id=deposit"));
    check(&named, 200, "success=true;", (Some("accepted"), None));
    let goal = click(&server, "tune-two");
    let target = "/aff_goal?a=lsr&goal_id=deposit&goal_name=First+Deposit";
    let goal = server.get(&format!("{target}&transaction_id={goal}"));
    check(&goal, 200, "success=true;", (Some("accepted"), None));
    let nobody = server.get("/aff_lsr/nobody?transaction_id=x");
    let hint = "the path names an advertiser that is not in the catalog";
    let body = format!("success=false; err_msg=unknown_advertiser: {hint};");
    check(&nobody, 200, &body, (Some("refused"), Some("unknown_advertiser")));
}

#[test]
fn affise() {
    let server = start();
    let target = "/postback/affise?clickid={click}&action_id=A-1&goal=sale&sum=99.90&status=2\
        &ip=192.0.2.1&secure=secret&custom_field1=x&user_id=u-1";
    let kept = converse(&server, "affise", target);
    assert_eq!(known_by(&kept), ["sale", "A-1", "pending", "99.90"]);
    assert_eq!(text(&kept, "customer_id"), "u-1");
    assert_eq!(kept["params"], json!({"ip": "192.0.2.1", "custom_field1": "x"}));
    for (word, status) in [("1", "approved"), ("3", "rejected"), ("5", "pending")] {
        let click = click(&server, "affise");
        let target = format!("/postback/affise?click_id={click}&action_id=B-{word}&status={word}");
        assert_eq!(server.get(&target).json()["status"], status, "{word}");
    }
    let four =
        server.get(&format!("/postback/affise?clickid={}&status=4", click(&server, "affise")));
    assert_eq!((four.status, four.header("x-postback-reason")), (200, Some("bad_status")));
}

#[test]
fn scaleo() {
    let server = start();
    let target = "/track/conv?click_id={click}&token=344387eb&goal_alias=sale&conv_status=hold\
        &amount=99.90&currency=USD&adv_order_id=O-1&adv_user_id=u-1&adv_param1=x";
    let kept = converse(&server, "scaleo", target);
    assert_eq!(known_by(&kept), ["sale", "O-1", "pending", "99.90"]);
    assert_eq!(kept["params"], json!({"adv_param1": "x"}));
    let click = click(&server, "scaleo");
    for (path, txn, result) in [
        ("/track/conv-addchange", "O-2", "accepted"),
        ("/track/conv-change", "O-2", "duplicate"),
        ("/track/conv/scaleo", "O-3", "accepted"),
    ] {
        let answer = server.get(&format!("{path}?click_id={click}&transaction_id={txn}"));
        assert_eq!(answer.json()["result"], result, "{path}");
    }
    let lists = "trash_status=spam,duplicate&approved_status=ok;fine";
    for (word, status) in [("spam", "rejected"), ("fine", "approved"), ("hold", "pending")] {
        let sent = format!("transaction_id=L-{word}&conv_status={word}&{lists}");
        let answer = server.get(&format!("/track/conv?click_id={click}&{sent}"));
        assert_eq!(answer.json()["status"], status, "{word}");
    }
    // With a status, a known order is news on whichever path.
    for (path, status, result) in [
        ("/track/conv-change", "hold", "accepted"),
        ("/track/conv", "approved", "updated"),
        ("/track/conv-change", "approved", "duplicate"),
        ("/track/conv-addchange", "reversed", "updated"),
    ] {
        let target = format!("{path}?click_id={click}&transaction_id=O-4&conv_status={status}");
        assert_eq!(server.get(&target).json()["result"], result, "{path} {status}");
    }
}

#[test]
fn afftrax() {
    let target = "/postback/afftrax?click_id={click}&payout=15.00&transaction_id=O-1";
    let kept = converse(&start(), "afftrax", target);
    assert_eq!(known_by(&kept), ["sale", "O-1", "approved", ""]);
}

#[test]
fn trackier() {
    let server = start();
    let target = "/acquisition?click_id={click}&txn_id=O-1&sale_amount=99.90&goal_value=sale\
        &goal_id=&revenue=20&currency=USD&status=cancelled&sub1=a&sub15=b&security_token=secret";
    let kept = converse(&server, "trackier", target);
    assert_eq!(known_by(&kept), ["sale", "O-1", "rejected", "99.90"]);
    assert_eq!(kept["params"], json!({"sub1": "a", "sub15": "b"}));
}

#[test]
fn bemob() {
    let server = start();
    let target = "/postback/bemob?cid={click}&payout=15.00&txid=O-1&status=approved";
    let kept = converse(&server, "bemob", target);
    assert_eq!(known_by(&kept), ["sale", "O-1", "approved", ""]);
    let unfilled = server.get("/postback/bemob?cid=REPLACE&payout=OPTIONAL&txid=OPTIONAL");
    assert_eq!((unfilled.status, text(&unfilled.json(), "reason")), (400, "unresolved_macro"));
    let unfilled = format!("/postback/bemob?cid={}&payout=OPTIONAL", click(&server, "bemob"));
    let unfilled = server.get(&unfilled).json();
    assert_eq!(unfilled["reason"], "unresolved_macro");
    assert_eq!(
        unfilled["hint"],
        "payout arrived as a placeholder: have the sender's template filled in, or leave payout out if it is optional"
    );
}

#[test]
fn cake() {
    let server = start();
    let target = "/p.ashx?o=12&e=sale&f=pb&r={click}&t=O-1&p=20.00&ap=15.00&a=7&u=9";
    let kept = converse(&server, "cake", target);
    assert_eq!(known_by(&kept), ["sale", "O-1", "approved", ""]);
    let unfilled = server.get("/postback/cake?r=%23reqid%23&t=1");
    assert_eq!((unfilled.status, text(&unfilled.json(), "reason")), (400, "unresolved_macro"));
}

#[test]
fn an_offer_with_several_events_wants_one_named_unless_the_advertiser_says_which() {
    let server = start();
    for preset in Preset::ALL {
        let click = click(&server, &format!("{preset}-two"));
        let names = |field| preset.names(field).next().expect("every preset has one");
        let (id, event) = (names(postbackd::model::fields::Field::ClickId), "event");
        let event = preset.names(postbackd::model::fields::Field::Event).next().unwrap_or(event);
        let answer = server.request("HEAD", &format!("/postback/{preset}?{id}={click}"), "");
        assert_eq!(answer.header("x-postback-reason"), Some("missing_event"), "{preset}");
        let named = format!("/postback/{preset}?{id}={click}&{event}=deposit");
        let answer = server.request("HEAD", &named, "");
        assert_eq!(answer.header("x-postback-result"), Some("accepted"), "{preset}");
    }
    let hint = server.get(&format!("/postback/voluum?cid={}", click(&server, "voluum-two")));
    assert_eq!(
        hint.json()["hint"],
        "the click's offer has more than one event that is not negative, or none: name one, as et=sale, or set default_event for the advertiser"
    );
    let standard = server.postback(&format!("click_id={}", click(&server, "standard")));
    assert_eq!(standard.verdict(), (400, "refused", "missing_event"), "even with one event only");
    let default = server.postback(&format!("click_id={}", click(&server, "blanket")));
    assert_eq!(default.verdict(), (200, "accepted", ""));
    assert_eq!(text(&server.conversions("offer=blanket")[0], "event"), "sale");
}

#[test]
fn the_advertisers_own_settings_go_on_top_of_the_preset() {
    let server = start();
    let click = click(&server, "own");
    let send = |path: &str, query: &str| {
        server.get(&format!("{path}?{}", query.replace("{click}", &click)))
    };
    let path = "/5e1f/postback";
    check(&send(path, "c={click}&tid=1"), 200, "OK", (Some("accepted"), None));
    check(&send("/postback/own", "c={click}&tid=1"), 200, "OK", (Some("duplicate"), None));
    check(&send(path, "c={click}&tid=2&status=lead"), 200, "OK", (Some("accepted"), None));
    check(&send(path, "c={click}&tid=3&status=rebill"), 200, "OK", (Some("accepted"), None));
    check(&send(path, "c={click}&tid=4&event=1"), 200, "OK", (Some("accepted"), None));
    let kept = server.conversions("offer=own");
    let words: Vec<_> = kept.iter().map(|c| (text(c, "event"), text(c, "status"))).collect();
    let expected =
        [("sale", "approved"), ("sale", "rejected"), ("sale", "approved"), ("deposit", "approved")];
    assert_eq!(words, expected);
    let told = (Some("refused"), Some("missing_click_id"));
    let hint = "missing_click_id: send the click ID that the landing URL carried, as c, or, if it is news of a known conversion, name its event, as event=sale";
    check(&send(path, "subid={click}&tid=5"), 400, hint, told);
    let told = (Some("refused"), Some("bad_status"));
    let hint = "bad_status: pending, approved or rejected, or a word that the catalog maps to one, reversed only of a conversion that is known";
    check(&send(path, "c={click}&tid=5&status=perhaps"), 400, hint, told);
    let posted = server.connect().post(path, "", format!("c={click}&tid=6").as_bytes());
    check(&posted.expect("an answer"), 200, "OK", (Some("accepted"), None));
    assert_eq!(server.get("/5e1f/postback/").status, 400, "a slash at its end changes nothing");
    assert_eq!(server.get("/5e1f/Postback").status, 404, "a path is taken as it is written");
    assert_eq!(server.get("/5e1f").status, 404);
}

#[test]
fn a_path_below_that_of_a_preset_may_be_an_advertisers_own() {
    for path in ["/postback/own/v2", "/aff_lsr/x/own"] {
        let own = OWN.replace("/5e1f/postback", path);
        let server = Setup::new().catalog(own).start();
        let click = click(&server, "own");
        let answer = server.get(&format!("{path}?c={click}&tid=1"));
        check(&answer, 200, "OK", (Some("accepted"), None));
        assert_eq!(server.get(&format!("{path}/x")).status, 404);
    }
}

#[test]
fn a_blanket_200_covers_every_refusal_and_the_headers_tell_the_truth() {
    let server = start();
    let click = click(&server, "blanket");
    let check = |answer: Response, reason: &str| {
        let told = (answer.header("x-postback-result"), answer.header("x-postback-reason"));
        assert_eq!((answer.status, told), (200, (Some("refused"), Some(reason))), "{answer:?}");
        assert_eq!(text(&answer.json(), "reason"), reason);
    };
    let get = |query: &str| server.get(&format!("/postback/blanket?{query}"));
    check(get("event=sale"), "missing_click_id");
    check(get("click_id=TEST_123"), "malformed_click_id");
    check(get(&format!("click_id={click}&event=dance")), "unknown_event");
    check(get(&format!("click_id={click}&amount=x")), "bad_amount");
    check(get(&format!("click_id={click}&x=%zz")), "bad_encoding");
    check(get(&format!("x={}", "x".repeat(9000))), "url_too_long");
    check(server.request("PUT", "/postback/blanket", ""), "method_not_allowed");
    let xml = server.connect().post("/postback/blanket", "text/xml", b"<x/>");
    check(xml.expect("an answer"), "unsupported_media_type");
    let bare = server.get(&format!("/postback?click_id={click}&event=dance"));
    check(bare, "unknown_event");
    let other = click_of_standard(&server);
    check(get(&format!("click_id={other}&event=sale")), "wrong_advertiser");
    let json = server.get("/postback?click_id=TEST_123");
    assert_eq!((json.status, json.header("x-postback-reason")), (400, None), "nobody is known yet");
}

fn click_of_standard(server: &Server) -> String {
    click(server, "standard")
}

#[test]
fn unavailable_is_a_503_in_every_form() {
    let mut server = start();
    let targets: Vec<_> = [
        ("standard", "/postback?event=sale&click_id=", "json"),
        ("blanket", "/postback?event=sale&click_id=", "json"),
        ("tune", "/aff_lsr?transaction_id=", "success=false; err_msg=disk_full;"),
        ("own", "/postback/own?tid=1&c=", "disk_full"),
    ]
    .map(|(offer, target, body)| (format!("{target}{}", click(&server, offer)), body))
    .into();
    server.set_key("store.free_space_reserve", "1000000GiB");
    assert!(server.stop().success());
    server.start_again();
    eventually("a look at the disk", || {
        (server.metric("postbackd_store_disk_full") == 1.0).then_some(())
    });
    for (target, body) in targets {
        let answer = server.get(&target);
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("30")), "{target}");
        if body == "json" {
            assert_eq!(text(&answer.json(), "reason"), "disk_full");
        } else {
            check(&answer, 503, body, (Some("unavailable"), Some("disk_full")));
        }
    }
}

#[test]
fn a_click_id_that_was_damaged_on_its_way_is_refused_with_a_hint_that_says_how() {
    let server = start();
    let click = click(&server, "standard");
    let check = |sent: &str, reasons: &[&str], hint: &str| {
        let answer = server.postback(&format!("event=sale&click_id={sent}"));
        assert!(reasons.contains(&answer.word("reason")), "{sent}: {answer:?}");
        assert!(answer.word("hint").starts_with(hint), "{sent}: {answer:?}");
    };
    let (forged_id, malformed) = ("forged_click_id", "malformed_click_id");
    let case = "all its letters have the same case: it was changed";
    check(&click.to_uppercase(), &[forged_id, malformed], case);
    check(&click.to_lowercase(), &[forged_id, malformed], case);
    check(&forged(&click), &[forged_id], FORGED);
    let around = "a click ID of this network, but with spaces, quotes or other text around it";
    check(&format!("%20{click}%20"), &[malformed], around);
    check(&format!("%22{click}%22"), &[malformed], around);
    check(&format!("{click}%0A"), &[malformed], around);
    check(&format!("{click}0"), &[malformed], around);
    check(&format!("id-{click}"), &[malformed], around);
    check(&format!("id-{}0", forged(&click)), &[malformed], "too long");
    check(&click[..32], &[malformed], "too short: a click ID has 33 characters; it was cut");
    check(&format!("{}-", &click[..32]), &[malformed], "a click ID consists of 33 characters");
    check("%7Bclickid%7D", &["unresolved_macro"], "click_id arrived as a placeholder");
}

#[test]
fn a_name_of_another_dialect_is_refused_with_a_hint_that_names_the_dialect() {
    let server = start();
    let click = click(&server, "standard");
    let check = |target: &str, hint: &str| {
        let answer = server.get(&target.replace("{click}", &click)).json();
        assert_eq!(answer["reason"], "missing_click_id", "{target}");
        assert_eq!(answer["hint"], hint, "{target}");
    };
    check(
        "/postback?cnv_id={click}&event=sale",
        "this looks like the binom dialect: set preset = \"binom\" for the advertiser and send to /postback/{advertiser}, or send the click ID as click_id",
    );
    check(
        "/postback/standard?subid={click}&status=lead",
        "this looks like the keitaro dialect: set preset = \"keitaro\" for the advertiser, or send the click ID as click_id",
    );
    check(
        "/postback/standard?transaction_id={click}&event=sale",
        "this looks like the everflow or tune dialect: set preset = \"everflow\" or \"tune\" for the advertiser, or send the click ID as click_id",
    );
    check(
        "/postback/standard?transaction_id=A-1&event=sale",
        "send the click ID that the landing URL carried, as click_id; or, if it is news of a known conversion, none of this advertiser's has this transaction and event, or its offer has left the catalog; if transaction_id was meant as the click ID, set preset = \"everflow\" or \"tune\" for the advertiser",
    );
    check(
        "/postback/standard?txn_id=A-1&event=sale",
        "send the click ID that the landing URL carried, as click_id; or, if it is news of a known conversion, none of this advertiser's has this transaction and event, or its offer has left the catalog",
    );
    let alone = "send the click ID that the landing URL carried, as click_id; or, if it is news of a known conversion, the transaction alone to /postback/{advertiser}";
    check("/postback?txn_id=A-1&event=refund", alone);
    check("/postback?txn_id={click}&event=sale", alone);
    check(
        "/postback?transaction_id=A-1&event=refund",
        &format!(
            "{alone}; if transaction_id was meant as the click ID, set preset = \"everflow\" or \"tune\" for the advertiser and send to /postback/{{advertiser}}"
        ),
    );
    check(
        "/postback/standard?r={click}&e=sale",
        "this looks like the cake dialect: set preset = \"cake\" for the advertiser, or send the click ID as click_id",
    );
    let default = "send the click ID that the landing URL carried, as click_id";
    check("/postback/standard?r=12345&event=sale", default);
    check("/postback/cake?e=sale", "send the click ID that the landing URL carried, as r");
    check(
        "/postback/cake?subid={click}",
        "this looks like the keitaro dialect: set preset = \"keitaro\" for the advertiser, or send the click ID as r",
    );
}

#[test]
fn two_values_of_one_meaning_are_refused_with_a_hint_that_names_both() {
    let server = start();
    let check = |target: &str, hint: &str| {
        let target = target.replace("{click}", &click(&server, "everflow"));
        let answer = server.get(&target).json();
        let told = (text(&answer, "reason"), text(&answer, "hint"));
        assert_eq!(told, ("ambiguous_parameter", hint), "{target}");
    };
    let both = |one: &str, other: &str| {
        format!(
            "{one} and {other} mean the same here, and came with different values: send one of them"
        )
    };
    check("/postback?click_id=a&event=sale&txid=&txn_id=x&goal=b", &both("event", "goal"));
    check(
        "/postback?click_id=a&event=a&event=b",
        "event came twice, with different values: send it once",
    );
    check("/postback/cake?t=1&e=a&t=2", "t came twice, with different values: send it once");
    check("/postback?token=a&token=b", "token came twice, with different values: send it once");
    let theirs = "transaction_id={click}&event_id=sale&txn_id=O-10&amount=5";
    let dialect = "this looks like the everflow or tune dialect: set preset = \"everflow\" or \"tune\" for the advertiser";
    let there = "and send to /postback/{advertiser}, or send the click ID as click_id";
    check(
        &format!("/postback?{theirs}"),
        &format!("{}; {dialect} {there}", both("transaction_id", "txn_id")),
    );
    check(
        "/postback/standard?txid=O-10&transaction_id={click}",
        &format!("{}; {dialect}, or send the click ID as click_id", both("txid", "transaction_id")),
    );
    check("/postback?transaction_id=1&txn_id=O-10", &both("transaction_id", "txn_id"));
    let sent = server.connect().post("/postback", "application/json", br#"{"goal":1,"event":2}"#);
    assert_eq!(text(&sent.expect("an answer").json(), "hint"), both("goal", "event"));
    let theirs = theirs.replace("{click}", &click(&server, "everflow"));
    let right = server.get(&format!("/postback/everflow?{theirs}"));
    assert_eq!(right.json()["result"], "accepted");
}

#[test]
fn an_event_under_the_name_of_another_dialect_is_found_in_the_hint() {
    let server = start();
    let check = |target: &str, offer: &str, hint: &str| {
        let answer = server.get(&target.replace("{click}", &click(&server, offer))).json();
        assert_eq!((text(&answer, "reason"), text(&answer, "hint")), ("missing_event", hint));
    };
    check(
        "/postback/standard?click_id={click}&et=sale",
        "standard",
        "this looks like the voluum dialect: set preset = \"voluum\" for the advertiser, or send the event as event",
    );
    check(
        "/postback/voluum?cid={click}&goal_alias=sale",
        "voluum-two",
        "this looks like the scaleo dialect: set preset = \"scaleo\" for the advertiser, or send the event as et",
    );
    check("/postback/standard?click_id={click}&e=1", "standard", "name the event, as event=sale");
}

#[test]
fn a_slash_at_the_end_of_a_path_changes_nothing() {
    let server = start();
    for (path, offer, name) in [
        ("/postback/", "standard", "event=sale&click_id"),
        ("/postback/standard/", "standard", "event=sale&click_id"),
        ("/aff_lsr/", "tune", "transaction_id"),
        ("/aff_lsr/tune/", "tune", "transaction_id"),
        ("/track/conv-change/scaleo/", "scaleo", "click_id"),
        ("/5e1f/postback/", "own", "c"),
    ] {
        let answer = server.get(&format!("{path}?{name}={}", click(&server, offer)));
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        assert_eq!(answer.header("x-postback-reason"), None, "{path}: {answer:?}");
    }
    for path in ["/postback//", "/aff_lsr//", "/postback/standard//"] {
        let answer = server.get(path);
        assert_eq!(
            (answer.status, text(&answer.json(), "reason")),
            (404, "unknown_path"),
            "{path}"
        );
    }
}

#[test]
fn of_more_parameters_than_are_kept_other_systems_lose_the_last_and_no_conversion() {
    let server = start();
    let names = |from: &str, count: usize| {
        (1..=count).map(|n| format!("&{from}{n}=v{n}")).collect::<String>()
    };
    let all_of_affise = "&ip=192.0.2.1&referrer=r&comment=c&fbclid=f&device_type=d&aimp_id=a\
        &promo_code=p"
        .to_owned()
        + &names("custom_field", 15);
    let long = format!("&referrer={}&fbclid=f", "r".repeat(513));
    let all_of_keitaro = names("sub_id_", 30) + &names("extra_param_", 10);
    for (offer, query, last, left_out) in [
        ("affise", &all_of_affise, "custom_field13", "custom_field14"),
        ("keitaro", &all_of_keitaro, "sub_id_30", "extra_param_1"),
        ("affise", &long, "fbclid", "referrer"),
    ] {
        let id = if offer == "keitaro" { "subid" } else { "clickid" };
        let click = click(&server, offer);
        let answer = server.get(&format!("/postback/{offer}?{id}={click}{query}"));
        assert_eq!(answer.json()["result"], "accepted", "{answer:?}");
        let kept = server.conversions(&format!("offer={offer}"));
        let kept = kept.last().expect("a conversion");
        assert_eq!(kept["flags"], json!(["parameters_left_out"]));
        let has = |name: &str| !kept["params"][name].is_null();
        assert!(has(last) && !has(left_out), "{kept}");
    }
    let ours = format!("click_id={}&event=sale{}", click_of_standard(&server), names("x", 21));
    assert_eq!(server.postback(&ours).verdict(), (400, "refused", "too_many_parameters"));
}

#[test]
fn the_paths_of_presets_take_nothing_from_the_paths_of_clicks() {
    let server = start();
    for path in ["/click", "/click?offer=binom&aff=pub-7", "/c/unknown", "/click.php5"] {
        assert_eq!(server.get(path).status, 302, "{path} is a click");
    }
    for path in ["/", "/track", "/track/conv/a/b", "/aff_lsr/a/b", "/postbacks"] {
        let answer = server.get(path);
        assert_eq!(
            (answer.status, text(&answer.json(), "reason")),
            (404, "unknown_path"),
            "{path}"
        );
    }
    let post = server.connect().post("/SL2", "", b"transaction_id=x");
    assert_eq!(post.expect("an answer").header("x-postback-reason"), Some("malformed_click_id"));
}

#[test]
fn a_negative_event_beside_the_only_one_leaves_it_the_only_one() {
    let catalog = r#"
[[advertisers]]
id = "acme"
preset = "everflow"

[[offers]]
id = "shoes"
advertiser = "acme"
url = "https://shoes.example/?c={click_id}"
[[offers.events]]
id = "sale"
[[offers.events]]
id = "refund"
reverses = ["sale"]

[[affiliates]]
id = "pub-7"
"#;
    let server = Setup::new().catalog(catalog.to_owned()).start();
    let click = server.click("offer=shoes&aff=pub-7");
    for result in ["accepted", "duplicate"] {
        let answer = Answer::of(server.get(&format!("/postback/acme?transaction_id={click}")));
        assert_eq!(answer.verdict(), (200, result, ""));
    }
    assert_eq!(text(&server.conversions("")[0], "event"), "sale");
}

#[test]
fn an_event_under_a_name_that_means_nothing_is_not_counted_as_the_one_that_goes_unnamed() {
    let offer = |advertiser: &str, more: &str| {
        format!(
            "[[advertisers]]\nid = \"{advertiser}\"\nevents = {{ \"7\" = \"refund\" }}\n{more}\n\
             [[offers]]\nid = \"{advertiser}\"\nadvertiser = \"{advertiser}\"\n\
             url = \"https://shoes.example/?c={{click_id}}\"\n\
             [[offers.events]]\nid = \"sale\"\n\
             [[offers.events]]\nid = \"refund\"\nreverses = [\"sale\"]\n"
        )
    };
    let catalog = offer("everflow", "preset = \"everflow\"")
        + &offer("ours", "default_event = \"sale\"")
        + &offer(
            "taken",
            "preset = \"everflow\"\nparams = { sub1 = \"event\", sub2 = \"event_id\" }",
        )
        + "[[affiliates]]\nid = \"pub-7\"\n";
    let server = Setup::new().catalog(catalog).start();
    let ask = |advertiser: &str, query: &str| {
        let name = if advertiser == "ours" { "click_id" } else { "transaction_id" };
        let click = click(&server, advertiser);
        Answer::of(server.get(&format!("/postback/{advertiser}?{name}={click}&amount=5&{query}")))
    };
    let refused = |advertiser: &str, query: &str, hint: &str| {
        let answer = ask(advertiser, query);
        let told = (answer.word("reason"), answer.word("hint"));
        assert_eq!(told, ("missing_event", hint), "{query}");
    };
    let elsewhere = |name: &str, ours: &str| {
        format!("the event came as {name}=, which means nothing here: send it as {ours}")
    };
    refused("everflow", "event=refund&txn_id=1", &elsewhere("event", "event_id"));
    refused("everflow", "goal_id=7&txn_id=2", &elsewhere("goal_id", "event_id"));
    refused("everflow", "e=refund&event_id=&txn_id=3", &elsewhere("e", "event_id"));
    refused("everflow", "Event_ID=refund&txn_id=4", &elsewhere("Event_ID", "event_id"));
    refused("ours", "et=refund&txn_id=5", &elsewhere("et", "event"));
    let own = "a name that the advertiser's params give it";
    refused("taken", "goal=refund&txn_id=6", &elsewhere("goal", own));
    assert_eq!(server.conversions(""), [] as [Value; 0]);
    // What names no other event says nothing, and so does what means something else.
    for (advertiser, query) in [
        ("everflow", "event=sale&txn_id=11"),
        ("everflow", "event=whatever&txn_id=12"),
        ("everflow", "note=refund&txn_id=13"),
        ("everflow", "event=refund&event_id=sale&txn_id=14"),
        ("taken", "event=refund&event_id=refund&txn_id=15"),
        ("ours", "et=sale&txn_id=16"),
    ] {
        assert_eq!(ask(advertiser, query).verdict(), (200, "accepted", ""), "{query}");
    }
    // Of a known transaction alone no less.
    let alone = Answer::of(server.get("/postback/everflow?txn_id=11&event=refund"));
    let told = (alone.word("reason"), alone.word("hint"));
    assert_eq!(told, ("missing_event", &*elsewhere("event", "event_id")));
    let taken_back = Answer::of(server.get("/postback/everflow?txn_id=11&event_id=refund"));
    assert_eq!(taken_back.verdict(), (200, "accepted", ""));
}

#[test]
fn an_order_counts_once_whether_the_path_or_the_click_names_the_advertiser() {
    let mut catalog = String::from("[[affiliates]]\nid = \"pub-7\"\n");
    let hash = blake3::hash(b"t0ken").to_hex();
    let tokens = format!("auth = {{ tokens = [{{ secret = \"blake3:{hash}\" }}] }}\n");
    for (id, rest) in [
        ("tuned", "preset = \"tune\"\nanswer = \"json\"\nparams = { txn_id = \"adv_sub\" }\n"),
        ("affised", "preset = \"affise\"\nanswer = \"json\"\n"),
        ("own", "params = { txn_id = \"order\", dry_run = \"ask\", token = \"key\" }\n"),
        ("shown", &format!("params = {{ txn_id = \"order\", token = \"key\" }}\n{tokens}")),
        ("paid", "preset = \"voluum\"\n"),
        ("theirs", "params = { click_id = \"ref\", txn_id = \"cid\" }\n"),
    ] {
        catalog += &format!(
            "[[advertisers]]\nid = \"{id}\"\n{rest}\
             [[offers]]\nid = \"{id}\"\nadvertiser = \"{id}\"\nurl = \"https://a.example/?c={{click_id}}\"\n\
             [[offers.events]]\nid = \"sale\"\n"
        );
    }
    let server = Setup::new().catalog(catalog).start();
    let ask = |target: &str| Answer::of(server.get(target));
    let both = |advertiser: &str, amount: &str, paths: [&str; 2], query: &str| {
        let click = server.click(&format!("offer={advertiser}&aff=pub-7"));
        for (order, paths) in [("1", paths), ("2", [paths[1], paths[0]])] {
            let query = query.replace("CLICK", &click).replace("ORDER", order);
            for (path, result) in paths.into_iter().zip(["accepted", "duplicate"]) {
                let answer = ask(&format!("{path}?{query}"));
                assert_eq!(answer.verdict(), (200, result, ""), "{path}?{query}");
            }
        }
        let kept = server.conversions(&format!("offer={advertiser}"));
        let of_each = kept.iter().map(|kept| (text(kept, "txn_id"), text(kept, "amount")));
        let expected = [("1", amount), ("2", amount)];
        assert_eq!(of_each.collect::<Vec<_>>(), expected, "{advertiser}");
        let logged = server.api(&format!("inbound?txn_id=1&advertiser={advertiser}"));
        assert_eq!(logged["items"].as_array().map(Vec::len), Some(2), "{advertiser}");
    };
    let tune = ["/aff_lsr", "/aff_lsr/tuned"];
    both("tuned", "50.00", tune, "transaction_id=CLICK&adv_sub=ORDER&amount=50");
    let affise = ["/postback", "/postback/affised"];
    both("affised", "50.00", affise, "clickid=CLICK&action_id=ORDER&goal=sale&sum=50&status=1");
    let own = ["/postback", "/postback/own"];
    both("own", "5.00", own, "click_id=CLICK&order=ORDER&event=sale&amount=5");

    // Who writes to the shared path in our names is understood as ever.
    for (advertiser, query) in [
        ("tuned", "transaction_id=3&txn_id=3&amount=5&event=sale"),
        ("affised", "txn_id=3&amount=5&event=sale"),
        ("paid", "txn_id=3&amount=5&event=sale&click_id=CLICK"),
        ("own", "txn_id=3&amount=5&event=sale"),
    ] {
        let click = server.click(&format!("offer={advertiser}&aff=pub-7"));
        let query = format!("cid={click}&{}", query.replace("CLICK", &click));
        for result in ["accepted", "duplicate"] {
            assert_eq!(server.postback(&query).verdict(), (200, result, ""), "{query}");
        }
        let kept = server.conversions(&format!("offer={advertiser}&txn_id=3"));
        assert_eq!((kept.len(), text(&kept[0], "amount")), (1, "5.00"), "{query}");
    }

    // An advertiser's own name for asking is understood, and none for its token.
    let click = server.click("offer=own&aff=pub-7");
    for result in ["accepted", "accepted"] {
        let asked = server.postback(&format!("click_id={click}&event=sale&order=9&ask=1"));
        assert_eq!(asked.verdict(), (200, result, ""));
    }
    assert_eq!(server.conversions("txn_id=9").len(), 0);
    let unfilled = server.postback(&format!("click_id={click}&event=sale&order={{order}}"));
    assert_eq!(unfilled.verdict(), (400, "refused", "unresolved_macro"));
    let shown = format!("click_id={}&event=sale&order=9", server.click("offer=shown&aff=pub-7"));
    for none in [&shown, &format!("{shown}&key=t0ken")] {
        assert_eq!(server.postback(none).verdict(), (401, "refused", "bad_token"), "{none}");
    }
    for (path, result) in [("/postback", "accepted"), ("/postback/shown", "duplicate")] {
        let name = if path == "/postback" { "token" } else { "key" };
        let answer = ask(&format!("{path}?{shown}&{name}=t0ken"));
        assert_eq!(answer.verdict(), (200, result, ""), "{path}");
    }
    assert!(!server.api("inbound").to_string().contains("t0ken"));
    assert_eq!(server.conversions("offer=shown")[0]["params"], json!({}));

    // One meaning under both names must have one value, and the click is the path's to find.
    let click = server.click("offer=own&aff=pub-7");
    let two = server.postback(&format!("click_id={click}&event=sale&txn_id=11&order=12"));
    assert_eq!(two.verdict(), (400, "refused", "ambiguous_parameter"));
    let both = server.postback(&format!("click_id={click}&event=sale&txn_id=12&order=12"));
    assert_eq!(both.verdict(), (200, "accepted", ""));
    let asks = server.postback(&format!("click_id={click}&event=sale&order=13&dry_run=1&ask=0"));
    assert_eq!(asks.verdict(), (400, "refused", "ambiguous_parameter"));
    let click = server.click("offer=theirs&aff=pub-7");
    for order in ["1", "2"] {
        let sale = server.postback(&format!("cid={click}&txid={order}&event=sale&ref=PUB9"));
        assert_eq!(sale.verdict(), (200, "accepted", ""), "{order}");
    }
    let kept = server.conversions("offer=theirs");
    assert_eq!((text(&kept[0], "txn_id"), &kept[0]["params"]), ("1", &json!({ "ref": "PUB9" })));
}
