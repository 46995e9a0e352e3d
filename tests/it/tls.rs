//! TLS and HTTP/2: that everything goes over them, and that nobody misuses them.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use hyper::Method;
use tokio::task::JoinSet;
use tokio_rustls::rustls::version::{TLS12, TLS13};

use crate::harness::tls::{
    Authority, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, Http2, PING,
    RST_STREAM, RawHttp2, SETTINGS, WINDOW_UPDATE, frame, get, header, request_headers,
};
use crate::harness::{Answer, CATALOG, Ended, PATIENCE, Server, Setup, binary, eventually};

/// Reasons of GOAWAY and RST_STREAM.
const NO_ERROR: u32 = 0;
const ENHANCE_YOUR_CALM: u32 = 11;

fn tls_handshakes(server: &Server, result: &str) -> f64 {
    server.metric(&format!("postbackd_tls_handshakes_total{{result=\"{result}\"}}"))
}

fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        tokio::time::timeout(2 * PATIENCE, future).await.expect("within all patience")
    })
}

/// A click over HTTP/2; its ID.
async fn click(http2: &mut Http2) -> String {
    let answer = http2.get("/click?id=sp7&redirect=false").await.expect("an answer");
    answer.json()["click_id"].as_str().expect("a click").to_owned()
}

#[test]
fn clicks_and_postbacks_go_over_each_version_and_protocol() {
    let authority = Authority::new();
    let server = authority.setup("server").start();
    for (round, versions) in [[&TLS12], [&TLS13]].into_iter().enumerate() {
        for protocols in [&["http/1.1"][..], &[], &["spdy/3", "http/1.1"]] {
            let client = authority.client_of(protocols, &versions);
            let mut stream = client.open(server.public);
            assert_eq!(stream.conn.protocol_version(), Some(versions[0].version));
            assert_ne!(stream.conn.alpn_protocol(), Some(b"h2".as_slice()));
            assert_eq!(get(&mut stream, "/c/sp7").expect("an answer"), 302);
            assert_eq!(get(&mut stream, "/postback?event=sale").expect("an answer"), 400);
        }
        block_on(async {
            let client = authority.client_of(&["h2", "http/1.1"], &versions);
            let mut http2 = Http2::open(&client, server.public).await;
            let redirect = http2.get("/c/sp7").await.expect("an answer");
            assert_eq!(redirect.status, 302);
            assert!(redirect.header("location").expect("a place").starts_with("https://shop."));
            let head = http2.request(Method::HEAD, "/c/sp7", &[], "").await.expect("an answer");
            assert_eq!((head.status, &*head.body), (302, &b""[..]));
            let click = click(&mut http2).await;
            let query = format!("click_id={click}&event=sale&txn_id=T-{round}");
            let answer = http2.get(&format!("/postback?{query}")).await.expect("an answer");
            assert_eq!(Answer::of(answer).verdict(), (200, "accepted", ""));
            let form = [("content-type", "application/x-www-form-urlencoded")];
            let posted = http2.request(Method::POST, "/postback", &form, &query).await;
            let posted = Answer::of(posted.expect("an answer"));
            assert_eq!(posted.verdict(), (200, "duplicate", ""));
            assert_eq!(posted.http.header("idempotent-replayed"), Some("true"));
            let long = format!("/postback?x={}", "y".repeat(9000));
            let long = Answer::of(http2.get(&long).await.expect("an answer"));
            assert_eq!(long.verdict(), (414, "refused", "url_too_long"));
            let large = "x".repeat((64 << 10) + 1);
            let large = http2.request(Method::POST, "/postback", &form, &large).await;
            assert_eq!(Answer::of(large.expect("an answer")).verdict().0, 413);
            assert_eq!(http2.get("/api/v1/totals").await.expect("an answer").status, 404);
        });
    }
    assert_eq!(server.conversions("").len(), 2);
    assert_eq!(tls_handshakes(&server, "completed"), 8.0);
    assert_eq!(tls_handshakes(&server, "failed"), 0.0);
}

