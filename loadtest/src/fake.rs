//! A tracker in memory for the tests: one thread a connection, with faults on demand.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

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
}

#[derive(Debug, Default)]
struct State {
    clicks: u64,
    postbacks: u64,
    /// txn → (conversion, click)
    known: HashMap<String, (String, String)>,
    /// (conversion, click, txn), oldest first.
    stored: Vec<(String, String, String)>,
}

/// Starts a tracker whose threads end with the test process; both listeners in one.
pub fn start(fault: Fault) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let state = Arc::new(Mutex::new(State::default()));
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let state = Arc::clone(&state);
            thread::spawn(move || serve(&stream, &state, fault));
        }
    });
    Ok(address)
}

/// Answers requests until either side has enough; how it ends does not matter to a test.
fn serve(stream: &TcpStream, state: &Mutex<State>, fault: Fault) -> Option<()> {
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
                "/click" => state.click(query.contains_key("redirect")),
                "/postback" => state.postback(&query, fault)?,
                "/api/v1/conversions" => state.page(&query),
                _ => response("200 OK", "", "{}"),
            }
        };
        writer.write_all(answer.as_bytes()).ok()?;
    }
}

impl State {
    fn click(&mut self, json: bool) -> String {
        self.clicks += 1;
        let id = format!("{:032}Z", self.clicks);
        if json {
            return response("200 OK", "", &format!(r#"{{"click_id":"{id}","url":"x"}}"#));
        }
        response("302 Found", &format!("Location: https://s.example/?subid={id}&src=1\r\n"), "")
    }

    /// `None`: hang up.
    fn postback(&mut self, query: &HashMap<&str, &str>, fault: Fault) -> Option<String> {
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
            Some((id, _)) => ("duplicate", id),
            None => {
                let id = format!("c{}", self.postbacks);
                self.known.insert(txn.clone(), (id.clone(), click.clone()));
                if fault != Fault::Forgets || !odd {
                    self.stored.push((id.clone(), click, txn));
                }
                ("accepted", id)
            }
        };
        let body = format!(r#"{{"result":"{result}","conversion_id":"{id}"}}"#);
        (fault != Fault::HangsUp || !odd).then(|| response("200 OK", "", &body))
    }

    fn page(&self, query: &HashMap<&str, &str>) -> String {
        let number =
            |name: &str| query.get(name).and_then(|text| text.parse::<usize>().ok()).unwrap_or(0);
        let (from, limit) = (number("cursor"), number("limit"));
        let row = |(id, click, txn): &(String, String, String)| serde_json::json!({"conversion_id": id, "click_id": click, "txn_id": txn, "status": "approved", "event": "sale"});
        let items: Vec<_> = self.stored.iter().skip(from).take(limit).map(row).collect();
        let next = (from + limit < self.stored.len()).then(|| (from + limit).to_string());
        response(
            "200 OK",
            "",
            &serde_json::json!({"items": items, "next_cursor": next}).to_string(),
        )
    }
}

fn response(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len())
}
