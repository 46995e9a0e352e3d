//! The admin API, one blocking request after another: readiness, conversions, metrics.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::answer::{self, Answer};
use crate::books::{Audit, Book, Stored, Verdict};

/// A page of conversions may take a server a moment; longer is an error.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Conversions asked for at once.
const PAGE_ITEMS: usize = 1000;
/// Pages read before the walk is called endless.
const PAGES_MAX: usize = 1_000_000;
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

    /// Walks all conversions and compares them with the books of the run.
    pub fn audit(&self, run_id: &str, books: &[Book]) -> io::Result<Verdict> {
        let mut audit = Audit::new(run_id, books);
        let mut stream = self.connect()?;
        let mut cursor: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let from = cursor
                .as_ref()
                .map_or(String::new(), |cursor| format!("cursor={}&", encoded(cursor)));
            let path = format!("/api/v1/conversions?{from}limit={PAGE_ITEMS}");
            let (status, body) = self.get(&mut stream, &path)?;
            if status != 200 {
                let text = String::from_utf8_lossy(&body).into_owned();
                return Err(io::Error::other(format!("{path} answers {status}: {text}")));
            }
            let page: Page = serde_json::from_slice(&body)?;
            page.items.iter().for_each(|stored| audit.stored(stored));
            match page.next_cursor {
                None => return Ok(audit.finish()),
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