#[test]
fn who_speaks_no_tls_of_today_is_turned_away() {
    let authority = Authority::new();
    let server = authority.setup("server").start();
    // HTTP in clear text gets no HTTP back.
    let mut plain = server.connect();
    plain.send("GET /c/sp7 HTTP/1.1\r\nHost: t\r\n\r\n").expect("sent");
    let rest = plain.rest().expect("closed");
    assert!(rest.len() < 10 && !rest.starts_with(b"HTTP"), "{rest:?}");
    // So does HTTP/2 without TLS.
    let mut plain = server.connect();
    plain.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").expect("sent");
    assert!(plain.rest().expect("closed").len() < 10);
    // A greeting of TLS 1.1, with a suite that we would know.
    // Its signatures and curves are ours as well: only the version is too old.
    let extensions = [0, 16, 0, 13, 0, 4, 0, 2, 4, 3, 0, 10, 0, 4, 0, 2, 0, 23];
    let suite = [0, 0, 2, 0xc0, 0x09, 1, 0];
    let hello = [&[3, 2], [7; 32].as_slice(), &suite, &extensions].concat();
    let hello = [&[1, 0, 0, hello.len() as u8], hello.as_slice()].concat();
    let record = [&[22, 3, 1, 0, hello.len() as u8], hello.as_slice()].concat();
    let mut old = server.connect();
    old.send(record).expect("sent");
    let alert = old.rest().expect("closed");
    assert_eq!((alert[0], &alert[5..7]), (21, &[2, 70][..]), "protocol_version: {alert:?}");
    // Nothing in common to speak.
    assert!(authority.client(&["spdy/3"]).try_open(server.public, b"").is_err());
    // Whoever does not know who we are ends it, too.
    assert!(Authority::new().client(&["h2"]).try_open(server.public, b"").is_err());
    eventually("five failures", || (tls_handshakes(&server, "failed") == 5.0).then_some(()));
    // Another port speaks no HTTP/2 in clear text, either.
    let plain = Server::start();
    let mut prior_knowledge = plain.connect();
    prior_knowledge.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").expect("sent");
    let said = prior_knowledge.rest().expect("closed");
    assert!(said.is_empty() || said.starts_with(b"HTTP/1.1 400"), "{said:?}");
}

#[test]
fn streams_of_one_connection_count_once_each() {
    let authority = Authority::new();
    let server = authority.setup("server").start();
    block_on(async {
        let client = authority.client(&["h2"]);
        let mut http2 = Http2::open(&client, server.public).await;
        let click = click(&mut http2).await;
        let mut sent = JoinSet::new();
        for number in 0..600 {
            let target = format!("/postback?click_id={click}&event=sale&txn_id=T-{}", number % 300);
            let mut http2 = http2.clone();
            sent.spawn(async move { Answer::of(http2.get(&target).await.expect("an answer")) });
        }
        let answers = sent.join_all().await;
        let of = |word: &str| answers.iter().filter(|answer| answer.word("result") == word).count();
        assert_eq!((of("accepted"), of("duplicate")), (300, 300));
    });
    assert_eq!(server.conversions("").len(), 300);
    assert_eq!(server.metric("postbackd_dedupe_pending"), 0.0);
}

#[test]
fn whoever_stalls_in_the_handshake_holds_a_place_and_is_cut_off() {
    let authority = Authority::new();
    let server = authority.setup("server").key("server.connections_max", "2").start();
    let started = Instant::now();
    let mut silent = server.connect();
    let mut slow = server.connect();
    // The start of a record that is never finished.
    slow.send([22, 3, 1, 2, 0, 1]).expect("sent");
    eventually("two places taken", || {
        (server.metric("postbackd_connections") == 2.0).then_some(())
    });
    assert_eq!(server.connect().rest().expect("closed at once"), b"");
    let full = "postbackd_connections_refused_total{reason=\"connections_max\"}";
    assert_eq!(server.metric(full), 1.0);
    assert_eq!(silent.rest().expect("closed"), b"");
    assert_eq!(slow.rest().expect("closed"), b"");
    let took = started.elapsed();
    assert!((Duration::from_secs(9)..Duration::from_secs(20)).contains(&took), "{took:?}");
    eventually("both counted", || (tls_handshakes(&server, "late") == 2.0).then_some(()));
    let mut stream = authority.client(&[]).open(server.public);
    assert_eq!(get(&mut stream, "/c/sp7").expect("an answer"), 302);
}

