//! HTTP/1.1 by hand: whatever bytes a test wants to send, and answers taken apart.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

use super::PATIENCE;

/// An answer.
#[derive(Clone, Debug)]
pub struct Response {
    pub status: u16,
    /// Names in lower case, in the order sent.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Response {
    /// The value of a header that may be there once.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(have, _)| have == name);
        let value = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "{name} twice in {self:?}");
        value
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("bodies are UTF-8")
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not JSON: {self:?}"))
    }
}

/// One connection.
pub struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    pub fn open(address: SocketAddr) -> Self {
        Self::try_open(address).expect("the server accepts connections")
    }

    pub fn try_open(address: SocketAddr) -> std::io::Result<Self> {
        Self::of(TcpStream::connect(address)?)
    }

    pub fn of(stream: TcpStream) -> std::io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.stream.get_mut().write_all(bytes.as_ref())
    }

    /// The same connection, to send while another thread receives.
    pub fn try_clone(&self) -> Self {
        let stream = self.stream.get_ref().try_clone().expect("a descriptor");
        Self { stream: BufReader::new(stream) }
    }

    /// Gives a send so long.
    pub fn set_write_timeout(&self, timeout: Duration) {
        self.stream.get_ref().set_write_timeout(Some(timeout)).expect("a timeout");
    }

    /// Says that nothing more will be sent.
    pub fn half_close(&self) {
        // An error means that the server was quicker to close.
        let _ = self.stream.get_ref().shutdown(std::net::Shutdown::Write);
    }

    /// Sends a request without a body and reads the answer.
    pub fn request(
        &mut self,
        method: &str,
        target: &str,
        headers: &str,
    ) -> std::io::Result<Response> {
        self.ask(method, target, headers)?;
        self.receive(method)
    }

    /// Sends a request without a body; [`Self::receive`] reads the answer.
    pub fn ask(&mut self, method: &str, target: &str, headers: &str) -> std::io::Result<()> {
        self.send(format!("{method} {target} HTTP/1.1\r\nHost: t.example\r\n{headers}\r\n"))
    }

    /// Sends a POST with a declared length and reads the answer.
    pub fn post(&mut self, target: &str, kind: &str, body: &[u8]) -> std::io::Result<Response> {
        let kind =
            if kind.is_empty() { String::new() } else { format!("Content-Type: {kind}\r\n") };
        self.send_body("POST", target, &kind, body)
    }

    /// Sends a request with a body of a declared length and reads the answer.
    pub fn send_body(
        &mut self,
        method: &str,
        target: &str,
        headers: &str,
        body: &[u8],
    ) -> std::io::Result<Response> {
        let length = body.len();
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: t.example\r\n{headers}Content-Length: {length}\r\n\r\n",
        );
        self.send([head.as_bytes(), body].concat())?;
        self.receive(method)
    }

    /// Reads one answer; `method` tells whether it has a body.
    pub fn receive(&mut self, method: &str) -> std::io::Result<Response> {
        let status_line = self.line()?;
        let mut words = status_line.split(' ');
        let version = words.next().unwrap_or_default();
        if !version.starts_with("HTTP/1.") {
            return Err(invalid(format!("no status line: {status_line:?}")));
        }
        let status = words.next().and_then(|word| word.parse().ok());
        let status = status.ok_or_else(|| invalid(format!("no status: {status_line:?}")))?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            let (name, value) =
                line.split_once(':').ok_or_else(|| invalid(format!("no header: {line:?}")))?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut response = Response { status, headers, body: Vec::new() };
        if method != "HEAD" && status != 100 {
            match response.header("content-length").map(str::parse::<usize>) {
                Some(length) => {
                    response.body = vec![0; length.map_err(|_| invalid("length".into()))?];
                    self.stream.read_exact(&mut response.body)?;
                }
                None => _ = self.stream.read_to_end(&mut response.body)?,
            }
        }
        Ok(response)
    }

    /// Whether nothing comes for so long.
    pub fn is_silent_for(&mut self, time: Duration) -> bool {
        if !self.stream.buffer().is_empty() {
            return false;
        }
        let stream = self.stream.get_ref();
        stream.set_read_timeout(Some(time)).expect("a timeout");
        let silent =
            stream.peek(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        silent
    }

    fn line(&mut self) -> std::io::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        line.strip_suffix("\r\n").map(str::to_owned).ok_or_else(|| invalid(format!("{line:?}")))
    }

    /// Everything that still comes until the server closes.
    pub fn rest(&mut self) -> std::io::Result<Vec<u8>> {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            // A reset is a close, too; what came before it was read.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => Ok(rest),
            Err(error) => Err(error),
            Ok(_) => Ok(rest),
        }
    }
}

fn invalid(what: String) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidData, what)
}
