//! How much is let in: of one address, of one advertiser, and of what waits.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use postbackd::config::Config;
use postbackd::limits::{
    ADMIN_CONNECTIONS_MAX, INBOUND_REFUSED_BYTES_PER_DAY, WAITING_SHARE_OF_SOURCE,
};
use postbackd::store::engine::{Batch, Engine as _};
use postbackd::store::schema::Table;
use postbackd::store::{RocksEngine, database_folder};
use serde_json::json;
use socket2::{Domain, Protocol, Socket, Type};

use crate::harness::tls::{
    Authority, END_HEADERS, HEADERS, RawHttp2, Stream, frame, get, header, request_headers,
};
use crate::harness::{
    Answer, CATALOG, Connection, Fault, Response, Server, Setup, TOKEN, eventually,
};
use crate::hostile::from_address;

const FALLBACK: &str = "https://network.example/unavailable";

/// A server that believes what tests say of their address.
fn setup() -> Setup {
    Setup::new().key("server.trusted_proxies", "127.0.0.0/8")
}

fn from(server: &Server, address: &str, target: &str) -> Response {
    server.request("GET", target, &format!("X-Forwarded-For: {address}\r\n"))
}

fn limited(answer: &Response) -> u64 {
    assert_eq!(answer.status, 429, "{answer:?}");
    let seconds = answer.header("retry-after").expect("it says when");
    seconds.parse().expect("a number of seconds")
}

#[test]
fn clicks_over_an_addresss_limit_go_to_the_fallback_and_are_not_recorded() {
    let server = setup().key("limits.clicks_per_ip", "3/1d").start();
    server.await_own_commits();
    let fallbacks = "postbackd_click_fallbacks_total{reason=\"rate_limited\"}";
    let location = |address: &str, target: &str| {
        let answer = from(&server, address, target);
        assert_eq!(answer.status, 302, "{answer:?}");
        answer.header("location").expect("somewhere").to_owned()
    };
    let is_taken = |address| location(address, "/c/sp7").starts_with("https://shop.example/");
    for _ in 0..3 {
        assert!(is_taken("203.0.113.1"));
    }
    let commits = server.metric("postbackd_store_commits_total");
    for target in ["/c/sp7", "/click?id=sp7", "/c/nothing"] {
        assert_eq!(location("203.0.113.1", target), FALLBACK, "{target}");
    }
    assert_eq!(server.metric(fallbacks), 3.0);
    assert_eq!(server.metric("postbackd_store_commits_total"), commits);
    // A program is told to come again.
    let json = from(&server, "203.0.113.1", "/click?id=sp7&redirect=false");
    assert!(limited(&json) > 3600);
    let json = json.json();
    assert_eq!((&json["click_id"], &json["reason"]), (&().into(), &"rate_limited".into()));
    // HEAD is one of them, and others are others.
    let head = server.request("HEAD", "/c/sp7", "X-Forwarded-For: 203.0.113.1\r\n");
    assert_eq!(head.header("location"), Some(FALLBACK));
    assert!(is_taken("203.0.113.2"));
    for host in ["2001:db8::1", "2001:db8::2", "2001:db8::3:4:5"] {
        assert!(is_taken(host));
    }
    assert!(!is_taken("2001:db8::6"), "one /64 is one address");
    assert!(is_taken("2001:db8:0:1::6"));
    // Postbacks are counted apart, here not at all.
    let click = server.click("id=sp7");
    for n in 1..=5 {
        let target = format!("/postback?click_id={click}&event=sale&txn_id={n}");
        assert_eq!(from(&server, "203.0.113.1", &target).status, 200);
    }
}

#[test]
fn a_visitor_over_the_limit_with_nowhere_to_go_is_told_when_to_come_again() {
    let setup = setup().without_network_fallback().key("limits.clicks_per_ip", "1/10s");
    let server = setup.start();
    let visit = || from(&server, "203.0.113.1", "/c/sp7");
    assert_eq!(visit().status, 302);
    let answer = visit();
    assert!((1..=10).contains(&limited(&answer)));
    // A proxy that does not say for whom it speaks speaks for everybody.
    assert_eq!(server.get("/c/sp7").status, 302);
    assert_eq!(server.get("/c/sp7").status, 302);
    assert!(answer.text().contains("not available"), "{answer:?}");
}

