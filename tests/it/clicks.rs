//! Clicks: where they lead, what they carry, what is kept of them.

use crate::harness::{Response, Server, Setup};

const ENDED: &str = "https://shop.example/ended";
const NETWORK: &str = "https://network.example/unavailable";

fn location(answer: &Response) -> &str {
    assert_eq!(answer.status, 302, "{answer:?}");
    let location = answer.header("location").expect("a redirect leads somewhere");
    assert!(!location.is_empty());
    location
}

/// The click ID in a landing URL of the offer `spring`.
fn click_id(location: &str) -> &str {
    let rest = location.strip_prefix("https://shop.example/landing?subid=").expect(location);
    let id = rest.split('&').next().expect("a first part");
    assert_eq!(id.len(), 33, "{location}");
    id
}

#[test]
fn every_alias_leads_to_the_offer() {
    let server = Server::start();
    let mut queries = vec!["/click?id=sp7".to_owned(), "/c/sp7".to_owned()];
    for offer in ["offer", "offer_id", "o"] {
        queries.push(format!("/click?{offer}=spring&aff=pub-7"));
    }
    for affiliate in ["aff", "affiliate", "aff_id", "a", "pid"] {
        queries.push(format!("/click?offer=spring&{affiliate}=pub-7"));
    }
    for query in queries {
        let answer = server.get(&query);
        let id = click_id(location(&answer)).to_owned();
        let click = server.api(&format!("clicks/{id}"));
        assert_eq!((&click["offer"], &click["affiliate"]), (&"spring".into(), &"pub-7".into()));
    }
}

#[test]
fn a_short_link_takes_parameters_along() {
    let server = Server::start();
    for sub in ["sub1", "subid", "aff_sub"] {
        let answer = server.get(&format!("/c/sp7?{sub}=news"));
        assert!(location(&answer).ends_with("&src=news"), "{answer:?}");
    }
}

#[test]
fn a_link_that_was_copied_out_of_a_page_leads_to_its_offer() {
    let server = Server::start();
    let answer = server.get("/click?offer=spring&amp;aff=pub-7&amp;sub1=news");
    assert!(location(&answer).ends_with("&src=news"), "{answer:?}");
    click_id(location(&answer));
}

#[test]
fn a_redirect_has_exactly_these_headers() {
    let server = Setup::new().key("click.referrer_policy", "no-referrer").start();
    let answer = server.connect().request("GET", "/c/sp7", "").expect("an answer");
    let mut names: Vec<_> = answer.headers.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["cache-control", "content-length", "date", "location", "referrer-policy"]);
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.header("referrer-policy"), Some("no-referrer"));
    assert_eq!(answer.header("content-length"), Some("0"));
    assert!(answer.body.is_empty());
    assert_eq!(
        Server::start().get("/c/sp7").header("referrer-policy"),
        Some("strict-origin-when-cross-origin")
    );
}

#[test]
fn a_slash_at_the_end_of_a_link_leads_to_the_same_offer() {
    let server = Server::start();
    for link in ["/click/?offer=spring&aff=pub-7&sub1=x", "/c/sp7/?sub1=x", "/c/sp7?sub1=x"] {
        let answer = server.get(link);
        let url = location(&answer);
        assert!(url.starts_with("https://shop.example/landing?subid=0"), "{link}: {url}");
        assert!(url.ends_with("&src=x"), "{link}: {url}");
    }
    assert_eq!(server.metric("postbackd_clicks_total"), 3.0);
}

#[test]
fn redirect_false_answers_json_instead() {
    let server = Server::start();
    let answer = server.get("/click?offer=spring&aff=pub-7&sub1=a%22b%5C&redirect=false");
    assert_eq!((answer.status, answer.header("location")), (200, None));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let json = answer.json();
    let id = json["click_id"].as_str().expect("a click ID");
    let expected = serde_json::json!({
        "click_id": id,
        "url": format!("https://shop.example/landing?subid={id}&src=a%22b%5C"),
    });
    assert_eq!(json, expected);
    let fallen = server.get("/click?offer=nothing&redirect=false");
    let expected =
        r#"{"click_id":null,"url":"https://network.example/unavailable","reason":"unknown_offer"}"#;
    assert_eq!((fallen.status, fallen.text().trim_end()), (200, expected));
}

#[test]
fn head_mints_nothing_and_records_nothing() {
    let server = Server::start();
    let commits = || server.metric("postbackd_store_commits_total");
    server.await_own_commits();
    let before = commits();
    let answer = server.request("HEAD", "/c/sp7?sub1=x", "");
    assert_eq!(location(&answer), "https://shop.example/landing?subid=&src=x");
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let fallen = server.request("HEAD", "/c/nothing", "");
    assert_eq!(location(&fallen), NETWORK);
    server.click("id=sp7");
    assert_eq!(commits(), before + 1.0, "the click after them is the only one recorded");
    assert_eq!(server.metric("postbackd_clicks_total"), 1.0);
}

