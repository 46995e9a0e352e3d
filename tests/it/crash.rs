//! kill -9 under load, again and again: what was acknowledged is there, once.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::harness::{Answer, Connection, Server, eventually};

/// How often the server is killed; more often with `POSTBACKD_KILLS`.
const KILLS: usize = 20;
const CLIENTS: usize = 8;
/// Acknowledgements that must have come between two kills, so that each one hits a busy server.
const ACKNOWLEDGED_PER_ROUND: usize = 60;

/// What a client was told, by transaction.
type Acknowledged = HashMap<String, Told>;

struct Told {
    click: String,
    conversion: String,
}

/// One client: a click, a postback for it, tried again until it is answered, and so on.
struct Client<'a> {
    number: usize,
    public: SocketAddr,
    stop: &'a AtomicBool,
    acknowledged: &'a AtomicUsize,
    connection: Option<Connection>,
}

impl Client<'_> {
    fn run(mut self) -> Acknowledged {
        let mut told = Acknowledged::new();
        for n in 0.. {
            let Some(click) = self.click() else { break };
            let txn = format!("C{}-{n}", self.number);
            let Some(answer) = self.postback(&click, &txn) else { break };
            // A retry may find what an attempt before it, whose answer was lost, has left.
            assert!(matches!(answer.word("result"), "accepted" | "duplicate"), "{answer:?}");
            let conversion = answer.word("conversion_id").to_owned();
            told.insert(txn, Told { click, conversion });
            self.acknowledged.fetch_add(1, Ordering::Relaxed);
        }
        told
    }

    fn click(&mut self) -> Option<String> {
        self.until_answered("/click?id=sp7&redirect=false", |connection, target| {
            let json = connection.request("GET", target, "").ok()?.json();
            Some(json["click_id"].as_str().expect("a click ID").to_owned())
        })
    }

    fn postback(&mut self, click: &str, txn: &str) -> Option<Answer> {
        let target = format!("/postback?click_id={click}&event=sale&txn_id={txn}");
        self.until_answered(&target, |connection, target| {
            let answer = Answer::of(connection.request("GET", target, "").ok()?);
            (answer.http.status == 200).then_some(answer)
        })
    }

    fn until_answered<T>(
        &mut self,
        target: &str,
        mut ask: impl FnMut(&mut Connection, &str) -> Option<T>,
    ) -> Option<T> {
        while !self.stop.load(Ordering::Relaxed) {
            if self.connection.is_none() {
                self.connection = Connection::try_open(self.public).ok();
            }
            match self.connection.as_mut().and_then(|connection| ask(connection, target)) {
                Some(answer) => return Some(answer),
                None => {
                    self.connection = None;
                    // The server is down; others need the processor to bring it up.
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
        }
        None
    }
}

#[test]
fn no_acknowledged_conversion_is_lost_or_doubled_by_twenty_kills_under_load() {
    let asked = std::env::var("POSTBACKD_KILLS").ok().and_then(|count| count.parse().ok());
    survive(Server::start(), asked.unwrap_or(KILLS), Server::kill);
}

/// Interrupts a server under load, again and again; then checks that what was acknowledged is
/// there, once. The server is dead after each interruption.
pub fn survive(mut server: Server, interruptions: usize, mut interrupt: impl FnMut(&mut Server)) {
    let (stop, acknowledged) = (AtomicBool::new(false), AtomicUsize::new(0));
    let told = std::thread::scope(|scope| {
        let _stop = StopOnDrop(&stop);
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let public = server.public;
                let (stop, acknowledged) = (&stop, &acknowledged);
                let client = Client { number, public, stop, acknowledged, connection: None };
                scope.spawn(|| client.run())
            })
            .collect();
        for _ in 0..interruptions {
            let before = acknowledged.load(Ordering::Relaxed);
            eventually("load", || {
                (acknowledged.load(Ordering::Relaxed) >= before + ACKNOWLEDGED_PER_ROUND)
                    .then_some(())
            });
            interrupt(&mut server);
            server.start_again();
        }
        stop.store(true, Ordering::Relaxed);
        let mut all = Acknowledged::new();
        for client in clients {
            all.extend(client.join().expect("no client was told nonsense"));
        }
        all
    });
    interrupt(&mut server);
    server.start_again();
    println!("{} conversions acknowledged over {interruptions} interruptions", told.len());
    check_kept(&server, &told);
    check_retries(&server, &told);
}

/// Ends the clients also when the test fails meanwhile.
pub struct StopOnDrop<'a>(pub &'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn check_kept(server: &Server, told: &Acknowledged) {
    let kept = server.conversions("");
    let mut by_txn = HashMap::new();
    let mut ids = HashSet::new();
    for conversion in &kept {
        let (txn, id) = (conversion["txn_id"].as_str(), conversion["conversion_id"].as_str());
        assert!(by_txn.insert(txn.expect("a transaction"), conversion).is_none(), "{txn:?} twice");
        assert!(ids.insert(id), "{id:?} twice");
    }
    for (txn, Told { click, conversion }) in told {
        let kept = by_txn.get(txn.as_str()).unwrap_or_else(|| panic!("{txn} is lost"));
        assert_eq!(kept["conversion_id"], **conversion, "{txn}");
        assert_eq!(kept["click_id"], **click, "{txn}");
        assert_eq!(kept["status"], "approved", "{txn}");
    }
    let mut written = HashSet::new();
    for row in crate::inbound::log(server, "result=accepted") {
        let id = row["conversion_id"].as_str().expect("a conversion").to_owned();
        assert!(ids.contains(&Some(&*id)), "{id} was written down and is not there");
        assert!(written.insert(id), "{row} is written down twice");
    }
    assert_eq!(written.len(), kept.len(), "each conversion's postback is written down");
    // Beyond the acknowledged, only what each client had under way at a kill or the end.
    assert!(kept.len() <= told.len() + CLIENTS, "{} kept, {} told", kept.len(), told.len());
}

fn check_retries(server: &Server, told: &Acknowledged) {
    let mut connection = server.connect();
    for (txn, Told { click, conversion }) in told {
        let target = format!("/postback?click_id={click}&event=sale&txn_id={txn}");
        let answer = Answer::of(connection.request("GET", &target, "").expect("an answer"));
        assert_eq!(answer.verdict(), (200, "duplicate", ""), "{txn}");
        assert_eq!(answer.word("conversion_id"), conversion, "{txn}");
        assert_eq!(answer.word("status"), "approved", "{txn}");
    }
}