#[test]
fn an_address_that_a_stranger_invents_is_not_believed() {
    let server = Setup::new().key("limits.clicks_per_ip", "3/1d").start();
    let of = |n| from(&server, &format!("203.0.113.{n}"), "/c/sp7");
    for n in 0..3 {
        assert_ne!(of(n).header("location"), Some(FALLBACK));
    }
    assert_eq!(of(4).header("location"), Some(FALLBACK));
    let mut other = from_address(Ipv4Addr::new(127, 0, 0, 2), server.public);
    let answer = other.request("GET", "/c/sp7", "").expect("an answer");
    assert_ne!(answer.header("location"), Some(FALLBACK));
}

#[test]
fn postbacks_over_an_addresss_limit_are_answered_429_and_kept_when_sent_again() {
    let server = setup().key("limits.postbacks_per_ip", "2/2s").start();
    let click = server.click("id=sp7");
    let send = |address: &str, txn: &str| {
        let target = format!("/postback?click_id={click}&event=sale&txn_id={txn}");
        Answer::of(from(&server, address, &target))
    };
    assert_eq!(send("203.0.113.1", "A").verdict(), (200, "accepted", ""));
    assert_eq!(send("203.0.113.1", "A").verdict(), (200, "duplicate", ""));
    let over = send("203.0.113.1", "B");
    assert_eq!(over.verdict(), (429, "unavailable", "rate_limited"));
    assert!((1..=2).contains(&limited(&over.http)));
    assert_eq!(send("203.0.113.2", "C").verdict(), (200, "accepted", ""));
    let post = "X-Forwarded-For: 203.0.113.1\r\n";
    let body = format!("click_id={click}&event=sale&txn_id=B");
    let mut connection = server.connect();
    let by_post = connection.send_body("POST", "/postback", post, body.as_bytes());
    limited(&by_post.expect("an answer"));
    // In the form that the sender reads.
    let of_tune = from(&server, "203.0.113.1", "/aff_lsr?transaction_id=x");
    limited(&of_tune);
    assert_eq!(of_tune.header("x-postback-result"), Some("unavailable"));
    assert_eq!(of_tune.header("x-postback-reason"), Some("rate_limited"));
    assert_eq!(of_tune.text(), "success=false; err_msg=rate_limited;");
    let series = "postbackd_postback_unavailable_total{reason=\"rate_limited\"}";
    assert_eq!(server.metric(series), 3.0);
    assert_eq!(server.conversions("").len(), 2, "nothing was kept of it");
    let again = eventually("room", || {
        let answer = send("203.0.113.1", "B");
        (answer.http.status != 429).then_some(answer)
    });
    assert_eq!(again.verdict(), (200, "accepted", ""));
}

#[test]
fn postbacks_over_an_advertisers_limit_are_answered_429_whoever_sends_them() {
    let limit = "id = \"acme\"\nrate_limit = \"4/1d\"\n";
    let catalog = CATALOG.replacen("id = \"acme\"\n", limit, 1);
    let server = setup().catalog(catalog).start();
    let click = server.click("id=sp7");
    let ask = |target: &str| Answer::of(server.get(target));
    // What is refused uses nothing up: anybody can send it.
    for target in ["/postback/acme?event=sale", "/postback/acme?click_id=x&event=sale"] {
        for _ in 0..5 {
            assert_eq!(ask(target).http.status, 400);
        }
    }
    let of =
        |path: &str, txn: &str| format!("{path}?click_id={click}&event=registration&txn_id={txn}");
    assert_eq!(ask(&of("/postback", "A")).verdict(), (200, "accepted", ""));
    // What has to wait is counted once.
    let approved = ask(&format!("{}&status=ok", of("/postback/acme", "A")));
    assert_eq!(approved.verdict(), (200, "updated", ""));
    let body = format!("click_id={click}&event=registration&txn_id=B");
    let posted = server.connect().post("/postback", "", body.as_bytes()).expect("an answer");
    assert_eq!(Answer::of(posted).verdict(), (200, "accepted", ""));
    assert_eq!(
        ask(&format!("{}&dry_run=1", of("/postback", "C"))).verdict(),
        (200, "accepted", "")
    );
    for target in [of("/postback", "A"), of("/postback/acme", "D")] {
        let over = ask(&target);
        assert_eq!(over.verdict(), (429, "unavailable", "rate_limited"), "{target}");
        assert!(limited(&over.http) > 3600);
    }
    let theirs = server.click("offer=theirs&aff=pub-7");
    let other = ask(&format!("/postback?click_id={theirs}&event=sale"));
    assert_eq!(other.verdict(), (200, "accepted", ""), "another advertiser has its own");
    assert_eq!(server.conversions("event=registration").len(), 2);
}

