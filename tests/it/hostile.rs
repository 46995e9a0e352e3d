//! Clients that are slow, broken, greedy or mad.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use crate::harness::{Answer, Connection, PATIENCE, Response, Server, Setup, eventually};

/// Sends bytes and reads one answer.
fn send(server: &Server, bytes: impl AsRef<[u8]>) -> Response {
    let mut connection = server.connect();
    connection.send(bytes).expect("sent");
    connection.receive("GET").expect("an answer")
}

/// Whether the server closed a connection without waiting for more.
fn check_closed(connection: &mut Connection) {
    let started = Instant::now();
    connection.rest().expect("closed, not silent");
    assert!(started.elapsed() < PATIENCE / 2, "closed after {:?}", started.elapsed());
}

fn check_fine(server: &mut Server) {
    assert!(server.is_alive());
    assert!(!server.log().contains("panicked"), "{}", server.log());
    let click = server.click("id=sp7");
    let answer = server.postback(&format!("click_id={click}&event=sale&txn_id={click}"));
    assert_eq!(answer.verdict(), (200, "accepted", ""));
}

#[test]
fn a_head_that_dribbles_in_is_cut_off() {
    let mut server = Setup::new().key("server.header_read_timeout", "500ms").start();
    let mut connection = server.connect();
    let started = Instant::now();
    let mut bytes = b"GET /c/sp7 HTTP/1.1\r\nHost: t.example\r\nX-Slow: "
        .iter()
        .chain([&b'x'].into_iter().cycle());
    while connection.send([*bytes.next().expect("endless")]).is_ok() {
        assert!(started.elapsed() < PATIENCE / 2, "a dribbling client keeps its connection");
        // The pace of the attack; nothing waits for it.
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(started.elapsed() >= Duration::from_millis(400), "{:?}", started.elapsed());
    check_fine(&mut server);
}

#[test]
fn a_crowd_that_dribbles_keeps_nobody_out_and_is_cut_off() {
    const CROWD: usize = 300;
    let setup = Setup::new().key("server.header_read_timeout", "2s");
    let mut server = setup.key("server.connections_per_ip_max", &CROWD.to_string()).start();
    let attacker = Ipv4Addr::new(127, 0, 0, 66);
    let before = server.metric("postbackd_resident_memory_bytes");
    let mut crowd: Vec<_> = (0..CROWD).map(|_| from_address(attacker, server.public)).collect();
    for connection in &mut crowd {
        connection.send("POST /postback HTTP/1.1\r\nHost: t\r\nX: ").expect("sent");
    }
    let started = Instant::now();
    let mut served = 0;
    while !crowd.is_empty() {
        assert!(started.elapsed() < PATIENCE / 2, "{} keep their connections", crowd.len());
        crowd.retain_mut(|connection| connection.send("x").is_ok());
        // Others are served meanwhile.
        assert_eq!(server.get("/c/sp7").status, 302);
        served += 1;
        std::thread::sleep(Duration::from_millis(20));
    }
    let grown = (server.metric("postbackd_resident_memory_bytes") - before) / f64::from(1 << 20);
    println!("{served} visitors served beside {CROWD}, {grown:.1} MiB more in memory");
    assert!(grown < 32.0, "{grown} MiB more in memory");
    check_fine(&mut server);
}

#[test]
fn a_flood_of_connections_from_one_address_keeps_others_served() {
    const FLOOD: usize = 2000;
    let server = Setup::new().key("server.connections_per_ip_max", "50").start();
    let attacker = Ipv4Addr::new(127, 0, 0, 66);
    let mut held = Vec::new();
    for n in 0..FLOOD {
        held.push(from_address(attacker, server.public));
        if n % 100 == 0 {
            assert_eq!(server.get("/c/sp7").status, 302, "after {n} connections");
        }
    }
    let series = "postbackd_connections_refused_total{reason=\"connections_per_ip_max\"}";
    eventually("refusals", || (server.metric(series) == (FLOOD - 50) as f64).then_some(()));
    assert_eq!(server.metric("postbackd_connections"), 50.0);
    let in_use = held.iter_mut().filter_map(|held| held.request("GET", "/c/sp7", "").ok());
    assert_eq!(in_use.count(), 50);
}

#[test]
fn idle_and_half_open_connections_are_closed() {
    let mut server = Setup::new().key("server.header_read_timeout", "500ms").start();
    let mut silent = server.connect();
    let mut half = server.connect();
    half.send("GET /c/sp7 HTTP/1.1\r\nHo").expect("sent");
    let mut idle = server.connect();
    assert_eq!(idle.request("GET", "/c/sp7", "").expect("an answer").status, 302);
    let mut gone = server.connect();
    gone.send("POST /postback HTTP/1.1\r\nHost: t.example\r\nContent-Le").expect("sent");
    gone.half_close();
    for connection in [&mut gone, &mut silent, &mut half, &mut idle] {
        check_closed(connection);
    }
    eventually("no connection left", || {
        (server.metric("postbackd_connections") == 0.0).then_some(())
    });
    check_fine(&mut server);
}

#[test]
fn what_is_too_long_is_refused_by_its_own_status() {
    let mut server = Server::start();
    let get = |url: usize, header: usize, headers: usize| {
        let (url, header) = ("u".repeat(url), "h".repeat(header));
        let many: String = (0..headers).map(|n| format!("X-{n}: 1\r\n")).collect();
        let head =
            format!("GET /postback?x={url} HTTP/1.1\r\nHost: t\r\nX: {header}\r\n{many}\r\n");
        send(&server, head).status
    };
    assert_eq!(get(10, 10, 10), 400, "an ordinary refusal");
    assert_eq!(get(8 << 10, 0, 0), 414);
    assert_eq!(get(20 << 10, 0, 0), 414);
    assert_eq!(get(10, 10, 98), 400, "100 headers are fine");
    assert_eq!(get(10, 10, 99), 431);
    assert_eq!(get(10, 10, 500), 431);
    // What is far over the limit is not read to its end, so the answer may be cut off, too.
    for head in [
        format!("GET /c/sp7?x={} HTTP/1.1\r\n\r\n", "u".repeat(200 << 10)),
        format!("GET /c/sp7 HTTP/1.1\r\nX: {}\r\n\r\n", "h".repeat(200 << 10)),
    ] {
        let mut connection = server.connect();
        let _ = connection.send(head);
        if let Ok(answer) = connection.receive("GET") {
            assert_eq!(answer.status, 431);
        }
    }
    check_fine(&mut server);
}

#[test]
fn a_body_too_large_is_refused_whether_declared_or_not() {
    let mut server = Server::start();
    let head = "POST /postback HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\n";
    let refused = (413, "refused", "body_too_large");
    for length in ["65537", "99999999999", "9223372036854775807"] {
        let answer = send(&server, format!("{head}Content-Length: {length}\r\n\r\n"));
        assert_eq!(Answer::of(answer).verdict(), refused, "{length}");
    }
    let chunk = format!("10001\r\n{}", "x".repeat(0x10001));
    let answer = send(&server, format!("{head}Transfer-Encoding: chunked\r\n\r\n{chunk}"));
    assert_eq!(Answer::of(answer).verdict(), refused);
    let small: String = (0..66_000).map(|_| "1\r\nx\r\n").collect();
    let mut connection = server.connect();
    connection.send(format!("{head}Transfer-Encoding: chunked\r\n\r\n")).expect("sent");
    // The server may stop reading before all of it is sent.
    let _ = connection.send(small);
    if let Ok(answer) = connection.receive("POST") {
        assert_eq!(Answer::of(answer).verdict(), refused);
    }
    check_fine(&mut server);
}

#[test]
fn a_chunked_body_is_read_like_any_other() {
    let server = Server::start();
    let click = server.click("id=sp7");
    let body = format!("click_id={click}&event=sale&txn_id=1");
    let (start, end) = body.split_at(20);
    let answer = send(
        &server,
        format!(
            "POST /postback HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n\
             14;ext=1\r\n{start}\r\n{:x}\r\n{end}\r\n0\r\n\r\n",
            end.len()
        ),
    );
    assert_eq!(Answer::of(answer).verdict(), (200, "accepted", ""));
}

#[test]
fn broken_framing_is_refused_and_the_connection_closed() {
    let mut server = Server::start();
    let head = "POST /postback HTTP/1.1\r\nHost: t\r\n";
    for framing in [
        "Transfer-Encoding: chunked\r\n\r\nZZ\r\n",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nabcdefgh\r\n",
        "Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFFF\r\n",
        "Transfer-Encoding: chunked\r\n\r\n-1\r\n",
        "Transfer-Encoding: nonsense\r\n\r\n",
        "Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "Content-Length: -1\r\n\r\n",
        "Content-Length: 1x\r\n\r\nab",
    ] {
        let mut connection = server.connect();
        connection.send(format!("{head}{framing}")).expect("sent");
        let answer =
            connection.receive("POST").unwrap_or_else(|error| panic!("{framing}: {error}"));
        assert!((400..500).contains(&answer.status), "{framing}: {answer:?}");
        check_closed(&mut connection);
    }
    assert_eq!(server.metric("postbackd_postbacks_total{result=\"accepted\"}"), 0.0);
    check_fine(&mut server);
}

#[test]
fn a_body_that_never_ends_is_given_up() {
    let mut server = Server::start();
    let click = server.click("id=sp7");
    let mut connection = server.connect();
    let head = "POST /postback HTTP/1.1\r\nHost: t\r\nContent-Length: 500\r\n\r\n";
    connection.send(format!("{head}click_id={click}&event=sale")).expect("sent");
    let answer = Answer::of(connection.receive("POST").expect("an answer"));
    assert_eq!(answer.verdict(), (408, "refused", "body_incomplete"));
    check_closed(&mut connection);
    assert_eq!(server.conversions("").len(), 0);
    check_fine(&mut server);
}

#[test]
fn what_is_not_http_is_a_400_or_a_closed_connection() {
    let mut server = Server::start();
    for garbage in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"\0\0\0\0\0\0\0\0\r\n\r\n",
        b"hello\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /c/sp7 HTTP/1.1\r\nNo colon here\r\n\r\n",
        b"GET /c/sp7 HTTP/1.1\r\nName with space: x\r\n\r\n",
        b"GET /c/sp7 HTTP/1.1\r\nX: a\0b\r\n\r\n",
        b"GET /c/s p7 HTTP/1.1\r\n\r\n",
        b"\xff\xfe\xfd\r\n\r\n",
    ] {
        let mut connection = server.connect();
        connection.send(garbage).expect("sent");
        let answer = connection.receive("GET");
        let answer = answer.unwrap_or_else(|error| panic!("{}: {error}", garbage.escape_ascii()));
        assert_eq!(answer.status, 400, "{}", garbage.escape_ascii());
        check_closed(&mut connection);
    }
    let mut preface = server.connect();
    preface.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").expect("sent");
    check_closed(&mut preface);
    check_fine(&mut server);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    const COUNT: usize = 50;
    let server = Server::start();
    let click = server.click("id=sp7");
    let mut bytes = String::new();
    for n in 0..COUNT {
        bytes += &format!("GET /click?id=sp7&sub1=n{n}&redirect=false HTTP/1.1\r\nHost: t\r\n\r\n");
        let body = format!("click_id={click}&event=sale&txn_id=T{n}");
        bytes += &format!(
            "POST /postback HTTP/1.1\r\nHost: t\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
    }
    let mut connection = server.connect();
    connection.send(bytes).expect("sent");
    for n in 0..COUNT {
        let redirect = connection.receive("GET").expect("an answer").json();
        let url = redirect["url"].as_str().expect("a URL");
        assert!(url.ends_with(&format!("&src=n{n}")), "{url} is not number {n}");
        let answer = Answer::of(connection.receive("POST").expect("an answer"));
        assert_eq!(answer.verdict(), (200, "accepted", ""));
        let kept = server.api(&format!("conversions/{}", answer.word("conversion_id")));
        assert_eq!(kept["txn_id"], format!("T{n}"));
    }
}

#[test]
fn http_1_0_is_spoken_and_closed_unless_asked_otherwise() {
    let server = Server::start();
    let mut connection = server.connect();
    connection.send("GET /c/sp7 HTTP/1.0\r\n\r\n").expect("sent");
    assert_eq!(connection.receive("GET").expect("an answer").status, 302);
    check_closed(&mut connection);
    let mut kept = server.connect();
    for _ in 0..3 {
        kept.send("GET /c/sp7 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").expect("sent");
        let answer = kept.receive("GET").expect("an answer");
        assert_eq!((answer.status, answer.header("connection")), (302, Some("keep-alive")));
    }
}

#[test]
fn a_client_that_asks_before_sending_its_body_is_told_to_go_on() {
    let server = Server::start();
    let click = server.click("id=sp7");
    let body = format!("click_id={click}&event=sale");
    let mut connection = server.connect();
    let head = "POST /postback HTTP/1.1\r\nHost: t\r\nExpect: 100-continue\r\n";
    connection.send(format!("{head}Content-Length: {}\r\n\r\n", body.len())).expect("sent");
    assert_eq!(connection.receive("POST").expect("an interim answer").status, 100);
    connection.send(body).expect("sent");
    let answer = Answer::of(connection.receive("POST").expect("an answer"));
    assert_eq!(answer.verdict(), (200, "accepted", ""));
    let mut large = server.connect();
    large.send(format!("{head}Content-Length: 70000\r\n\r\n")).expect("sent");
    assert_eq!(large.receive("POST").expect("an answer").status, 413, "before the body is sent");
}

#[test]
fn connections_over_the_total_are_closed_and_a_place_given_back_is_used_again() {
    let mut server = Setup::new().key("server.connections_max", "4").start();
    check_limit(&mut server, 4, "connections_max");
}

#[test]
fn connections_over_an_addresss_share_are_closed_while_others_are_served() {
    let mut server = Setup::new().key("server.connections_per_ip_max", "3").start();
    check_limit(&mut server, 3, "connections_per_ip_max");
    let _full: Vec<_> = (0..3).map(|_| served(&server).expect("a free place")).collect();
    assert!(served(&server).is_none(), "over the share");
    let mut other = from_address(Ipv4Addr::new(127, 0, 0, 2), server.public);
    assert_eq!(other.request("GET", "/c/sp7", "").expect("an answer").status, 302);
}

/// A connection on which a request was answered; `None` if it was closed instead.
fn served(server: &Server) -> Option<Connection> {
    let mut connection = server.connect();
    let answer = connection.request("GET", "/c/sp7", "").ok()?;
    assert_eq!(answer.status, 302);
    Some(connection)
}

fn check_limit(server: &mut Server, limit: usize, reason: &str) {
    let mut open: Vec<_> = (0..limit).map(|_| served(server).expect("a free place")).collect();
    let series = format!("postbackd_connections_refused_total{{reason=\"{reason}\"}}");
    for refused in 1..=10 {
        assert!(served(server).is_none(), "one more than {limit}");
        assert_eq!(server.metric(&series), f64::from(refused));
    }
    for connection in &mut open {
        let answer = connection.request("GET", "/c/sp7", "").expect("those inside stay");
        assert_eq!(answer.status, 302);
    }
    drop(open.pop());
    open.push(eventually("a place given back", || served(server)));
    drop(open);
    eventually("all places given back", || {
        (server.metric("postbackd_connections") == 0.0).then_some(())
    });
}

pub fn from_address(from: Ipv4Addr, to: SocketAddr) -> Connection {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).expect("a socket");
    socket.bind(&SocketAddr::from((from, 0)).into()).expect("all of 127/8 is loopback");
    socket.connect(&to.into()).expect("the server accepts connections");
    Connection::of(TcpStream::from(socket)).expect("a connection")
}

