//! The admin API, one blocking request after another: readiness, conversions, metrics.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::answer::{self, Answer};
use crate::books::{Audit, Book, Mismatch, Stored, Verdict};
use crate::catalog::Catalog;
use crate::money::{Earned, MoneyVerdict, Sums, dollars, micros};

/// A page of conversions may take a server a moment; longer is an error.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Conversions asked for at once.
const PAGE_ITEMS: usize = 1000;
/// Pages read before the walk is called endless.
const PAGES_MAX: usize = 1_000_000;
/// Affiliates whose balances are asked for, the first of the catalog: clicks are spread evenly, and
/// a server may look through all that is not filed yet for each of them.
const BALANCES_MAX: u32 = 100;
/// Between two questions whether the server is ready.
const READY_POLL: Duration = Duration::from_millis(20);

/// A client of one admin listener.
#[derive(Clone, Debug)]
pub struct Admin {
    address: SocketAddr,
    token: String,
}

#[derive(Deserialize)]
struct Page {
    items: Vec<Stored>,
    next_cursor: Option<String>,
}

#[derive(Deserialize)]
struct Totals {
    currency: String,
    conversions: u64,
    payout: String,
    revenue: String,
    next_cursor: Option<String>,
}

#[derive(Deserialize)]
struct Balances {
    balances: Vec<Balance>,
}

#[derive(Deserialize)]
struct Balance {
    currency: String,
    postings: u64,
    accounts: Accounts,
}

#[derive(Deserialize)]
struct Accounts {
    advertiser_receivable: String,
    affiliate_payable: String,
    network_margin: String,
}

/// What a server's books say about money at one moment.
#[derive(Clone, Debug)]
pub struct Money {
    catalog: Catalog,
    totals: Sums,
    /// Of the first affiliates.
    balances: Vec<Sums>,
}

impl Admin {
    /// A client that shows `token` with every request.
    pub fn new(address: SocketAddr, token: &str) -> Self {
        Self { address, token: token.trim().to_owned() }
    }

