//! The PROXY protocol: whose connection it is, said by those who may say it, and by nobody else.

use std::io::Write as _;
use std::time::{Duration, Instant};

use crate::harness::tls::{Authority, get};
use crate::harness::{Answer, Connection, Server, Setup, eventually};

/// An advertiser whose postbacks come from one network, and one whose offer anybody may use.
const CATALOG: &str = r#"
[[advertisers]]
id = "far"
auth = { allow_ips = ["203.0.113.0/24", "2001:db8::/32"] }

[[offers]]
id = "far"
advertiser = "far"
url = "https://shop.example/?c={click_id}"

[[offers.events]]
id = "sale"
repeat = "1ms"

[[affiliates]]
id = "pub-7"
"#;

fn setup() -> Setup {
    Setup::new()
        .catalog(CATALOG.to_owned())
        .key("server.proxy_protocol", "true")
        .key("server.trusted_proxies", "127.0.0.1/32")
}

fn v2(command: u8, family: u8, content: &[u8]) -> Vec<u8> {
    let length = (content.len() as u16).to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n", &[command, family][..], &length, content].concat()
}

fn ipv4(source: [u8; 4]) -> Vec<u8> {
    v2(0x21, 0x11, &[&source[..], &[127, 0, 0, 1, 1, 1, 0, 80]].concat())
}

fn refused(server: &Server, reason: &str) -> f64 {
    server.metric(&format!("postbackd_connections_refused_total{{reason=\"{reason}\"}}"))
}

fn mint(server: &Server) -> String {
    let mut connection = server.connect();
    connection.send(ipv4([203, 0, 113, 1])).expect("sent");
    let answer = connection.request("GET", "/click?offer=far&aff=pub-7&redirect=false", "");
    answer.expect("an answer").json()["click_id"].as_str().expect("a click").to_owned()
}

#[test]
fn the_address_that_a_proxy_says_is_the_senders() {
    let server = setup().start();
    let click = mint(&server);
    let target = format!("/postback?click_id={click}&event=sale");
    let verdict = |begin: &[u8], headers: &str| {
        let mut connection = server.connect();
        connection.send(begin).expect("sent");
        // Twice: what was said is said of the whole connection.
        let first = Answer::of(connection.request("GET", &target, headers).expect("an answer"));
        let second = Answer::of(connection.request("GET", &target, headers).expect("an answer"));
        let word = |answer: &Answer| answer.word("reason").to_owned();
        assert_eq!(word(&first), word(&second));
        word(&first)
    };
    assert_eq!(verdict(&ipv4([203, 0, 113, 9]), ""), "");
    assert_eq!(verdict(&ipv4([198, 51, 100, 9]), ""), "ip_not_allowed");
    let ipv6 = "2001:db8::9".parse::<std::net::Ipv6Addr>().expect("an address").octets();
    assert_eq!(verdict(&v2(0x21, 0x21, &[&ipv6[..], &[0; 20]].concat()), ""), "");
    assert_eq!(verdict(b"PROXY TCP4 203.0.113.9 127.0.0.1 4660 80\r\n", ""), "");
    assert_eq!(verdict(b"PROXY TCP4 198.51.100.9 127.0.0.1 4660 80\r\n", ""), "ip_not_allowed");
    // A visitor's own header does not count: it is not a proxy.
    let forged = "X-Forwarded-For: 203.0.113.9\r\n";
    assert_eq!(verdict(&ipv4([198, 51, 100, 9]), forged), "ip_not_allowed");
    // A chain: the connection is of another trusted proxy, which says it in a header.
    assert_eq!(verdict(&ipv4([127, 0, 0, 1]), forged), "");
    // The proxy's own connections, and those it knows nothing about.
    assert_eq!(verdict(&v2(0x20, 0x00, &[]), ""), "ip_not_allowed");
    assert_eq!(verdict(b"PROXY UNKNOWN\r\n", ""), "ip_not_allowed");
    assert_eq!(server.metric("postbackd_forwarded_missing_total"), 0.0, "no header is asked for");
    assert_eq!(refused(&server, "proxy_malformed"), 0.0);
}

#[test]
fn a_header_may_come_in_pieces_and_with_the_request() {
    let server = setup().start();
    let extra = [&[203, 0, 113, 9, 127, 0, 0, 1, 1, 1, 0, 80, 4, 1, 44][..], &[0; 300]].concat();
    for header in [v2(0x21, 0x11, &extra), b"PROXY TCP4 203.0.113.9 127.0.0.1 1 2\r\n".to_vec()] {
        let mut connection = server.connect();
        for piece in header.chunks(7) {
            connection.send(piece).expect("sent");
            std::thread::sleep(Duration::from_millis(1));
        }
        let target = "/click?offer=far&aff=pub-7";
        assert_eq!(connection.request("GET", target, "").expect("an answer").status, 302);
        let mut connection = server.connect();
        let request = format!("GET {target} HTTP/1.1\r\nHost: t\r\n\r\n");
        connection.send([&header, request.as_bytes(), request.as_bytes()].concat()).expect("sent");
        assert_eq!(connection.receive("GET").expect("an answer").status, 302);
        assert_eq!(connection.receive("GET").expect("an answer").status, 302);
    }
}