/// Sends until the server has said goodbye; its reason.
fn flood(raw: &mut RawHttp2, mut next: impl FnMut(u32) -> Vec<u8>) -> u32 {
    for number in 0..1_000_000 {
        // An error means that it has been said.
        if raw.send(&next(2 * number + 1)).is_err() {
            break;
        }
        let socket = &raw.0.sock;
        socket.set_nonblocking(true).expect("a socket");
        let has_more = socket.peek(&mut [0]).is_ok();
        socket.set_nonblocking(false).expect("a socket");
        if has_more {
            match raw.receive() {
                Ok((GOAWAY, _, _, payload)) => {
                    return u32::from_be_bytes(*payload[4..].first_chunk().expect("a reason"));
                }
                Ok(_) => {}
                Err(_) => break,
            }
        }
    }
    raw.goodbye().expect("goodbye before the end")
}

#[test]
fn requests_taken_back_at_once_do_not_stop_others_nor_fill_memory() {
    let authority = Authority::new();
    let server = authority.setup("server").start();
    let client = authority.client(&["h2"]);
    let mut warm = authority.client(&[]).open(server.public);
    assert_eq!(get(&mut warm, "/c/sp7").expect("an answer"), 302);
    let before = server.metric("postbackd_resident_memory_bytes");
    for _ in 0..20 {
        let mut raw = RawHttp2::open(&client, server.public, &[]);
        let headers = request_headers("GET", "/c/nothing");
        // Many in one record: the server sees them all before it can answer the first.
        let reason = flood(&mut raw, |first| {
            let pair = |number: u32| {
                let stream = (first - 1) * 64 + 2 * number + 1;
                let request = frame(HEADERS, END_STREAM | END_HEADERS, stream, &headers);
                [request, frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())].concat()
            };
            (0..64).flat_map(pair).collect()
        });
        assert_eq!(reason, ENHANCE_YOUR_CALM);
        assert_eq!(get(&mut warm, "/c/sp7").expect("an answer"), 302, "others go on");
    }
    let grown = server.metric("postbackd_resident_memory_bytes") - before;
    assert!(grown < 32e6, "{grown} bytes more");
    eventually("closed connections", || {
        (server.metric("postbackd_connections") == 1.0).then_some(())
    });
}

#[test]
fn streams_that_the_client_makes_us_reset_are_counted() {
    let authority = Authority::new();
    let server = authority.setup("server").start();
    let mut raw = RawHttp2::open(&authority.client(&["h2"]), server.public, &[]);
    let headers = request_headers("POST", "/postback");
    // A window that grows too large is an error of its stream, which the server has to reset.
    let reason = flood(&mut raw, |stream| {
        let request = frame(HEADERS, END_HEADERS, stream, &headers);
        [request, frame(WINDOW_UPDATE, 0, stream, &[0x7f, 0xff, 0xff, 0xff])].concat()
    });
    assert_eq!(reason, ENHANCE_YOUR_CALM);
}

#[test]
fn headers_without_an_end_and_headers_too_large_are_refused() {
    let authority = Authority::new();
    let server = authority.setup("server").start();
    let client = authority.client(&["h2"]);
    // Frames that go on and on.
    let mut raw = RawHttp2::open(&client, server.public, &[]);
    raw.send(&frame(HEADERS, 0, 1, &request_headers("GET", "/c/sp7"))).expect("sent");
    let piece = header("x-more", &"y".repeat(1000));
    let reason = flood(&mut raw, |_| frame(CONTINUATION, 0, 1, &piece));
    assert_ne!(reason, NO_ERROR);
    // Frames without anything in them.
    let mut raw = RawHttp2::open(&client, server.public, &[]);
    raw.send(&frame(HEADERS, 0, 1, &request_headers("GET", "/c/sp7"))).expect("sent");
    let reason = flood(&mut raw, |_| frame(CONTINUATION, 0, 1, &[]));
    assert_ne!(reason, NO_ERROR);
    block_on(async {
        let mut http2 = Http2::open(&client, server.public).await;
        let large = "y".repeat(40_000);
        let answer = http2.request(Method::GET, "/c/sp7", &[("x-large", &large)], "").await;
        // The client's library may refuse to send what the server has said it will not read.
        if let Ok(answer) = answer {
            assert_eq!(answer.status, 431);
        }
        assert_eq!(http2.get("/c/sp7").await.expect("the connection goes on").status, 302);
    });
}

