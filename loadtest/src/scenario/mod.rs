// Hot path: requests are written into the connection's buffer, answers are borrowed.
//! What is asked of the server, and what its answers should be.

mod change;
mod click;
mod funnel;
mod postback;

use std::ops::Range;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

pub use change::{ChangeOptions, Changes, Line, Sale};
pub use click::{ClickPool, Clicks};
pub use funnel::{Funnel, FunnelShares};
pub use postback::{Forged, PostbackOptions, Postbacks};

use crate::answer::Answer;
use crate::catalog::{Catalog, Place, SECRET, sale_dollars};
use crate::cli::Auth;
use crate::text::{ShortText, push_number};

/// Names a request to the workload that wrote it.
pub type Tag = u64;

/// One thread's requests and what becomes of them.
pub trait Workload {
    /// Writes the next request into `out`, which is empty; `None` when there is none to send.
    fn next(&mut self, out: &mut Vec<u8>) -> Option<Tag>;
    /// Whether there will be none any more, when there was none.
    fn is_finished(&self) -> bool {
        true
    }
    /// Takes the answer; whether it is the one the scenario wants.
    fn answered(&mut self, tag: Tag, answer: &Answer<'_>) -> bool;
    /// The connection died before the answer: whether the request had an effect is unknown.
    fn lost(&mut self, tag: Tag);
}

/// Who answers: the product, or the floor that says the same thing to everybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judge {
    /// Status and result must be the scenario's.
    Strict,
    /// Any 2xx or 3xx will do.
    Lenient,
}

/// User agents as they come: long, few, repeated.
const USER_AGENTS: [&str; 4] = [
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (Linux; Android 15; Pixel 9) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/138.0.0.0 Mobile Safari/537.36",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/138.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15; rv:141.0) Gecko/20100101 Firefox/141.0",
];
/// What fires postbacks names itself shortly.
const SENDER: &str = "acme-s2s/2.1";
/// Distinct `sub1` values: campaigns repeat, `sub2` does not.
const CAMPAIGNS: u64 = 20;

/// The constant parts of every request, shared by all threads of a run.
#[derive(Clone, Debug)]
pub struct Requests {
    catalog: Arc<Catalog>,
    click_tails: Arc<[Vec<u8>]>,
    postback_tail: Arc<[u8]>,
    signing: Option<Signing>,
}

/// The key of all signatures, set up once, and the time that they all say.
#[derive(Clone, Debug)]
struct Signing {
    key: Hmac<Sha256>,
    ts: u64,
}

impl Signing {
    fn new() -> Self {
        let key = Hmac::new_from_slice(SECRET.as_bytes()).expect("HMAC takes keys of any length");
        let ts = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        Self { key, ts }
    }

    /// Appends the signature of a text, in hex.
    fn push(&self, out: &mut Vec<u8>, text: Range<usize>) {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mac = self.key.clone().chain_update(&out[text]).finalize().into_bytes();
        for byte in mac {
            out.push(DIGITS[usize::from(byte >> 4)]);
            out.push(DIGITS[usize::from(byte & 0xf)]);
        }
    }
}

impl Requests {
    /// Requests to `host`, spread over the offers and affiliates of a catalog.
    pub fn new(host: &str, catalog: Arc<Catalog>) -> Self {
        let tail = |agent: &&str| {
            format!(" HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {agent}\r\nAccept: */*\r\n\r\n")
                .into_bytes()
        };
        Self {
            signing: (catalog.auth() == Auth::Hmac).then(Signing::new),
            catalog,
            click_tails: USER_AGENTS.iter().map(tail).collect(),
            postback_tail: tail(&SENDER).into(),
        }
    }

    /// Where click number `number` goes.
    fn place(&self, number: u64) -> Place {
        self.catalog.place(number)
    }