    /// Asks `/readyz` until it says 200, at most for `patience`.
    pub fn wait_ready(&self, patience: Duration) -> io::Result<()> {
        let deadline = Instant::now() + patience;
        loop {
            let answer = self.connect().and_then(|mut stream| self.get(&mut stream, "/readyz"));
            let last = match answer {
                Ok((200, _)) => return Ok(()),
                Ok((status, _)) => format!("/readyz answers {status}"),
                Err(error) => error.to_string(),
            };
            if Instant::now() >= deadline {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("server not ready: {last}"),
                ));
            }
            // Polling another process's state over the network: there is nothing to wait on.
            std::thread::sleep(READY_POLL);
        }
    }

    /// The metrics page, if there is one.
    pub fn metrics(&self) -> Option<String> {
        let (status, body) =
            self.connect().and_then(|mut stream| self.get(&mut stream, "/metrics")).ok()?;
        (status == 200).then(|| String::from_utf8_lossy(&body).into_owned())
    }

    /// Walks all conversions and compares them with the books of the run; money, too, if it is
    /// known what the books said of it before the run.
    pub fn audit(
        &self,
        run_id: &str,
        books: &[Book],
        before: Option<&Money>,
    ) -> io::Result<Verdict> {
        let mut audit = Audit::new(run_id, books, before.map(|before| &before.catalog));
        self.pages("conversions?", |page: Page| {
            page.items.iter().for_each(|stored| audit.stored(stored));
            Ok(page.next_cursor)
        })?;
        let (mut verdict, earned) = audit.finish();
        if let Some(before) = before {
            let after = self.money(&before.catalog)?;
            verdict.money = Some(after.compare(before, &earned, &mut verdict));
        }
        Ok(verdict)
    }

    /// Reads the totals, and the balances of the first affiliates.
    pub fn money(&self, catalog: &Catalog) -> io::Result<Money> {
        // They have what conversions had earned, reversed ones too.
        let (mut totals, reversed) = (self.totals("")?, self.totals("status=reversed&")?);
        totals.postings += reversed.postings;
        totals.payout -= reversed.payout;
        totals.revenue -= reversed.revenue;
        let mut stream = self.connect()?;
        let affiliates = 0..catalog.affiliates().min(BALANCES_MAX);
        let balances = affiliates.map(|number| {
            let path = format!("/api/v1/balances?affiliate={}", catalog.affiliate_id(number));
            match self.get(&mut stream, &path)? {
                (200, body) => balance(&serde_json::from_slice(&body)?),
                (status, body) => Err(refused(&path, status, &body)),
            }
        });
        let balances = balances.collect::<io::Result<_>>()?;
        Ok(Money { catalog: catalog.clone(), totals, balances })
    }

    fn totals(&self, filter: &str) -> io::Result<Sums> {
        let mut totals = Sums::default();
        self.pages(&format!("totals?{filter}"), |page: Totals| {
            if page.currency != "USD" {
                return Err(io::Error::other("the network's currency must be USD"));
            }
            totals.postings += page.conversions;
            totals.payout += amount(&page.payout)?;
            totals.revenue += amount(&page.revenue)?;
            Ok(page.next_cursor)
        })?;
        Ok(totals)
    }

    /// Reads a listing page by page; `take` answers where the next one begins.
    fn pages<P: DeserializeOwned>(
        &self,
        what: &str,
        mut take: impl FnMut(P) -> io::Result<Option<String>>,
    ) -> io::Result<()> {
        let mut stream = self.connect()?;
        let mut cursor: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let from = cursor
                .as_ref()
                .map_or(String::new(), |cursor| format!("cursor={}&", encoded(cursor)));
            let path = format!("/api/v1/{what}{from}limit={PAGE_ITEMS}");
            let (status, body) = self.get(&mut stream, &path)?;
            if status != 200 {
                return Err(refused(&path, status, &body));
            }
            match take(serde_json::from_slice(&body)?)? {
                None => return Ok(()),
                next if next == cursor => return Err(io::Error::other("the cursor does not move")),
                next => cursor = next,
            }
        }
        Err(io::Error::other("more pages than can be true"))
    }

    fn connect(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect_timeout(&self.address, ANSWER_TIMEOUT)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
        Ok(stream)
    }

    fn get(&self, stream: &mut TcpStream, path: &str) -> io::Result<(u16, Vec<u8>)> {
        let (host, token) = (self.address, &self.token);
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\nAccept: */*\r\n\r\n"
        );
        stream.write_all(request.as_bytes())?;
        let (mut bytes, mut chunk) = (Vec::new(), [0; 64 * 1024]);
        loop {
            let read = stream.read(&mut chunk)?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            bytes.extend_from_slice(&chunk[..read]);
            if let Some(frame) = answer::parse(&bytes).map_err(io::Error::other)? {
                return Ok((frame.status, Answer::of(&frame, &bytes).body.to_vec()));
            }
        }
    }
}

impl Money {
    /// Holds what has changed since `before` against what the run's sales have earned.
    fn compare(&self, before: &Self, earned: &Earned, verdict: &mut Verdict) -> MoneyVerdict {
        let mut all = Sums::default();
        earned.values().for_each(|sums| all.add_all(sums));
        let counted = self.totals.since(&before.totals);
        if counted != all {
            verdict.report(&Mismatch::OtherTotals { earned: all, counted });
        }
        for (number, (now, before)) in (0..).zip(self.balances.iter().zip(&before.balances)) {
            let (earned, posted) =
                (earned.get(&number).copied().unwrap_or_default(), now.since(before));
            if posted != earned {
                let affiliate = self.catalog.affiliate_id(number);
                verdict.report(&Mismatch::OtherBalance { affiliate, earned, posted });
            }
        }
        MoneyVerdict {
            payout: dollars(all.payout),
            revenue: dollars(all.revenue),
            affiliates: self.balances.len() as u64,
        }
    }
}

/// What an affiliate has in dollars, and the advertisers owe for it. Debits are positive, so what
/// is owed to the affiliate is negative, and the three accounts sum to zero.
fn balance(page: &Balances) -> io::Result<Sums> {
    let Some(balance) = page.balances.iter().find(|balance| balance.currency == "USD") else {
        return Ok(Sums::default());
    };
    let Accounts { advertiser_receivable, affiliate_payable, network_margin } = &balance.accounts;
    let (revenue, payable) = (amount(advertiser_receivable)?, amount(affiliate_payable)?);
    if revenue + payable + amount(network_margin)? != 0 {
        return Err(io::Error::other("an affiliate's accounts do not sum to zero"));
    }
    Ok(Sums { postings: balance.postings, payout: -payable, revenue })
}

fn amount(text: &str) -> io::Result<i128> {
    micros(text).ok_or_else(|| io::Error::other(format!("{text:?} is no amount")))
}

fn refused(path: &str, status: u16, body: &[u8]) -> io::Error {
    io::Error::other(format!("{path} answers {status}: {}", String::from_utf8_lossy(body)))
}

/// A cursor is opaque: everything but unreserved characters is escaped.
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_survives_the_query_string() {
        assert_eq!(encoded("abc-09_~."), "abc-09_~.");
        assert_eq!(encoded("a+b/c=&d é"), "a%2Bb%2Fc%3D%26d%20%C3%A9");
    }
}