#[test]
fn more_streams_at_once_than_allowed_are_refused() {
    let authority = Authority::new();
    let server = authority.setup("server").start();
    let mut raw = RawHttp2::open(&authority.client(&["h2"]), server.public, &[]);
    let headers = request_headers("POST", "/postback");
    // Bodies that are begun and not ended.
    let open = |number: u32| frame(HEADERS, END_HEADERS, 2 * number + 1, &headers);
    raw.send(&(0..101).flat_map(open).collect::<Vec<_>>()).expect("sent");
    let refused = loop {
        let (kind, _, stream, payload) = raw.receive().expect("a frame");
        if kind == RST_STREAM {
            break (stream, payload);
        }
    };
    assert_eq!(refused, (201, 7_u32.to_be_bytes().to_vec()), "REFUSED_STREAM");
}

#[test]
fn a_connection_that_is_idle_or_stuck_does_not_keep_its_place() {
    let authority = Authority::new();
    let server = authority.setup("server").key("server.header_read_timeout", "300ms").start();
    let client = authority.client(&["h2"]);
    // One that does nothing, one whose header never ends, one that reads no answer.
    let mut idle = RawHttp2::open(&client, server.public, &[]);
    let mut endless = RawHttp2::open(&client, server.public, &[]);
    endless.send(&frame(HEADERS, 0, 1, &request_headers("GET", "/c/sp7"))).expect("sent");
    let no_window = [0, 4, 0, 0, 0, 0];
    let mut deaf = RawHttp2::open(&client, server.public, &no_window);
    let request = request_headers("GET", "/postback?event=sale");
    deaf.send(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &request)).expect("sent");
    // None of them answers the server's goodbye.
    assert_eq!(idle.goodbye().expect("goodbye"), NO_ERROR);
    for raw in [&mut idle, &mut endless, &mut deaf] {
        raw.end();
    }
    eventually("closed connections", || {
        (server.metric("postbackd_connections") == 0.0).then_some(())
    });
    block_on(async {
        let mut busy = Http2::open(&client, server.public).await;
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert_eq!(busy.get("/c/sp7").await.expect("it is in use").status, 302);
        }
    });
}

#[test]
fn a_drain_ends_connections_of_http_2_when_their_requests_are_answered() {
    let authority = Authority::new();
    let mut server = authority.setup("server").start();
    let client = authority.client(&["h2"]);
    let click = block_on(async { click(&mut Http2::open(&client, server.public).await).await });
    let body = format!("click_id={click}&event=sale&txn_id=T");
    let mut raw = RawHttp2::open(&client, server.public, &[]);
    let mut silent = RawHttp2::open(&client, server.public, &[]);
    let mut shaking = server.connect();
    shaking.send([22, 3, 1]).expect("sent");
    let length = header("content-length", &body.len().to_string());
    let headers = [request_headers("POST", "/postback"), length].concat();
    raw.send(&frame(HEADERS, END_HEADERS, 1, &headers)).expect("sent");
    raw.send(&frame(DATA, 0, 1, &body.as_bytes()[..10])).expect("sent");
    eventually("three connections", || {
        (server.metric("postbackd_connections") == 3.0).then_some(())
    });
    let started = Instant::now();
    server.signal("TERM");
    assert_eq!(raw.goodbye().expect("goodbye"), NO_ERROR);
    raw.send(&frame(DATA, END_STREAM, 1, &body.as_bytes()[10..])).expect("sent");
    let answer = loop {
        let (kind, _, stream, payload) = raw.receive().expect("an answer");
        if (kind, stream) == (DATA, 1) {
            break String::from_utf8(payload).expect("JSON");
        }
    };
    assert!(answer.contains("\"accepted\""), "{answer}");
    assert_eq!(silent.goodbye().expect("goodbye"), NO_ERROR);
    assert_eq!(server.wait().code(), Some(0));
    let took = started.elapsed();
    assert!(took < Duration::from_secs(7), "who does not answer a goodbye is cut off: {took:?}");
    assert_eq!(shaking.rest().expect("closed"), b"");
}