#[test]
fn a_trusted_proxy_may_have_more_connections_than_an_address() {
    let setup = Setup::new().key("server.connections_per_ip_max", "3");
    let server = setup.key("server.trusted_proxies", "127.0.0.1/32").start();
    let open = |from: Ipv4Addr| {
        let mut connection = from_address(from, server.public);
        let answer = connection.request("GET", "/c/sp7", "").ok()?;
        Some((connection, answer.status))
    };
    let of_proxy: Vec<_> = (0..10).map(|_| open(Ipv4Addr::LOCALHOST)).collect();
    assert!(of_proxy.iter().flatten().all(|(_, status)| *status == 302));
    assert_eq!(of_proxy.iter().flatten().count(), 10);
    let strangers: Vec<_> = (0..10).map(|_| open(Ipv4Addr::new(127, 0, 0, 2))).collect();
    assert_eq!(strangers.iter().flatten().count(), 3);
}

#[test]
fn admin_connections_over_the_limit_are_closed_and_a_place_given_back_is_used_again() {
    let server = Server::start();
    let open = || {
        let mut connection = Connection::open(server.admin);
        let answer = connection.request("GET", "/healthz", "").ok()?;
        assert_eq!(answer.status, 200);
        Some(connection)
    };
    // Those that were closed just now may not be gone yet.
    let place = || eventually("a place", open);
    let mut idle: Vec<_> = (0..ADMIN_CONNECTIONS_MAX).map(|_| place()).collect();
    for _ in 0..3 {
        assert!(open().is_none(), "one more than {ADMIN_CONNECTIONS_MAX}");
    }
    for connection in &mut idle {
        let answer = connection.request("GET", "/healthz", "").expect("those inside stay");
        assert_eq!(answer.status, 200);
    }
    assert_eq!(server.get("/c/sp7").status, 302, "clicks have places of their own");
    idle.pop();
    idle.push(place());
    assert!(open().is_none());
}

#[test]
fn postbacks_that_wait_are_bounded_and_those_that_need_not_go_on() {
    const PLACES: usize = 4;
    let server = Setup::new().key("limits.postbacks_waiting_max", &PLACES.to_string()).start();
    let click = server.click("id=sp7");
    let body = |txn: &str| format!("click_id={click}&event=sale&txn_id={txn}");
    let mut slow: Vec<_> = (0..PLACES)
        .map(|n| {
            // Of so few places each source has one.
            let address = Ipv4Addr::new(127, 0, 0, 2 + n as u8);
            let mut connection = from_address(address, server.public);
            let body = body(&format!("slow-{n}"));
            let head = "POST /postback HTTP/1.1\r\nHost: t\r\nContent-Length";
            let (begun, rest) = body.split_at(10);
            connection.send(format!("{head}: {}\r\n\r\n{begun}", body.len())).expect("sent");
            (connection, rest.to_owned())
        })
        .collect();
    let waiting = |count| {
        eventually("postbacks that wait", || {
            (server.metric("postbackd_postbacks_waiting") == count).then_some(())
        });
    };
    waiting(PLACES as f64);
    let post = |txn: &str| {
        let answer = server.connect().post("/postback", "", body(txn).as_bytes());
        Answer::of(answer.expect("an answer"))
    };
    let refused = post("fast");
    assert_eq!(refused.verdict(), (503, "unavailable", "overloaded"));
    assert_eq!(refused.http.header("retry-after"), Some("1"));
    let get = server.postback(&body("get"));
    assert_eq!(get.verdict(), (200, "accepted", ""), "it waits for nothing but the disk");
    assert_eq!(server.get("/c/sp7").status, 302);
    assert_eq!(server.admin("/api/v1/conversions").status, 200);
    for (connection, rest) in &mut slow {
        connection.send(rest).expect("sent");
        let answer = Answer::of(connection.receive("POST").expect("an answer"));
        assert_eq!(answer.verdict(), (200, "accepted", ""));
    }
    waiting(0.0);
    assert_eq!(post("fast").verdict(), (200, "accepted", ""));
    // A client that hangs up gives its place back, too.
    let mut gone = server.connect();
    gone.send("POST /postback HTTP/1.1\r\nHost: t\r\nContent-Length: 9\r\n\r\nx").expect("sent");
    waiting(1.0);
    drop(gone);
    waiting(0.0);
    assert_eq!(server.conversions("").len(), PLACES + 2);
}

