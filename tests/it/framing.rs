//! Where a request ends: nobody slips a second one in, and what is not clear is refused with the
//! connection closed.

use std::io::ErrorKind;

use crate::harness::{Connection, Server};

/// What comes for some bytes: the statuses of all answers until the server closes; `None` at the
/// end if it waits for more instead.
fn answers(server: &Server, bytes: impl AsRef<[u8]>) -> Vec<Option<u16>> {
    let mut connection = server.connect();
    // The server may close before it has read all.
    let _ = connection.send(bytes);
    let mut answers = Vec::new();
    loop {
        if connection.is_silent_for(std::time::Duration::from_millis(150)) {
            answers.push(None);
            return answers;
        }
        match connection.receive("GET") {
            Ok(answer) => answers.push(Some(answer.status)),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return answers,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return answers,
            Err(error) => panic!("{error}"),
        }
    }
}

fn check(server: &Server, request: &str, expected: &[Option<u16>]) {
    assert_eq!(answers(server, request), expected, "{request:?}");
}

/// A request that must not be answered, behind one that swallows it or is refused.
const SMUGGLED: &str = "GET /c/sp7?sub1=smuggled HTTP/1.1\r\nHost: t\r\n\r\n";

fn check_unharmed(server: &mut Server) {
    assert!(server.is_alive());
    let log = server.log();
    assert!(!log.contains("panicked"), "{log}");
    assert_eq!(server.conversions("").len(), 0);
    assert_eq!(server.metric("postbackd_clicks_total"), 0.0, "a click was smuggled in");
    assert_eq!(server.get("/c/sp7").status, 302);
}