#[test]
fn answers_that_an_admin_client_does_not_read_are_bounded_over_http_2() {
    let authority = Authority::new();
    let many: String = (0..20_000).map(|n| format!("[[affiliates]]\nid = \"m-{n}\"\n")).collect();
    let server = with_tls_on_admin(&authority, Setup::new().catalog(format!("{CATALOG}{many}")));
    let client = authority.client(&["h2"]);
    let no_window = [0, 4, 0, 0, 0, 0];
    let mut deaf = RawHttp2::open(&client, server.admin, &no_window);
    let headers = request_headers("GET", "/metrics");
    let ask = |number: u32| frame(HEADERS, END_STREAM | END_HEADERS, 2 * number + 1, &headers);
    deaf.send(&(0..9).flat_map(ask).collect::<Vec<_>>()).expect("sent");
    let refused = loop {
        let (kind, _, stream, payload) = deaf.receive().expect("a frame");
        if kind == RST_STREAM {
            break (stream, payload);
        }
    };
    assert_eq!(refused, (17, 7_u32.to_be_bytes().to_vec()), "REFUSED_STREAM");

    // What is sent in pieces holds its place until its end.
    let get = || {
        block_on(async {
            let mut http2 = Http2::open(&client, server.admin).await;
            let answer = http2.request(Method::GET, "/api/v1/catalog", &[ADMIN], "").await;
            answer.expect("an answer").status
        })
    };
    let mut slow = RawHttp2::open(&client, server.admin, &[]);
    let asked = [request_headers("GET", "/api/v1/catalog"), header(ADMIN.0, ADMIN.1)].concat();
    for stream in [1, 3] {
        slow.send(&frame(HEADERS, END_STREAM | END_HEADERS, stream, &asked)).expect("sent");
    }
    // As much as a client takes that has not said how much more it does.
    let mut taken = 0;
    while taken < 65_535 {
        let (kind, _, _, payload) = slow.receive().expect("a frame");
        taken += if kind == DATA { payload.len() } else { 0 };
    }
    assert_eq!(get(), 503, "no place is left");
    drop(slow);
    eventually("a place", || (get() == 200).then_some(()));
}

/// How many bytes of a request, and of a connection, may be on their way to a server.
fn windows(mut http2: RawHttp2) -> (u32, u32) {
    const INITIAL_WINDOW_SIZE: [u8; 2] = [0, 4];
    let number = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().expect("four bytes"));
    let mut of_request = None;
    loop {
        match http2.receive().expect("a frame") {
            (SETTINGS, 0, 0, settings) => {
                let size = settings.chunks(6).find(|setting| setting[..2] == INITIAL_WINDOW_SIZE);
                of_request = size.map(|setting| number(&setting[2..]));
            }
            // What a connection begins with, and how much more it may be.
            (WINDOW_UPDATE, _, 0, more) => {
                return (of_request.expect("settings come first"), 65_535 + number(&more));
            }
            _ => {}
        }
    }
}

#[test]
fn bytes_that_nobody_reads_are_bounded_over_http_2() {
    let authority = Authority::new();
    let server = with_tls_on_admin(&authority, authority.setup("server"));
    let client = authority.client(&["h2"]);
    let of = |listener| windows(RawHttp2::open(&client, listener, &[]));
    assert_eq!(of(server.public), (64 << 10, 128 << 10));
    assert_eq!(of(server.admin), (1 << 20, 2 << 20));
}

/// The token of the admin API, as it is shown.
const ADMIN: (&str, &str) = ("authorization", "Bearer an-admin-token-for-tests");

/// A server that has TLS on its admin listener. It was started without, because the harness asks in
/// clear text whether it is ready.
fn with_tls_on_admin(authority: &Authority, setup: Setup) -> Server {
    let (certificate, key) = authority.issue();
    let mut server = setup.start();
    server.write("cert.pem", &certificate);
    server.write("key.pem", &key);
    assert_eq!(server.stop().code(), Some(0));
    server.set_key("admin.tls_certificate", "cert.pem");
    server.set_key("admin.tls_key", "key.pem");
    server.launch();
    eventually("the admin listener", || TcpStream::connect(server.admin).ok());
    server
}