#[test]
fn macros_are_filled_and_percent_encoded() {
    let server = Server::start();
    let query = "offer=macros&aff=pub-8&sub1=a+b%26c%3Dd%23&sub10=%C3%BC&kw=%0D%0AX%3A+y&sub2=%22%3Cscript%3E";
    let answer = server.get(&format!("/click?{query}"));
    let url = location(&answer);
    let (before, rest) = url.split_once("&at=").expect(url);
    let (path, values) = before.split_once("?c=").expect(url);
    assert_eq!(path, "https://shop.example/macros/pub-8");
    assert_eq!(&values[33..], "&s=a%20b%26c%3Dd%23&t=%C3%BC&k=%0D%0AX%3A%20y&n=");
    let (at, rest) = rest.split_once("&r=").expect(url);
    let (random, fragment) = rest.split_once('#').expect(url);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("now");
    let at: u64 = at.parse().expect("Unix seconds");
    assert!(now.as_secs().abs_diff(at) < 60, "{at}");
    assert!(!random.is_empty() && random.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    assert_eq!(fragment, "%22%3Cscript%3E");
    let again = server.get(&format!("/click?{query}"));
    assert_ne!(location(&again).split_once("&r="), url.split_once("&r="), "another random number");
}

#[test]
fn a_user_agent_and_a_referrer_are_cut_where_a_character_begins() {
    let server = Server::start();
    // The first of the two-byte characters lies over the limit.
    let (agent, page) = ("a".repeat(511), format!("https://blog.example/{}", "b".repeat(490)));
    let over = "é".repeat(45);
    let headers = format!("User-Agent: {agent}{over}\r\nReferer: {page}{over}\r\n");
    let answer = server.request("GET", "/click?id=sp7&redirect=false", &headers);
    let id = answer.json()["click_id"].as_str().expect("a click ID").to_owned();
    let click = server.api(&format!("clicks/{id}"));
    assert_eq!((&click["user_agent"], &click["referrer"]), (&agent.into(), &page.into()));
    // Where one begins right behind it, nothing more is lost.
    let headers = format!("User-Agent: {}\r\n", "é".repeat(300));
    let answer = server.request("GET", "/click?id=sp7&redirect=false", &headers);
    let id = answer.json()["click_id"].as_str().expect("a click ID").to_owned();
    assert_eq!(server.api(&format!("clicks/{id}"))["user_agent"], "é".repeat(256));
}

#[test]
fn what_a_parameter_says_never_becomes_a_header_or_another_parameter() {
    let server = Server::start();
    let answer = server.get("/c/sp7?sub1=%0d%0aSet-Cookie:%20a=b%26subid=stolen");
    assert_eq!(answer.header("set-cookie"), None);
    assert!(location(&answer).ends_with("&src=%0D%0ASet-Cookie%3A%20a%3Db%26subid%3Dstolen"));
}

#[test]
fn each_fallback_has_its_place_and_its_reason() {
    let server = Server::start();
    let many = format!("/c/sp7?{}", "x=1&".repeat(65));
    let long = format!("/c/sp7?sub1={}", "x".repeat(9000));
    let cases = [
        ("/click", NETWORK, "missing_offer"),
        ("/click?aff=pub-7", NETWORK, "missing_offer"),
        ("/click?offer=nothing&aff=pub-7", NETWORK, "unknown_offer"),
        ("/click?offer=paused&aff=pub-7", "https://shop.example/paused-fallback", "paused_offer"),
        ("/c/pa7", "https://shop.example/paused-fallback", "paused_offer"),
        ("/click?offer=expired&aff=pub-7", NETWORK, "expired_offer"),
        ("/click?offer=spring", ENDED, "missing_affiliate"),
        ("/click?offer=spring&aff=nobody", ENDED, "unknown_affiliate"),
        ("/click?offer=spring&aff=pub-9", ENDED, "blocked_affiliate"),
        ("/click?offer=macros&aff=pub-9", NETWORK, "blocked_affiliate"),
        ("/c/nothing", NETWORK, "unknown_link"),
        ("/c/", NETWORK, "unknown_link"),
        ("/c", NETWORK, "unknown_link"),
        ("/c/sp7/more?sub1=x", NETWORK, "unknown_link"),
        ("/click/", NETWORK, "missing_offer"),
        ("/click/sp7", NETWORK, "unknown_link"),
        ("/click&offer=spring&aff=pub-7", NETWORK, "unknown_link"),
        ("/clicks?offer=spring&aff=pub-7", NETWORK, "unknown_link"),
        ("/click?id=nothing", NETWORK, "unknown_link"),
        (&many, ENDED, "too_many_parameters"),
        (&long, NETWORK, "url_too_long"),
    ];
    for (target, expected, reason) in cases {
        let series = format!("postbackd_click_fallbacks_total{{reason=\"{reason}\"}}");
        let before = server.metric(&series);
        assert_eq!(location(&server.get(target)), expected, "{target}");
        assert_eq!(server.metric(&series), before + 1.0, "{target}: {reason}");
    }
    assert_eq!(server.metric("postbackd_clicks_total"), 0.0);
}

#[test]
fn without_any_fallback_there_is_a_short_page() {
    let server = Setup::new().without_network_fallback().start();
    let answer = server.get("/click?offer=macros&aff=pub-9");
    assert_eq!((answer.status, answer.header("location")), (404, None));
    assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert!(answer.text().contains("not available"), "{answer:?}");
    let json = server.get("/click?offer=macros&aff=pub-9&redirect=false");
    let expected = r#"{"click_id":null,"url":null,"reason":"blocked_affiliate"}"#;
    assert_eq!((json.status, json.text().trim_end()), (404, expected));
    assert_eq!(location(&server.get("/c/pa7")), "https://shop.example/paused-fallback");
}

#[test]
fn no_parameter_chooses_the_host() {
    let server = Server::start();
    for name in ["url", "redirect", "redirect_url", "next", "r", "to", "u", "sub1", "fallback_url"]
    {
        for value in [
            "https://evil.example/",
            "//evil.example",
            "https%3A%2F%2Fevil.example",
            "@evil.example",
        ] {
            for target in [
                format!("/c/sp7?{name}={value}"),
                format!("/click?offer=nothing&{name}={value}"),
                format!("/click?offer={value}&aff=pub-7&{name}={value}"),
                format!("/c/{}", value.replace('/', "%2F")),
            ] {
                let answer = server.get(&target);
                let url = location(&answer);
                let ours = url.starts_with("https://shop.example/")
                    || url.starts_with("https://network.example/");
                assert!(ours, "{target} leads to {url}");
            }
        }
    }
}

#[test]
fn only_get_and_head_are_clicks() {
    let server = Server::start();
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let answer = server.request(method, "/c/sp7", "Content-Length: 0\r\n");
        assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD")), "{method}");
    }
}