    /// Click number `number`; `redirect=false` asks for JSON instead of a redirect.
    fn click(&self, out: &mut Vec<u8>, number: u64, redirect: bool) {
        let Place { offer, affiliate } = self.place(number);
        out.extend_from_slice(b"GET /click?offer=");
        self.catalog.push_offer(out, offer);
        out.extend_from_slice(b"&aff=");
        self.catalog.push_affiliate(out, affiliate);
        out.extend_from_slice(b"&sub1=campaign-");
        push_number(out, number % CAMPAIGNS);
        out.extend_from_slice(b"&sub2=");
        push_number(out, number);
        if !redirect {
            out.extend_from_slice(b"&redirect=false");
        }
        out.extend_from_slice(&self.click_tails[number as usize % self.click_tails.len()]);
    }

    /// A sale of `click` under the transaction `prefix` + `number`; the same number always
    /// makes the same bytes.
    fn sale(&self, out: &mut Vec<u8>, click: &ShortText, prefix: &str, number: u64) {
        self.postback(out, click, prefix, number, b"");
    }

    /// The same sale, taken back.
    fn reversal(&self, out: &mut Vec<u8>, click: &ShortText, prefix: &str, number: u64) {
        self.postback(out, click, prefix, number, b"&status=reversed");
    }

    fn postback(
        &self,
        out: &mut Vec<u8>,
        click: &ShortText,
        prefix: &str,
        number: u64,
        status: &[u8],
    ) {
        if let Some(signing) = &self.signing {
            return self.signed_postback(signing, out, click, prefix, number, status);
        }
        out.extend_from_slice(b"GET /postback?click_id=");
        out.extend_from_slice(click.as_bytes());
        out.extend_from_slice(b"&event=sale");
        out.extend_from_slice(status);
        out.extend_from_slice(b"&txn_id=");
        out.extend_from_slice(prefix.as_bytes());
        push_number(out, number);
        out.extend_from_slice(b"&amount=");
        push_number(out, sale_dollars(number));
        out.extend_from_slice(b".50&currency=USD");
        if self.catalog.auth() == Auth::Token {
            out.extend_from_slice(b"&token=");
            out.extend_from_slice(SECRET.as_bytes());
        }
        out.extend_from_slice(&self.postback_tail);
    }

    /// The same, signed: its parameters stand in the order in which they are signed, and hold
    /// nothing that would have to be encoded.
    fn signed_postback(
        &self,
        signing: &Signing,
        out: &mut Vec<u8>,
        click: &ShortText,
        prefix: &str,
        number: u64,
        status: &[u8],
    ) {
        out.extend_from_slice(b"GET /postback/acme?");
        let begin = out.len();
        out.extend_from_slice(b"amount=");
        push_number(out, sale_dollars(number));
        out.extend_from_slice(b".50&click_id=");
        out.extend_from_slice(click.as_bytes());
        out.extend_from_slice(b"&currency=USD&event=sale");
        out.extend_from_slice(status);
        out.extend_from_slice(b"&ts=");
        push_number(out, signing.ts);
        out.extend_from_slice(b"&txn_id=");
        out.extend_from_slice(prefix.as_bytes());
        push_number(out, number);
        let text = begin..out.len();
        out.extend_from_slice(b"&sig=");
        signing.push(out, text);
        out.extend_from_slice(&self.postback_tail);
    }
}

/// The answer's `result`, as the contract names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Accepted,
    Duplicate,
    Updated,
    Refused,
    Unavailable,
    /// None of the words this generator can cause.
    Other,
}

impl Outcome {
    fn of(answer: &Answer<'_>) -> Self {
        match answer.json_text(b"\"result\":\"") {
            Some(b"accepted") if answer.status == 200 => Self::Accepted,
            Some(b"duplicate") if answer.status == 200 => Self::Duplicate,
            Some(b"updated") if answer.status == 200 => Self::Updated,
            Some(b"refused") if answer.status / 100 == 4 => Self::Refused,
            Some(b"unavailable") if matches!(answer.status, 429 | 503) => Self::Unavailable,
            _ => Self::Other,
        }
    }
}

/// Whether the floor's constant answer came.
fn is_success(answer: &Answer<'_>) -> bool {
    matches!(answer.status / 100, 2 | 3)
}