/// The head of a POST whose body does not come, over HTTP/1.1.
fn begun_post(address: &str) -> String {
    format!(
        "POST /postback HTTP/1.1\r\nHost: t\r\nX-Forwarded-For: {address}\r\n\
         Content-Length: 9\r\n\r\nx"
    )
}

/// The same over HTTP/2.
fn begun_stream(number: u32, address: &str) -> Vec<u8> {
    let headers = [request_headers("POST", "/postback"), header("x-forwarded-for", address)];
    frame(HEADERS, END_HEADERS, 2 * number + 1, &headers.concat())
}

#[test]
fn one_source_takes_no_more_places_than_its_share_over_however_many_connections() {
    const PLACES: usize = 80;
    const SHARE: usize = PLACES / WAITING_SHARE_OF_SOURCE;
    let authority = Authority::new();
    let setup = authority.setup("server").key("server.trusted_proxies", "127.0.0.0/8");
    let server = setup.key("limits.postbacks_waiting_max", &PLACES.to_string()).start();
    let (client, plain) = (authority.client(&["h2"]), authority.client(&[]));
    let waiting = |count: usize| {
        eventually("postbacks that wait", || {
            (server.metric("postbackd_postbacks_waiting") == count as f64).then_some(())
        });
    };
    let post = |address: &str, body: &str| {
        let mut connection = plain.open(server.public);
        write!(
            connection,
            "POST /postback HTTP/1.1\r\nHost: t\r\nX-Forwarded-For: {address}\r\n\
             Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .expect("sent");
        let mut answer = String::new();
        // However the connection ends.
        let _ = connection.read_to_string(&mut answer);
        answer
    };
    let refused = |answer: &str| {
        // Some senders repeat nothing but a 5xx.
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        assert!(
            answer.contains("retry-after: 1\r\n") && answer.contains("source_busy"),
            "{answer}"
        );
    };
    let click = plain_click(&mut plain.open(server.public));
    let sale = |txn: &str| format!("click_id={click}&event=sale&txn_id={txn}");

    // A /64 is one source: half of its share over HTTP/1.1, and much more over HTTP/2.
    let mut slow: Vec<_> = (0..SHARE / 2).map(|_| plain.open(server.public)).collect();
    for (connection, n) in slow.iter_mut().zip(0..) {
        connection.write_all(begun_post(&format!("2001:db8::{n}")).as_bytes()).expect("sent");
    }
    waiting(SHARE / 2);
    let mut flood: Vec<_> = (0..3).map(|_| RawHttp2::open(&client, server.public, &[])).collect();
    for raw in &mut flood {
        let frames = (0..50).flat_map(|n| begun_stream(n, &format!("2001:db8::1:{n}")));
        raw.send(&frames.collect::<Vec<_>>()).expect("sent");
    }
    let series = "postbackd_postback_unavailable_total{reason=\"source_busy\"}";
    let beyond = (150 - (SHARE - SHARE / 2)) as f64;
    eventually("refusals", || (server.metric(series) == beyond).then_some(()));
    waiting(SHARE);
    // What that source sends whole is refused, too, unless it needs no place.
    refused(&post("2001:db8::7", &sale("flood")));
    let mut asking = plain.open(server.public);
    let target = format!("/postback?{}", sale("get"));
    assert_eq!(get(&mut asking, &target).expect("an answer"), 200);

    // Others are served, by HTTP/1.1 and HTTP/2; whoever speaks for everybody has no share.
    assert!(post("2001:db8:0:1::1", &sale("other")).contains("\"accepted\""));
    let spoken_for: Vec<_> = (0..2 * SHARE)
        .map(|_| {
            let mut connection = plain.open(server.public);
            connection.write_all(begun_post("127.0.0.1").as_bytes()).expect("sent");
            connection
        })
        .collect();
    waiting(3 * SHARE);
    assert!(post("203.0.113.9", &sale("another")).contains("\"accepted\""));
    let mut other = RawHttp2::open(&client, server.public, &[]);
    other.send(&begun_stream(0, "203.0.113.8")).expect("sent");
    waiting(3 * SHARE + 1);

    // Places come back with the connections that held them, and the share with them.
    drop((other, spoken_for));
    waiting(SHARE);
    drop(flood);
    waiting(SHARE / 2);
    assert!(post("2001:db8::7", &sale("flood")).contains("\"accepted\""));
    drop(slow);
    waiting(0);
    assert_eq!(server.conversions("").len(), 4);
}

/// A click over TLS; its ID.
fn plain_click(stream: &mut Stream) -> String {
    write!(
        stream,
        "GET /click?id=sp7&redirect=false HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n"
    )
    .expect("sent");
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    let (_, rest) = answer.split_once("\"click_id\":\"").expect("a click");
    rest[..33].to_owned()
}

#[test]
fn what_waits_for_the_disk_alone_holds_no_place() {
    let setup = Setup::new().on_faulty_disk().key("limits.postbacks_waiting_max", "8");
    let server = setup.start();
    let own = server.await_own_commits();
    let click = server.click("id=sp7");
    server.await_commits(own + 1);
    server.disk().break_down(Fault::SyncsHang, None);
    let body = |n: usize| format!("click_id={click}&event=sale&txn_id=T-{n}");
    // One after the other: one source has one of these places.
    let mut posted: Vec<_> = (0..20)
        .map(|n| {
            let (mut connection, body) = (server.connect(), body(n));
            let head = format!(
                "POST /postback HTTP/1.1\r\nHost: t\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            connection.send(format!("{head}{body}")).expect("sent");
            let pending = (n + 1) as f64;
            eventually("a claim on its way to the disk", || {
                (server.metric("postbackd_dedupe_pending") == pending).then_some(())
            });
            assert_eq!(server.metric("postbackd_postbacks_waiting"), 0.0);
            connection
        })
        .collect();
    // The same again waits for another postback, by whatever method: it has a place.
    let mut again = server.connect();
    again.ask("GET", &format!("/postback?{}", body(0)), "").expect("sent");
    eventually("a place", || (server.metric("postbackd_postbacks_waiting") == 1.0).then_some(()));
    let beyond = server.connect().post("/postback", "", body(0).as_bytes());
    let beyond = Answer::of(beyond.expect("an answer"));
    assert_eq!(beyond.verdict(), (503, "unavailable", "source_busy"));
    server.disk().repair();
    for connection in &mut posted {
        let answer = Answer::of(connection.receive("POST").expect("an answer"));
        assert_eq!(answer.verdict(), (200, "accepted", ""));
    }
    let again = Answer::of(again.receive("GET").expect("an answer"));
    assert_eq!(again.verdict(), (200, "duplicate", ""));
}

#[test]
fn a_client_that_takes_none_of_its_answers_loses_its_connection() {
    let server = Setup::new().key("server.header_read_timeout", "1s").start();
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a small buffer");
    socket.connect(&server.public.into()).expect("the server accepts connections");
    let requests = "GET /c/sp7 HTTP/1.1\r\nHost: t.example\r\n\r\n".repeat(1000);
    // Until the server, which cannot send its answers, reads no more either.
    let mut connection = Connection::of(socket.into()).expect("a connection");
    connection.set_write_timeout(Duration::from_millis(200));
    let refused = (0..1000).find(|_| connection.send(&requests).is_err());
    assert!(refused.is_some_and(|sent| sent > 0), "it reads on for ever");
    eventually("the end of the connection", || {
        (server.metric("postbackd_connections") == 0.0).then_some(())
    });
    assert_eq!(server.get("/c/sp7").status, 302);
}

#[test]
fn a_rate_limit_is_a_number_in_a_time() {
    let config = |limit: &str| {
        let text = format!("[limits]\nclicks_per_ip = \"{limit}\"\n");
        Config::load(Some(&text), "p.toml", std::iter::empty())
    };
    for (text, count, period_ms) in
        [("1/1s", 1, 1000), ("600/1m", 600, 60_000), ("1000000000/1d", 1_000_000_000, 86_400_000)]
    {
        let limit = config(text).expect(text).0.limits.clicks_per_ip.expect("it is set");
        assert_eq!((limit.count, limit.period_ms), (count, period_ms), "{text}");
    }
    let none = Config::load(None, "p.toml", std::iter::empty()).expect("defaults").0.limits;
    assert_eq!((none.clicks_per_ip, none.postbacks_per_ip), (None, None));
    for text in ["", "600", "/1m", "600/", "-1/1m", "+1/1m", "1.5/1m", "600/m", "600/1w", "1/1m/1m"]
    {
        let report = config(text).expect_err(text).to_string();
        assert!(report.contains("is not a rate limit such as \"600/1m\""), "{text}: {report}");
    }
    for text in ["0/1m", "1000000001/1m", "1/999ms", "1/25h"] {
        let report = config(text).expect_err(text).to_string();
        assert!(report.contains("must be from 1 to 1000000000, in \"1s\" to \"1d\""), "{report}");
    }
}

#[test]
fn where_nothing_of_refused_postbacks_is_to_be_kept_each_is_counted_and_conversions_are_kept() {
    let server = Setup::new().key("inbound.refused_per_day", "0B").start();
    for _ in 0..3 {
        assert_eq!(server.postback("click_id=x&event=sale").http.status, 400);
    }
    let series = "postbackd_inbound_dropped_total{result=\"refused\"}";
    assert_eq!(server.metric(series), 3.0);
    let click = server.click("id=sp7");
    let sale = server.postback(&format!("click_id={click}&event=sale&txn_id=T-1"));
    assert_eq!(sale.verdict(), (200, "accepted", ""));
    let kept = server.api("inbound");
    let kept = kept["items"].as_array().expect("items");
    assert_eq!(kept.iter().map(|row| &row["result"]).collect::<Vec<_>>(), ["accepted"]);
    let config = |text: &str| Config::load(Some(text), "p.toml", std::iter::empty());
    let bytes = |text: &str| config(text).expect(text).0.inbound.refused_bytes_per_day;
    assert_eq!(bytes(""), INBOUND_REFUSED_BYTES_PER_DAY);
    assert_eq!(bytes("[inbound]\nrefused_per_day = \"512MiB\"\n"), 512 << 20);
    let report = config("[inbound]\nrefused_per_day = \"much\"\n").expect_err("no size");
    assert!(report.to_string().contains("is not a size"), "{report}");
}

#[test]
fn answers_that_are_not_read_are_bounded_in_number() {
    const ANSWERS_MAX: usize = 16;
    let server = Server::start();
    let click = server.click("id=sp7");
    // As JSON a character that has to be escaped is six.
    let long: String = (1..=10).map(|n| format!("&own{n}={}", "%01".repeat(250))).collect();
    let mut connection = server.connect();
    for n in 1..=1000 {
        let target = format!("/postback?click_id={click}&event=sale&txn_id=T-{n}{long}");
        let answer = connection.request("GET", &target, "").expect("an answer");
        assert_eq!(answer.status, 200);
    }
    let page = "/api/v1/conversions?limit=1000";
    let ask = || {
        let stream = TcpStream::connect(server.admin).expect("it listens");
        socket2::SockRef::from(&stream).set_recv_buffer_size(64 << 10).expect("a small one");
        let answered = stream.try_clone().expect("a descriptor");
        let mut reader = Connection::of(stream).expect("a socket");
        reader.ask("GET", page, &format!("Authorization: Bearer {TOKEN}\r\n")).expect("sent");
        assert_eq!(answered.peek(&mut [0]).expect("a first byte"), 1);
        reader
    };
    let readers: Vec<_> = (0..ANSWERS_MAX).map(|_| ask()).collect();
    let refused = server.admin(page);
    let code = refused.json()["error"]["code"].clone();
    assert_eq!((refused.status, code), (503, json!("answers_busy")));
    // What is light, and the catalog, have places of their own.
    assert_eq!(server.admin("/api/v1/catalog").status, 200);
    for mut reader in readers {
        let answer = reader.receive("GET").expect("an answer");
        // A page is full before it has a thousand rows.
        let found = answer.json()["items"].as_array().map_or(0, Vec::len);
        assert!((500..1000).contains(&found), "{found}");
        assert!(answer.json()["next_cursor"].is_string());
    }
    assert_eq!(server.admin(page).status, 200);
}

#[test]
fn jobs_that_are_not_read_are_bounded_in_number() {
    const JOBS_MAX: usize = 32;
    let mut server = Server::start();
    server.stop();
    {
        let engine = RocksEngine::open(&database_folder(&server.path("data")), 8 << 20);
        let (engine, mut batch) = (engine.expect("nobody has it open"), Batch::default());
        for number in 0..1000_u16 {
            // A key of no kind: `verify` names it.
            let key = [&b"?"[..], &number.to_be_bytes(), &[0; 6000]].concat();
            batch.put(Table::Counters, &key, |_| {});
        }
        engine.append(&batch).and_then(|()| engine.sync()).expect("written");
    }
    server.start_again();
    let done = server.ended(&server.post_api("verify", "", ""));
    assert_eq!(done["result"]["broken"].as_array().map(Vec::len), Some(1000));
    let job = format!("/api/v1/jobs/{}", done["job_id"].as_str().expect("an ID"));
    let ask = || {
        let stream = TcpStream::connect(server.admin).expect("it listens");
        socket2::SockRef::from(&stream).set_recv_buffer_size(64 << 10).expect("a small one");
        let answered = stream.try_clone().expect("a descriptor");
        let mut reader = Connection::of(stream).expect("a socket");
        reader.ask("GET", &job, &format!("Authorization: Bearer {TOKEN}\r\n")).expect("sent");
        assert_eq!(answered.peek(&mut [0]).expect("a first byte"), 1);
        reader
    };
    let readers: Vec<_> = (0..JOBS_MAX).map(|_| ask()).collect();
    for light in [&*job, "/api/v1/catalog/versions"] {
        let refused = server.admin(light);
        let code = refused.json()["error"]["code"].clone();
        assert_eq!((refused.status, code), (503, json!("answers_busy")), "{light}");
    }
    for other in ["/api/v1/catalog", "/api/v1/openapi.json", "/api/v1/conversions"] {
        assert_eq!(server.admin(other).status, 200, "{other}");
    }
    drop(readers);
    eventually("a place", || (server.admin(&job).status == 200).then_some(()));
}

#[test]
fn clicks_leave_the_last_of_the_disk_to_conversions() {
    let mut server = Server::start();
    let click = server.click("id=sp7");
    let free = server.metric("postbackd_store_free_bytes");
    // More than the reserve is free, and less than twice as much.
    server.set_key("store.free_space_reserve", &format!("{}MiB", (free / 1.5) as u64 >> 20));
    assert!(server.stop().success());
    server.start_again();
    let unrecorded = || server.metric("postbackd_clicks_unrecorded_total");
    eventually("a look at the disk", || {
        assert_eq!(server.get("/c/sp7").status, 302, "the visitor goes on");
        (unrecorded() >= 1.0).then_some(())
    });
    assert_eq!(server.metric("postbackd_store_disk_full"), 0.0);
    // Nor can refused postbacks fill it.
    let refused = server.postback("click_id=x&event=sale");
    assert_eq!(refused.verdict(), (400, "refused", "malformed_click_id"));
    assert_eq!(server.metric("postbackd_inbound_dropped_total{result=\"refused\"}"), 1.0);
    let before = unrecorded();
    let unkept = server.click("id=sp7");
    assert_eq!(unrecorded(), before + 1.0);
    for click in [click, unkept] {
        let sale = format!("click_id={click}&event=sale");
        assert_eq!(server.postback(&sale).verdict(), (200, "accepted", ""));
    }
}