#[test]
fn the_record_says_what_the_visitor_brought() {
    let server = Setup::new().key("click.ip", "full").start();
    let headers = "User-Agent: Browser/1 (X)\r\nReferer: https://blog.example/post?a=1\r\n";
    let query = "offer=macros&aff=pub-8&sub1=one&sub2=t%C3%BCr&sub10=ten&kw=shoes&other=dropped\
                 &gdpr=1&gdpr_consent=CPXxRfA&us_privacy=1YNN&redirect=false";
    let answer = server.request("GET", &format!("/click?{query}"), headers).json();
    let id = answer["click_id"].as_str().expect("a click ID");
    let mut click = server.api(&format!("clicks/{id}"));
    let time = click["time"].take();
    assert!(time.as_str().is_some_and(|time| time.ends_with('Z') && time.len() == 24), "{time}");
    let expected = serde_json::json!({
        "click_id": id, "offer": "macros", "affiliate": "pub-8", "time": null,
        "subs": {"sub1": "one", "sub2": "tür", "sub10": "ten"},
        "params": {"kw": "shoes"},
        "ip": "127.0.0.1",
        "user_agent": "Browser/1 (X)", "referrer": "https://blog.example/post?a=1",
        "gdpr": "1", "gdpr_consent": "CPXxRfA", "us_privacy": "1YNN",
        "country": null, "fallback": null, "flags": [],
    });
    assert_eq!(click, expected);
}

#[test]
fn the_address_is_kept_as_configured() {
    let check = |mode: &str, expected: &dyn Fn(Option<&str>) -> bool| {
        let server =
            Setup::new().key("click.ip", mode).key("server.trusted_proxies", "127.0.0.0/8").start();
        let forwarded = "X-Forwarded-For: 1.2.3.4, 203.0.113.77\r\n";
        let answer = server.request("GET", "/click?id=sp7&redirect=false", forwarded).json();
        let id = answer["click_id"].as_str().expect("a click ID");
        let click = server.api(&format!("clicks/{id}"));
        assert!(expected(click["ip"].as_str()), "{mode}: {click}");
    };
    check("full", &|ip| ip == Some("203.0.113.77"));
    check("truncated", &|ip| ip == Some("203.0.113.0"));
    check("hashed", &|ip| ip.is_some_and(|ip| ip.starts_with("hash:") && ip.len() == 21));
    check("none", &|ip| ip.is_none());
}

