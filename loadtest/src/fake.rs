//! A tracker in memory for the tests: one thread a connection, with faults on demand.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use serde_json::json;

use crate::catalog::{Catalog, Place, Price};
use crate::money::{Sums, dollars, micros};

/// What the tracker does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    /// Every hundredth accepted conversion is forgotten.
    Forgets,
    /// Every hundredth repeat is counted again.
    CountsAgain,
    /// Every hundredth postback is stored, and its connection dies instead of an answer.
    HangsUp,
    /// Every hundredth sale is stored with a payout of a millionth more.
    PaysMore,
    /// Every hundredth sale is not posted to the ledger.
    ForgetsPosting,
    /// Changes are answered, but not kept.
    ForgetsChanges,
}

#[derive(Debug, Default)]
struct State {
    clicks: u64,
    postbacks: u64,
    /// Click → where it went.
    places: HashMap<String, Place>,
    /// txn → conversion
    known: HashMap<String, String>,
    /// Oldest first.
    stored: Vec<Sale>,
    /// By affiliate.
    ledger: HashMap<u32, Sums>,
}

#[derive(Debug)]
struct Sale {
    id: String,
    click: String,
    txn: String,
    price: Price,
    is_reversed: bool,
}

/// Starts a tracker of the catalog [`Catalog::of`] so many whose threads end with the test process; both listeners in one.
pub fn start(fault: Fault, catalog: Catalog) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let state = Arc::new(Mutex::new(State::default()));
    let catalog = Arc::new(catalog);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (state, catalog) = (Arc::clone(&state), Arc::clone(&catalog));
            thread::spawn(move || serve(&stream, &state, &catalog, fault));
        }
    });
    Ok(address)
}

/// Answers requests until either side has enough; how it ends does not matter to a test.
fn serve(stream: &TcpStream, state: &Mutex<State>, catalog: &Catalog, fault: Fault) -> Option<()> {
    let (mut reader, mut writer) = (BufReader::new(stream), stream);
    let mut line = String::new();
    loop {
        line.clear();
        reader.read_line(&mut line).ok().filter(|count| *count > 0)?;
        let target = line.split(' ').nth(1)?.to_owned();
        while line != "\r\n" {
            line.clear();
            reader.read_line(&mut line).ok().filter(|count| *count > 0)?;
        }
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let query: HashMap<_, _> =
            query.split('&').filter_map(|pair| pair.split_once('=')).collect();
        let answer = {
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            match path {
                "/click" => state.click(&query),
                "/postback" => state.postback(&query, catalog, fault)?,
                "/api/v1/conversions" => state.page(&query),
                "/api/v1/totals" => state.totals(&query),
                "/api/v1/balances" => state.balances(&query),
                _ => response("200 OK", "", "{}"),
            }
        };
        writer.write_all(answer.as_bytes()).ok()?;
    }
}