/// The click ID of a click's answer: of the JSON, else of the `subid` in the landing URL.
fn click_id_of(answer: &Answer<'_>) -> Option<ShortText> {
    if let Some(id) = answer.json_text(b"\"click_id\":\"") {
        return ShortText::new(id);
    }
    let location = answer.header(b"location")?;
    let start = memchr::memmem::find(location, b"subid=")? + b"subid=".len();
    ShortText::new(location[start..].split(|b| *b == b'&' || *b == b'#').next()?)
}

/// The conversion that a postback's answer names.
fn conversion_id_of(answer: &Answer<'_>) -> Option<ShortText> {
    ShortText::new(answer.json_text(b"\"conversion_id\":\"")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(status: u16, body: &str, expected: Outcome) {
        let answer = Answer { status, head: b"", body: body.as_bytes() };
        assert_eq!(Outcome::of(&answer), expected, "{status} {body}");
    }

    #[test]
    fn an_outcome_needs_its_word_and_its_status() {
        check(200, r#"{"result":"accepted"}"#, Outcome::Accepted);
        check(200, r#"{"result":"duplicate","status":"approved"}"#, Outcome::Duplicate);
        check(404, r#"{"result":"refused","reason":"forged_click_id"}"#, Outcome::Refused);
        check(503, r#"{"result":"unavailable"}"#, Outcome::Unavailable);
        check(503, r#"{"result":"accepted"}"#, Outcome::Other);
        check(200, "", Outcome::Other);
    }

    #[test]
    fn a_click_id_is_found_in_json_and_in_the_landing_url() {
        let json = Answer { status: 200, head: b"", body: br#"{"click_id":"abc","url":"x"}"# };
        assert_eq!(click_id_of(&json), ShortText::new(b"abc"));
        let head = b"HTTP/1.1 302 Found\r\nlocation: https://s.example/l?subid=abc&src=1\r\n";
        let redirect = Answer { status: 302, head, body: b"" };
        assert_eq!(click_id_of(&redirect), ShortText::new(b"abc"));
        assert_eq!(click_id_of(&Answer { status: 404, head: b"", body: b"" }), None);
    }

    #[test]
    fn the_same_number_makes_the_same_postback() {
        let requests = Requests::new("h", Arc::new(Catalog::of(2, 2)));
        let click = ShortText::new(b"abc").expect("short");
        let (mut a, mut b) = (Vec::new(), Vec::new());
        requests.sale(&mut a, &click, "r-0-", 17);
        requests.sale(&mut b, &click, "r-0-", 17);
        assert_eq!(a, b);
        assert!(a.starts_with(
            b"GET /postback?click_id=abc&event=sale&txn_id=r-0-17&amount=27.50&currency=USD HTTP/1.1\r\nHost: h\r\n"
        ));
        assert!(a.ends_with(b"\r\n\r\n"));
        let mut taken_back = Vec::new();
        requests.reversal(&mut taken_back, &click, "r-0-", 17);
        assert!(taken_back.starts_with(
            b"GET /postback?click_id=abc&event=sale&status=reversed&txn_id=r-0-17&amount=27.50&currency=USD HTTP/1.1\r\nHost: h\r\n"
        ));
    }

    #[test]
    fn a_signed_sale_is_what_was_signed_and_the_signature() {
        let mut requests = Requests::new("h", Arc::new(Catalog::of(1, 1)));
        let mut signing = Signing::new();
        signing.ts = 1_795_248_000;
        requests.signing = Some(signing);
        let mut out = Vec::new();
        requests.sale(&mut out, &ShortText::new(b"abc").expect("short"), "r-0-", 17);
        // printf '%s' TEXT | openssl dgst -sha256 -hmac loadtest-secret
        let text = "amount=27.50&click_id=abc&currency=USD&event=sale&ts=1795248000&txn_id=r-0-17";
        let sig = "2feb5d8d80edeec5de70b9ec8312f4fb02689ae4df93ca78d5520ab2e8a4f4fb";
        let expected = format!("GET /postback/acme?{text}&sig={sig} HTTP/1.1\r\nHost: h\r\n");
        let out = String::from_utf8(out).expect("ASCII");
        assert!(out.starts_with(&expected), "{out}");
    }
}