#[test]
fn a_visitors_port_is_passed_over_and_what_is_no_address_is_counted_once_a_request() {
    let setup = Setup::new().key("click.ip", "full").key("server.trusted_proxies", "127.0.0.0/8");
    let server = setup.start();
    let kept = |forwarded: &str| {
        let forwarded = format!("X-Forwarded-For: {forwarded}\r\n");
        let answer = server.request("GET", "/click?id=sp7&redirect=false", &forwarded).json();
        let id = answer["click_id"].as_str().expect("a click ID");
        server.api(&format!("clicks/{id}"))["ip"].clone()
    };
    let unreadable = || server.metric("postbackd_forwarded_unreadable_total");
    assert_eq!(kept("203.0.113.77:51234"), "203.0.113.77");
    assert_eq!(kept("[2001:db8::7]:443"), "2001:db8::7");
    assert_eq!(unreadable(), 0.0);
    assert_eq!(kept("203.0.113.77, unknown"), "127.0.0.1", "the proxy's");
    assert_eq!(unreadable(), 1.0);
    let unknown = "X-Forwarded-For: unknown\r\n";
    for target in ["/postback?event=sale", "/postback?event=sale&dry_run=1", "/nothing"] {
        server.request("GET", target, unknown);
    }
    // What leads nowhere is nobody's: a proxy asks so whether we are well.
    assert_eq!(unreadable(), 3.0);
    let form = format!("application/x-www-form-urlencoded\r\n{}", unknown.trim_end());
    server.connect().post("/postback", &form, b"event=sale").expect("an answer");
    assert_eq!(unreadable(), 4.0);
}

#[test]
fn a_proxy_that_names_no_visitor_or_is_not_named_itself_is_counted() {
    let named = Setup::new().key("server.trusted_proxies", "127.0.0.0/8").start();
    let unnamed = Setup::new().start();
    let forwarded = "X-Forwarded-For: 203.0.113.77\r\n";
    let counts = |server: &Server| {
        let of = |what| server.metric(&format!("postbackd_forwarded_{what}_total"));
        ["unreadable", "missing", "untrusted"].map(of)
    };
    for target in ["/c/sp7", "/postback?event=sale", "/nothing", "/"] {
        for headers in ["", forwarded] {
            named.request("GET", target, headers);
            unnamed.request("GET", target, headers);
        }
    }
    assert_eq!(counts(&named), [0.0, 2.0, 0.0]);
    assert_eq!(counts(&unnamed), [0.0, 0.0, 2.0]);
    named.request("GET", "/c/sp7", "X-Forwarded-For: 127.0.0.2\r\n");
    assert_eq!(counts(&named), [0.0, 3.0, 0.0], "a proxy's is no visitor's");
}

#[test]
fn a_stranger_cannot_invent_its_address() {
    let server = Setup::new().key("click.ip", "full").start();
    let forwarded = "X-Forwarded-For: 203.0.113.77\r\n";
    let answer = server.request("GET", "/click?id=sp7&redirect=false", forwarded).json();
    let id = answer["click_id"].as_str().expect("a click ID");
    assert_eq!(server.api(&format!("clicks/{id}"))["ip"], "127.0.0.1");
}

#[test]
fn the_country_is_what_a_trusted_proxy_says() {
    let click = |server: &Server, headers: &str| {
        let answer = server.request("GET", "/click?offer=macros&aff=pub-8", headers);
        let url = location(&answer);
        let id = url.split_once("?c=").expect(url).1[..33].to_owned();
        let filled = url.split_once("&n=").expect(url).1.split('&').next().expect("a value");
        let kept = server.api(&format!("clicks/{id}"))["country"].clone();
        assert_eq!(kept.as_str().unwrap_or_default(), filled, "{url}");
        filled.to_owned()
    };
    let setup = || Setup::new().key("click.country_header", "CF-IPCountry");
    let server = setup().key("server.trusted_proxies", "127.0.0.0/8").start();
    assert_eq!(click(&server, "CF-IPCountry: DE\r\n"), "DE");
    assert_eq!(click(&server, "cf-ipcountry: de\r\n"), "DE");
    for unknown in ["", "CF-IPCountry: XX\r\n", "CF-IPCountry: T1\r\n", "X-Country: DE\r\n"] {
        assert_eq!(click(&server, unknown), "", "{unknown:?}");
    }
    let stranger = setup().start();
    assert_eq!(click(&stranger, "CF-IPCountry: DE\r\n"), "", "a visitor cannot invent it");
    let unconfigured = Setup::new().key("server.trusted_proxies", "127.0.0.0/8").start();
    assert_eq!(click(&unconfigured, "CF-IPCountry: DE\r\n"), "");
}