#[test]
fn the_admin_listener_speaks_tls_and_http_2_and_the_command_line_trusts_whom_it_is_told() {
    let authority = Authority::new();
    let setup =
        Setup::new().key("backup.path", "backups").file("token", "an-admin-token-for-tests");
    let setup = setup.file("ca.pem", &authority.pem());
    let mut server =
        with_tls_on_admin(&authority, setup.file("stranger.pem", &Authority::new().pem()));
    let client = authority.client(&["h2", "http/1.1"]);
    block_on(async {
        let mut http2 = Http2::open(&client, server.admin).await;
        let totals = http2.request(Method::GET, "/api/v1/totals", &[ADMIN], "").await;
        assert_eq!(totals.expect("an answer").status, 200);
        assert_eq!(http2.get("/api/v1/totals").await.expect("an answer").status, 401);
    });
    let mut http1 = authority.client(&["http/1.1"]).open(server.admin);
    assert_eq!(get(&mut http1, "/healthz").expect("an answer"), 200);
    let mut plain = TcpStream::connect(server.admin).expect("accepted");
    plain.write_all(b"GET /healthz HTTP/1.1\r\nHost: t\r\n\r\n").expect("sent");
    let mut rest = Vec::new();
    let _ = plain.read_to_end(&mut rest);
    assert!(!rest.starts_with(b"HTTP"), "{rest:?}");

    let run = |arguments: &[&str]| {
        let mut command = binary();
        command.args(arguments).current_dir(server.path(".")).env("PATH", "/usr/bin:/bin");
        command.env("POSTBACKD_BACKUP__PATH", "backups");
        command.env("POSTBACKD_ADMIN__TLS_CERTIFICATE", "cert.pem");
        command.env("POSTBACKD_ADMIN__TLS_KEY", "key.pem");
        let ended = Ended::of(&mut command);
        (ended.code, ended.said())
    };
    let (by_ip, port) = (format!("https://{}", server.admin), server.admin.port());
    let apply = |address: &str, more: &[&str]| {
        let fixed = ["catalog", "diff", "catalog.toml", "--token-file", "token", "--against"];
        run(&[&fixed, &[address][..], more].concat())
    };
    assert_eq!(apply(&by_ip, &["--ca", "ca.pem"]), (Some(0), "no differences\n".to_owned()));
    let (code, said) = apply(&by_ip, &["--ca", "stranger.pem"]);
    assert!(code == Some(1) && said.contains("invalid peer certificate"), "{said}");
    let (code, said) = apply(&by_ip, &[]);
    assert!(code == Some(1) || code == Some(2), "{said}");
    let (code, said) = apply(&format!("https://localhost:{port}"), &["--ca", "ca.pem"]);
    assert!(code == Some(1) && said.contains("not valid for name"), "{said}");
    let (code, _) = apply(&format!("http://{}", server.admin), &[]);
    assert_eq!(code, Some(1));
    let (code, said) = apply(&format!("http://{}", server.admin), &["--ca", "ca.pem"]);
    assert!(code == Some(2) && said.contains("--ca is for https"), "{said}");
    // On the same machine the configuration says which certificate to expect.
    let (code, said) = run(&["backup", "--config", "postbackd.toml"]);
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = run(&["check-config", "--config", "postbackd.toml"]);
    assert!(code == Some(0) && said.contains("TLS, admin listener: fine, valid until "), "{said}");
    // Replaced, and not read yet.
    let (certificate, key) = authority.issue();
    server.write("cert.pem", &certificate);
    server.write("key.pem", &key);
    let (code, said) = run(&["backup", "--config", "postbackd.toml"]);
    assert!(code == Some(1) && said.contains("another certificate than the first of"), "{said}");
    assert!(said.contains("SIGHUP"), "{said}");
    assert_eq!(server.stop().code(), Some(0));
}

#[test]
fn nothing_that_is_sent_by_frames_is_ever_logged() {
    let authority = Authority::new();
    let mut server = authority.setup("server").key("log.level", "trace").start();
    let client = authority.client(&["h2"]);
    let request =
        |target| frame(HEADERS, END_STREAM | END_HEADERS, 1, &request_headers("GET", target));
    let farewell = [&[0; 8], b"jane.roe@mail.example".as_slice()].concat();
    for frames in [
        // Answers to what nobody asked, however many.
        frame(PING, 1, 0, b"janeroe!").repeat(50),
        request("/postback?customer_id=jane.roe@mail.example&note=a b"),
        frame(GOAWAY, 0, 0, &farewell),
    ] {
        let mut raw = RawHttp2::open(&client, server.public, &[]);
        raw.send(&frames).expect("sent");
        // Whoever is answered was heard.
        let _ = raw.send(&frame(PING, 0, 0, b"are you?"));
        let is_answer = |raw: &mut RawHttp2| raw.receive().map_or(true, |it| it.0 == PING);
        while !is_answer(&mut raw) {}
    }
    let log = server.whole_log();
    assert!(log.contains("serving"), "it logs: {log}");
    let is_foreign =
        |line: &&str| ["h2::", "hyper", "rustls", "jane"].iter().any(|it| line.contains(it));
    let lines: Vec<_> = log.lines().filter(is_foreign).collect();
    assert!(lines.is_empty(), "{lines:#?}");
}