#[test]
fn a_request_that_is_framed_in_two_ways_is_the_last_of_its_connection() {
    let mut server = Server::start();
    let head = "POST /postback HTTP/1.1\r\nHost: t\r\n";
    // The chunked framing counts, whichever comes first; what follows is nobody's.
    let length = SMUGGLED.len() + 5;
    for framing in [
        format!("Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        format!("Transfer-Encoding: chunked\r\nContent-Length: {length}\r\n\r\n0\r\n\r\n"),
        "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\n".to_owned(),
        // No second framing, but nobody tells.
        "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
        // Trailers are no headers, and no parameters.
        "Transfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 5\r\nclick_id: x\r\n\r\n"
            .to_owned(),
    ] {
        check(&server, &format!("{head}{framing}{SMUGGLED}"), &[Some(400)]);
    }
    // Also where nobody reads the body.
    for request in ["PUT /postback", "GET /postback", "GET /nothing", "POST /c/sp7"] {
        let request = format!(
            "{request} HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{SMUGGLED}"
        );
        let told = answers(&server, &request);
        assert!(matches!(told[..], [Some(400..=499)]), "{told:?} {request:?}");
    }
    check_unharmed(&mut server);
}

#[test]
fn lengths_that_contradict_or_mean_nothing_are_refused() {
    let mut server = Server::start();
    for framing in [
        "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        "Content-Length: 5, 6\r\n\r\nhello",
        "Content-Length: +5\r\n\r\nhello",
        "Content-Length: 0x5\r\n\r\nhello",
        "Content-Length: 5 5\r\n\r\nhello",
        "Content-Length: \r\n\r\nhello",
        "Content-Length: 18446744073709551616\r\n\r\nhello",
        "Content-Length : 5\r\n\r\nhello",
        "Content-Length\r\n : 5\r\n\r\nhello",
        "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        "X: a\r\n folded: b\r\n\r\n",
        "X: a\rContent-Length: 5\r\n\r\nhello",
        "X: a\0b\r\n\r\n",
        "X: a\x7fb\r\n\r\n",
        "X\0: a\r\n\r\n",
        ": a\r\n\r\n",
        " X: a\r\n\r\n",
    ] {
        let request = format!("POST /postback HTTP/1.1\r\nHost: t\r\n{framing}{SMUGGLED}");
        check(&server, &request, &[Some(400)]);
    }
    let old = "POST /postback HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    check(&server, &format!("{old}{SMUGGLED}"), &[Some(400)]);
    check_unharmed(&mut server);
}

#[test]
fn chunks_that_are_no_chunks_are_refused() {
    let mut server = Server::start();
    let head = "POST /postback HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n";
    let extension = "x".repeat(70 << 10);
    for body in [
        "5;x\n\r\nhello\r\n0\r\n\r\n".to_owned(),
        "5 5\r\nhello\r\n0\r\n\r\n".to_owned(),
        "0x5\r\nhello\r\n0\r\n\r\n".to_owned(),
        "\r\n5\r\nhello\r\n0\r\n\r\n".to_owned(),
        "5\r\nhello0\r\n\r\n".to_owned(),
        "5\r\nhello\n0\r\n\r\n".to_owned(),
        "10000000000000000\r\nhello\r\n0\r\n\r\n".to_owned(),
        "g\r\nhello\r\n0\r\n\r\n".to_owned(),
        format!("5;{extension}\r\nhello\r\n0\r\n\r\n"),
        format!("0\r\nX: {extension}\r\n\r\n"),
    ] {
        let told = answers(&server, format!("{head}{body}{SMUGGLED}"));
        let shown = &body[..body.len().min(40)];
        // Broken off, or not framed at all: either way it is over.
        assert!(matches!(told[..], [] | [Some(400..=499)]), "{told:?} {shown:?}");
    }
    check_unharmed(&mut server);
}

#[test]
fn a_body_that_nobody_asked_for_is_no_request() {
    let server = Server::start();
    for (method, target, status) in [
        ("GET", "/c/sp7", 302),
        ("GET", "/postback?event=sale", 400),
        ("GET", "/nothing", 404),
        ("PUT", "/postback", 405),
        ("DELETE", "/click?id=sp7", 405),
    ] {
        let request = format!(
            "{method} {target} HTTP/1.1\r\nHost: t\r\nContent-Length: {}\r\n\r\n{SMUGGLED}",
            SMUGGLED.len()
        );
        let told = answers(&server, &request);
        assert!(matches!(told[..], [first] | [first, None] if first == Some(status)), "{told:?}");
    }
    assert_eq!(server.metric("postbackd_clicks_total"), 1.0);
}

#[test]
fn a_request_names_one_host() {
    let server = Server::start();
    for hosts in ["", "Host: a\r\nHost: b\r\n", "Host: a\r\nHost: a\r\n"] {
        for target in ["/c/sp7", "/postback?click_id=x", "/nothing"] {
            check(
                &server,
                &format!("GET {target} HTTP/1.1\r\n{hosts}\r\n{SMUGGLED}"),
                &[Some(400)],
            );
        }
    }
    let series = "postbackd_postback_refusals_total{reason=\"bad_host\"}";
    assert_eq!(server.metric(series), 9.0);
    assert_eq!(server.metric("postbackd_clicks_total"), 0.0);
    // Before 1.1 there was none.
    check(&server, "GET /c/sp7 HTTP/1.0\r\n\r\n", &[Some(302)]);
    check(&server, "GET /c/sp7 HTTP/1.1\r\nHost:\r\n\r\n", &[Some(302), None]);
}

#[test]
fn other_forms_of_a_request_lead_nowhere_else() {
    let mut server = Server::start();
    let closed = "Host: t\r\nConnection: close\r\n";
    for (request, status) in [
        ("GET http://evil.example/c/sp7 HTTP/1.1", 302),
        ("GET http://127.0.0.1:9090/metrics HTTP/1.1", 404),
        ("OPTIONS * HTTP/1.1", 404),
        ("CONNECT 127.0.0.1:9090 HTTP/1.1", 404),
        ("CONNECT /click HTTP/1.1", 405),
        ("TRACE /c/sp7 HTTP/1.1", 405),
        ("TRACE /postback HTTP/1.1", 405),
        ("OPTIONS /click HTTP/1.1", 405),
        ("PATCH /postback HTTP/1.1", 405),
        ("get /c/sp7 HTTP/1.1", 405),
        ("BREW /c/sp7 HTTP/1.1", 405),
        ("GET //c/sp7 HTTP/1.1", 404),
        // A link whose code nobody knows: to the fallback, and minted for no offer.
        ("GET /c/../click?id=sp7 HTTP/1.1", 302),
        ("GET /./c/sp7 HTTP/1.1", 404),
        ("GET /%63/sp7 HTTP/1.1", 404),
        ("GET /C/sp7 HTTP/1.1", 404),
        ("GET c/sp7 HTTP/1.1", 400),
    ] {
        let told = answers(&server, format!("{request}\r\n{closed}\r\n"));
        assert_eq!(told, [Some(status)], "{request}");
    }
    for upgrade in ["h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA", "websocket"] {
        let request = format!(
            "GET /c/sp7 HTTP/1.1\r\nHost: t\r\nConnection: Upgrade\r\nUpgrade: {upgrade}\r\n\r\n"
        );
        check(&server, &request, &[Some(302), None]);
    }
    assert!(server.is_alive());
    assert!(!server.log().contains("panicked"));
}

#[test]
fn lines_that_end_as_they_did_before_are_one_request_all_the_same() {
    let server = Server::start();
    check(&server, "GET /c/sp7 HTTP/1.1\nHost: t\n\n", &[Some(302), None]);
    check(&server, "\r\n\r\nGET /c/sp7 HTTP/1.1\r\nHost: t\r\n\r\n", &[Some(302), None]);
    assert_eq!(server.metric("postbackd_clicks_total"), 2.0);
}

#[test]
fn five_thousand_requests_in_one_go_are_answered_one_by_one() {
    const COUNT: usize = 5000;
    let server = Server::start();
    let request = "GET /click?offer=spring&aff=pub-7&sub1=flood HTTP/1.1\r\nHost: t\r\n\r\n";
    let mut connection: Connection = server.connect();
    let sending = std::thread::scope(|scope| {
        let mut sender = connection.try_clone();
        let sending = scope.spawn(move || sender.send(request.repeat(COUNT)));
        for _ in 0..COUNT {
            assert_eq!(connection.receive("GET").expect("an answer").status, 302);
        }
        sending.join().expect("no panic")
    });
    sending.expect("all were taken");
    assert_eq!(server.metric("postbackd_clicks_total"), COUNT as f64);
}
