//! Sends any parameters and any body as a postback, in every advertiser's dialect, twice.
//!
//! Run with `cargo fuzz run postback`. The first two bytes of the input choose path and body, the
//! first line of the rest is the query string, what follows the body. A byte 1 stands for a
//! genuine click ID.

#![no_main]

#[expect(dead_code, reason = "the benches need more of it")]
#[path = "../../benches/common/mod.rs"]
mod common;

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr};

use common::{Bench, NOW_MS};
use libfuzzer_sys::fuzz_target;
use postbackd::http::reply::{self, RefusedBodies};
use postbackd::model::preset::Preset;
use postbackd::postback::{Address, Answer, Body, PostbackRequest, Progress, Told};

/// Clicks whose IDs are handed out, one after the other: many, so that memory of one does not
/// hide the rest of the way from its later postbacks.
const CLICKS: usize = 1024;

struct Server {
    bench: Bench,
    clicks: Vec<String>,
    next: usize,
    refused_bodies: RefusedBodies,
}

thread_local! {
    static SERVER: RefCell<Server> = RefCell::new(Server::new());
}

fuzz_target!(|input: &[u8]| {
    let [path, kind, rest @ ..] = input else { return };
    SERVER.with_borrow_mut(|server| server.take(*path, *kind, rest));
});

impl Server {
    fn new() -> Self {
        let bench = Bench::new();
        let clicks = (0..CLICKS).map(|_| bench.click_id()).collect();
        Self { bench, clicks, next: 0, refused_bodies: RefusedBodies::default() }
    }

    fn take(&mut self, path: u8, kind: u8, rest: &[u8]) {
        self.next = (self.next + 1) % CLICKS;
        let filled = filled(rest, self.clicks[self.next].as_bytes());
        let (query, body) = match filled.iter().position(|byte| *byte == b'\n') {
            Some(end) => (&filled[..end], &filled[end + 1..]),
            None => (&filled[..], &[][..]),
        };
        // HTTP takes no other.
        let Ok(query) = str::from_utf8(query) else { return };
        let preset = Preset::ALL.get(usize::from(path >> 1) % (Preset::ALL.len() + 1)).copied();
        let advertiser = (path & 1 == 1).then_some("acme");
        let body = match kind % 3 {
            0 => Body::None,
            1 => Body::Form(body),
            _ => Body::Json(body),
        };
        let address = Address::Shared { preset, advertiser };
        let (head, ip) = (kind > 200, IpAddr::V4(Ipv4Addr::LOCALHOST));
        let (post, again, now_ms) = (!matches!(body, Body::None), None, NOW_MS);
        let request =
            PostbackRequest { address, query, body, head, post, ip, now_ms, again };
        let first = self.answer(&request);
        let again = self.answer(&request);
        let (Some(first), Some(again)) = (first, again) else { return };
        match (first, again) {
            (Answer::Accepted { conversion, .. }, Answer::Duplicate { original, .. }) => {
                assert_eq!(conversion, Some(original.conversion));
            }
            (Answer::Accepted { .. }, again) => panic!("accepted, and then {again:?}"),
            (Answer::Duplicate { original, .. }, Answer::Duplicate { original: same, .. }) => {
                assert_eq!(original, same);
            }
            (Answer::Refused(first), Answer::Refused(again)) => assert_eq!(first, again),
            (first, again) => panic!("{first:?}, and then {again:?}"),
        }
    }

    /// What a postback is told; `None` if it would have to wait for something.
    fn answer(&mut self, request: &PostbackRequest<'_>) -> Option<Answer> {
        let Bench { postbacks, rounds, .. } = &mut self.bench;
        let told = match postbacks.take_now(request) {
            Progress::Answered(told) => told,
            Progress::Committing(committing) => rounds.drive(postbacks.confirmed(committing)),
            Progress::MustWait { .. } => return None,
        };
        let reply = reply::postback(&told, request.head, &self.refused_bodies);
        assert!(!reply.status().is_redirection());
        let Told { answer, .. } = told;
        Some(answer)
    }
}

fn filled(text: &[u8], click: &[u8]) -> Vec<u8> {
    let mut filled = Vec::with_capacity(text.len() + click.len());
    for byte in text {
        match byte {
            1 => filled.extend_from_slice(click),
            _ => filled.push(*byte),
        }
    }
    filled
}