#[test]
fn who_is_no_proxy_is_turned_away_whatever_it_says() {
    let server = setup().key("server.trusted_proxies", "127.0.0.2/32").start();
    let mut connection = server.connect();
    // The close may be quicker.
    let _ = connection.send(ipv4([203, 0, 113, 9]));
    let _ = connection.send("GET /click?offer=far&aff=pub-7 HTTP/1.1\r\nHost: t\r\n\r\n");
    assert_eq!(connection.rest().expect("closed"), b"");
    assert_eq!(server.connect().rest().expect("closed"), b"");
    assert_eq!(refused(&server, "proxy_untrusted"), 2.0);
    // Without the setting the header is no HTTP, and says nothing.
    let plain = Setup::new().start();
    let mut connection = plain.connect();
    connection.send(b"PROXY TCP4 203.0.113.9 127.0.0.1 1 2\r\n").expect("sent");
    let _ = connection.send("GET /c/sp7 HTTP/1.1\r\nHost: t\r\n\r\n");
    let rest = connection.rest().expect("closed");
    assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 400"), "{rest:?}");
}

#[test]
fn what_is_no_header_closes_the_connection_without_an_answer() {
    let server = setup().start();
    let started = Instant::now();
    let mut slow = server.connect();
    slow.send(&ipv4([203, 0, 113, 9])[..20]).expect("sent");
    let mut silent = server.connect();
    let mut count = 0.0;
    let mut check = |begin: &[u8]| {
        let mut connection = server.connect();
        let _ = connection.send(begin);
        connection.half_close();
        assert_eq!(connection.rest().expect("closed"), b"", "{begin:?}");
        count += 1.0;
        eventually("a count", || (refused(&server, "proxy_malformed") == count).then_some(()));
    };
    check(b"GET /click?offer=far&aff=pub-7 HTTP/1.1\r\nHost: t\r\n\r\n");
    check(&ipv4([203, 0, 113, 9])[..20]);
    check(b"PROXY TCP4 203.0.113.9");
    check(&v2(0x21, 0x11, &[1; 4]));
    check(&v2(0x23, 0x11, &[1; 12]));
    check(&v2(0x21, 0x11, &[1; 60_000]));
    check(&[b"PROXY UNKNOWN ".as_slice(), &[b'x'; 10_000]].concat());
    check(b"");
    assert!(started.elapsed() < Duration::from_secs(4), "too slow to tell");
    assert_eq!(slow.rest().expect("closed"), b"");
    assert_eq!(silent.rest().expect("closed"), b"");
    let took = started.elapsed();
    assert!((Duration::from_secs(4)..Duration::from_secs(15)).contains(&took), "{took:?}");
    assert_eq!(refused(&server, "proxy_malformed"), count + 2.0);
}

#[test]
fn limits_by_address_count_the_address_that_is_said() {
    let server = setup().key("server.connections_per_ip_max", "2").start();
    let open = |source| {
        let mut connection = server.connect();
        connection.send(ipv4(source)).expect("sent");
        let target = "/click?offer=far&aff=pub-7";
        connection.request("GET", target, "").ok().map(|answer| (answer.status, connection))
    };
    let held: Vec<(u16, Connection)> =
        [1, 1, 2, 2, 3].into_iter().filter_map(|host| open([203, 0, 113, host])).collect();
    assert_eq!(held.len(), 5, "more than two from the proxy");
    assert!(open([203, 0, 113, 1]).is_none());
    assert_eq!(refused(&server, "connections_per_ip_max"), 1.0);
    drop(held);
    eventually("room", || open([203, 0, 113, 1]));
}

#[test]
fn the_header_comes_before_the_tls_handshake() {
    let authority = Authority::new();
    let (certificate, key) = authority.issue();
    let server = setup()
        .file("cert.pem", &certificate)
        .file("key.pem", &key)
        .key("server.tls_certificate", "cert.pem")
        .key("server.tls_key", "key.pem")
        .start();
    let client = authority.client(&["http/1.1"]);
    let mut stream = client.try_open(server.public, &ipv4([203, 0, 113, 9])).expect("open");
    assert_eq!(get(&mut stream, "/click?offer=far&aff=pub-7").expect("an answer"), 302);
    assert!(client.try_open(server.public, b"").is_err(), "a handshake first is no header");
    // The header inside of TLS is no HTTP.
    let mut stream = client.try_open(server.public, &ipv4([203, 0, 113, 9])).expect("open");
    stream.write_all(b"PROXY UNKNOWN\r\n").expect("sent");
    assert_ne!(get(&mut stream, "/click?offer=far&aff=pub-7").ok(), Some(302));
}