/// How many; more with `POSTBACKD_HOSTILE`.
const HOSTILE: usize = 2000;
const HOSTILE_AT_ONCE: usize = 16;

#[test]
fn two_thousand_hostile_requests_never_make_a_server_error_or_a_conversion() {
    const SEED: u64 = 0x5eed_2026;
    let asked = std::env::var("POSTBACKD_HOSTILE").ok().and_then(|count| count.parse().ok());
    let requests: usize = asked.unwrap_or(HOSTILE);
    let mut server = Server::start();
    let (click, forged) = (server.click("id=sp7"), forged(&server.click("id=sp7")));
    let models = [models(&click), models(&forged)].concat();
    let resident = || server.metric("postbackd_resident_memory_bytes");
    let before = resident();
    let (next, answered, refused) = <(AtomicUsize, AtomicUsize, AtomicUsize)>::default();
    std::thread::scope(|scope| {
        for _ in 0..HOSTILE_AT_ONCE {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= requests {
                        return;
                    }
                    let mut random = Random(SEED.wrapping_add(number as u64));
                    let request = random.hostile(&models);
                    let answer = answer_to(&server, &request);
                    let shown = request[..request.len().min(1000)].escape_ascii();
                    let text = String::from_utf8_lossy(&answer);
                    let is_http = text.is_empty() || text.starts_with("HTTP/1.");
                    assert!(is_http, "seed {SEED:#x}, request {number}: {shown}: {text}");
                    let server_error = text.contains("HTTP/1.1 5");
                    assert!(!server_error, "seed {SEED:#x}, request {number}: {shown}");
                    answered.fetch_add(usize::from(!answer.is_empty()), Ordering::Relaxed);
                    refused.fetch_add(usize::from(text.contains(" 4")), Ordering::Relaxed);
                }
            });
        }
    });
    let (answered, refused) = (answered.into_inner(), refused.into_inner());
    let grown = (resident() - before) / f64::from(1 << 20);
    println!(
        "{requests} requests, {answered} answered, {refused} by 4xx, {grown:.1} MiB more in memory"
    );
    assert!(answered > requests / 4, "only {answered} of {requests} were answered");
    assert!(grown < 64.0, "{grown} MiB more in memory");
    // What was mutilated may still be sound, but never of a click that does not exist.
    for conversion in server.conversions("") {
        assert_eq!(conversion["click_id"], *click, "{conversion}");
    }
    eventually("health", || (server.admin_open("/healthz").status == 200).then_some(()));
    assert_eq!(server.admin_open("/readyz").status, 200);
    check_fine(&mut server);
}