impl State {
    fn click(&mut self, query: &HashMap<&str, &str>) -> String {
        self.clicks += 1;
        let id = format!("{:032}Z", self.clicks);
        let number = |name: &str| number_of(query[name]);
        let place = Place { offer: number("offer"), affiliate: number("aff") };
        self.places.insert(id.clone(), place);
        if query.contains_key("redirect") {
            return response("200 OK", "", &format!(r#"{{"click_id":"{id}","url":"x"}}"#));
        }
        response("302 Found", &format!("Location: https://s.example/?subid={id}&src=1\r\n"), "")
    }

    /// `None`: hang up.
    fn postback(
        &mut self,
        query: &HashMap<&str, &str>,
        catalog: &Catalog,
        fault: Fault,
    ) -> Option<String> {
        self.postbacks += 1;
        let odd = self.postbacks.is_multiple_of(100);
        let (click, txn) = (query["click_id"].to_owned(), query["txn_id"].to_owned());
        if !click.ends_with('Z') {
            return Some(response(
                "404 Not Found",
                "",
                r#"{"result":"refused","reason":"forged_click_id"}"#,
            ));
        }
        let known = self.known.get(&txn).filter(|_| fault != Fault::CountsAgain || !odd).cloned();
        let (result, id) = match known {
            Some(id) if query.contains_key("status") => {
                if fault != Fault::ForgetsChanges {
                    self.reverse(&id);
                }
                ("updated", id)
            }
            Some(id) => ("duplicate", id),
            None => {
                let id = format!("c{}", self.postbacks);
                self.known.insert(txn.clone(), id.clone());
                let place = self.places[&click];
                let amount = micros(query["amount"])?.try_into().ok()?;
                let mut price = catalog.price(place, amount);
                price.payout += i64::from(fault == Fault::PaysMore && odd);
                if fault != Fault::ForgetsPosting || !odd {
                    self.ledger.entry(place.affiliate).or_default().add(price);
                }
                if fault != Fault::Forgets || !odd {
                    let sale = Sale { id: id.clone(), click, txn, price, is_reversed: false };
                    self.stored.push(sale);
                }
                ("accepted", id)
            }
        };
        let body = format!(r#"{{"result":"{result}","conversion_id":"{id}"}}"#);
        (fault != Fault::HangsUp || !odd).then(|| response("200 OK", "", &body))
    }

    fn reverse(&mut self, id: &str) {
        let Some(sale) = self.stored.iter_mut().find(|sale| sale.id == id) else { return };
        sale.is_reversed = true;
        let affiliate = self.places[&sale.click].affiliate;
        self.ledger.entry(affiliate).or_default().take_back(sale.price);
    }

    /// All of them, or of reversed ones alone.
    fn totals(&self, query: &HashMap<&str, &str>) -> String {
        let mut sums = Sums::default();
        let asked = |sale: &&Sale| sale.is_reversed || !query.contains_key("status");
        self.stored.iter().filter(asked).for_each(|sale| sums.add(sale.price));
        let (payout, revenue) = (dollars(sums.payout), dollars(sums.revenue));
        let totals = json!({
            "currency": "USD", "conversions": sums.postings, "payout": payout, "revenue": revenue,
            "next_cursor": null,
        });
        response("200 OK", "", &totals.to_string())
    }

    fn balances(&self, query: &HashMap<&str, &str>) -> String {
        let sums = self.ledger.get(&number_of(query["affiliate"])).copied().unwrap_or_default();
        let accounts = json!({
            "advertiser_receivable": dollars(sums.revenue),
            "affiliate_payable": dollars(-sums.payout),
            "network_margin": dollars(sums.payout - sums.revenue),
        });
        let balance = json!({"currency": "USD", "postings": sums.postings, "accounts": accounts});
        response("200 OK", "", &json!({"balances": [balance]}).to_string())
    }

    fn page(&self, query: &HashMap<&str, &str>) -> String {
        let number =
            |name: &str| query.get(name).and_then(|text| text.parse::<usize>().ok()).unwrap_or(0);
        let (from, limit) = (number("cursor"), number("limit"));
        let row = |Sale { id, click, txn, price, is_reversed }: &Sale| {
            let [payout, revenue] = [price.payout, price.revenue].map(|it| dollars(it.into()));
            let status = if *is_reversed { "reversed" } else { "approved" };
            json!({
                "conversion_id": id, "click_id": click, "txn_id": txn, "status": status,
                "payout": payout, "revenue": revenue, "currency": "USD",
            })
        };
        let items: Vec<_> = self.stored.iter().skip(from).take(limit).map(row).collect();
        let next = (from + limit < self.stored.len()).then(|| (from + limit).to_string());
        response("200 OK", "", &json!({"items": items, "next_cursor": next}).to_string())
    }
}

/// The number behind the last `-` of an ID; 0 if it has none, or is that of the first affiliate.
fn number_of(id: &str) -> u32 {
    let rest = id.strip_prefix("pub-7").or_else(|| id.strip_prefix("spring")).unwrap_or_default();
    rest.trim_start_matches('-').parse().unwrap_or(0)
}

fn response(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len())
}