/// A click ID that nobody minted.
fn forged(click: &str) -> String {
    let (start, last) = click.split_at(32);
    format!("{start}{}", if last == "0" { "1" } else { "0" })
}

/// What comes back for some bytes, until the server closes or has nothing to say.
fn answer_to(server: &Server, request: &[u8]) -> Vec<u8> {
    use std::io::{Read, Write};
    let mut stream = TcpStream::connect(server.public).expect("the server accepts connections");
    stream.set_read_timeout(Some(Duration::from_millis(30))).expect("a timeout");
    let mut answer = Vec::new();
    // Errors are the server closing: as good an answer as any here.
    if stream.write_all(request).is_ok() {
        let _ = stream.read_to_end(&mut answer);
    }
    answer
}

fn models(click: &str) -> Vec<Vec<u8>> {
    let close = "Host: t.example\r\nConnection: close\r\n";
    let form = format!("click_id={click}&event=sale&txn_id=%C3%BC-1&amount=15.00&currency=USD");
    let json = format!(r#"{{"click_id":"{click}","event":"sale","amount":15.5,"x":"\u00e9"}}"#);
    [
        format!("GET /click?offer=spring&aff=pub-7&sub1=%C3%BC HTTP/1.1\r\n{close}\r\n"),
        format!("GET /c/sp7?redirect=false&kw=a HTTP/1.1\r\n{close}Referer: x\r\n\r\n"),
        format!("GET /postback?{form}&timestamp=1763712000 HTTP/1.1\r\n{close}\r\n"),
        format!(
            "POST /postback/acme HTTP/1.1\r\n{close}Content-Length: {}\r\n\r\n{form}",
            form.len()
        ),
        format!(
            "POST /postback HTTP/1.1\r\n{close}Content-Type: application/json\r\n\
             Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{json}\r\n0\r\n\r\n",
            json.len()
        ),
        format!("HEAD /postback?{form}&status=ok HTTP/1.1\r\n{close}\r\n"),
    ]
    .map(String::into_bytes)
    .to_vec()
}

/// SplitMix64: the same seed, the same requests.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % end as u64) as usize
    }

    /// One of all kinds.
    fn hostile(&mut self, models: &[Vec<u8>]) -> Vec<u8> {
        let model = &models[self.below(models.len())];
        match self.below(12) {
            0 => self.bytes(300),
            1 => self.header_bomb(),
            2 => self.parameter_bomb(),
            3 => self.percent_bomb(),
            4 => self.chunks(),
            5 => self.framed_twice(),
            6 => self.elsewhere(),
            7 => [self.mutilate(model), self.mutilate(model), model.clone()].concat(),
            _ => self.mutilate(model),
        }
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        (0..self.below(most)).map(|_| self.below(256) as u8).collect()
    }

    fn one_of<'w>(&mut self, words: &[&'w str]) -> &'w str {
        words[self.below(words.len())]
    }

    fn header_bomb(&mut self) -> Vec<u8> {
        let (count, length) = (self.below(300), self.below(2000));
        let headers: String =
            (0..count).map(|n| format!("X-{n}: {}\r\n", "h".repeat(length))).collect();
        format!("GET /c/sp7 HTTP/1.1\r\nHost: t\r\n{headers}\r\n").into_bytes()
    }

    fn parameter_bomb(&mut self) -> Vec<u8> {
        let path = self.one_of(&["/click", "/postback", "/postback/acme", "/c/sp7"]);
        let pair =
            self.one_of(&["a=1&", "sub1=x&", "&", "=&", "event=sale&", "click_id=&", "%00=%00&"]);
        let pairs = pair.repeat(self.below(4000));
        if self.below(2) == 0 {
            let close = "Connection: close";
            return format!("GET {path}?{pairs} HTTP/1.1\r\nHost: t\r\n{close}\r\n\r\n")
                .into_bytes();
        }
        let length = pairs.len();
        format!("POST {path} HTTP/1.1\r\nHost: t\r\nContent-Length: {length}\r\n\r\n{pairs}")
            .into_bytes()
    }

    fn percent_bomb(&mut self) -> Vec<u8> {
        let part =
            self.one_of(&["%25", "%", "%0d%0a", "%00", "%c0%ae", "%ff", "%u0041", "%F0%9F%92%B0"]);
        let (name, value) = (part.repeat(self.below(20)), part.repeat(self.below(1500)));
        let path = self.one_of(&[
            "/click?offer=spring&aff=pub-7&sub1=",
            "/postback?click_id=",
            "/c/",
            "/",
        ]);
        format!("GET {path}{value}&{name}={value} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n")
            .into_bytes()
    }

    fn chunks(&mut self) -> Vec<u8> {
        let mut request =
            b"POST /postback HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        for _ in 0..self.below(50) {
            let size = self.one_of(&[
                "5",
                "0",
                "5;x=y",
                "05",
                "-1",
                "FFFFFFFFFFFFFFFF",
                "5 ",
                "g",
                "",
                "7fffffff",
                "0x5",
            ]);
            request.extend(format!("{size}\r\nhello").bytes());
            request.extend(self.one_of(&["\r\n", "\n", "\r", "", "\r\n\r\n"]).bytes());
        }
        request
    }

    fn framed_twice(&mut self) -> Vec<u8> {
        const FRAMINGS: [&str; 8] = [
            "Content-Length: 5\r\n",
            "Content-Length: 50\r\n",
            "Content-Length : 5\r\n",
            "Content-Length: +5\r\n",
            "Transfer-Encoding: chunked\r\n",
            "Transfer-Encoding: identity\r\n",
            "Transfer-Encoding : chunked\r\n",
            "X: a\r\n Content-Length: 5\r\n",
        ];
        let framing: String = (0..1 + self.below(4)).map(|_| self.one_of(&FRAMINGS)).collect();
        let body = "5\r\nhello\r\n0\r\n\r\nGET /c/sp7 HTTP/1.1\r\nHost: t\r\n\r\n";
        let method = self.one_of(&["POST", "GET", "PUT", "HEAD"]);
        format!("{method} /postback HTTP/1.1\r\nHost: t\r\n{framing}\r\n{body}").into_bytes()
    }

    fn elsewhere(&mut self) -> Vec<u8> {
        let method = self.one_of(&["GET", "POST", "CONNECT", "TRACE", "OPTIONS", "PRI", "get", ""]);
        let target = self.one_of(&[
            "/metrics",
            "/api/v1/conversions",
            "/../metrics",
            "http://127.0.0.1:9090/metrics",
            "*",
            "127.0.0.1:9090",
            "/c/..%2f..%2fmetrics",
            "//metrics",
            "\\metrics",
            "/c/sp7#x",
            "",
        ]);
        let hosts = self.one_of(&["Host: t\r\n", "", "Host: a\r\nHost: b\r\n", "Host: \x01\r\n"]);
        let more = self.one_of(&[
            "",
            "Upgrade: h2c\r\nConnection: upgrade\r\n",
            "Expect: 100-continue\r\n",
        ]);
        format!("{method} {target} HTTP/1.1\r\n{hosts}{more}\r\n").into_bytes()
    }

    fn mutilate(&mut self, model: &[u8]) -> Vec<u8> {
        const BITS: [&[u8]; 14] = [
            b"%",
            b"%zz",
            b"%00",
            b"&",
            b"=",
            b"\r\n",
            b"\0",
            b"\xff",
            b"{",
            b"\"",
            b"999999999999999999999",
            b"-1",
            b"event=",
            b"HTTP/1.0",
        ];
        let mut request = model.to_vec();
        for _ in 0..=self.below(4) {
            let at = self.below(request.len());
            match self.below(5) {
                0 => request[at] ^= 1 << self.below(8),
                1 => _ = request.remove(at),
                2 => _ = request.splice(at..at, BITS[self.below(BITS.len())].iter().copied()),
                3 => {
                    let piece = request[at..request.len().min(at + self.below(40))].to_vec();
                    request.splice(at..at, piece);
                }
                _ => request[at] = self.below(256) as u8,
            }
        }
        request
    }
}
