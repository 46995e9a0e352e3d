// Hot path: no allocation, no copy.
//! The response parser: just enough HTTP/1.1 for a server that announces every body's length.

use memchr::{memchr, memmem};
use thiserror::Error;

/// Longest head accepted; the servers under test send a few hundred bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Longest body accepted: a page of a thousand conversions is the largest.
pub const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Why bytes are not an answer this client can read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AnswerError {
    /// The first line is not `HTTP/1.1 NNN …`.
    #[error("not an HTTP/1.1 status line")]
    StatusLine,
    /// Chunked or otherwise coded; its end could not be found cheaply.
    #[error("transfer-encoding is not supported")]
    TransferEncoding,
    /// Neither a length nor a status that means none.
    #[error("no content-length")]
    NoLength,
    /// A length that is not a number, or more than is read.
    #[error("bad content-length")]
    BadLength,
    /// No end of the head within the limit.
    #[error("head too long")]
    HeadTooLong,
}

/// Where the parts of one complete answer lie in the bytes read so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    pub status: u16,
    pub head_bytes: usize,
    pub body_bytes: usize,
    pub keep_alive: bool,
}

impl Frame {
    /// Bytes of the whole answer.
    pub const fn total(&self) -> usize {
        self.head_bytes + self.body_bytes
    }
}

/// One answer, borrowed from the connection's buffer.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    pub status: u16,
    pub head: &'a [u8],
    pub body: &'a [u8],
}

impl<'a> Answer<'a> {
    /// The answer that `frame` found at the start of `bytes`.
    pub fn of(frame: &Frame, bytes: &'a [u8]) -> Self {
        let (head, rest) = bytes.split_at(frame.head_bytes);
        Self { status: frame.status, head, body: &rest[..frame.body_bytes] }
    }

    /// The string member `"name":"…"` of a flat JSON body; `pattern` is `"name":"`, quotes
    /// included. Values with escapes are cut at the first quote; the ones asked for have none.
    pub fn json_text(&self, pattern: &[u8]) -> Option<&'a [u8]> {
        let start = memmem::find(self.body, pattern)? + pattern.len();
        let rest = &self.body[start..];
        Some(&rest[..memchr(b'"', rest)?])
    }

    /// The value of the header `name`, given in lower case.
    pub fn header(&self, name: &[u8]) -> Option<&'a [u8]> {
        lines(self.head).skip(1).find_map(|line| field(line, name))
    }
}

/// Finds one complete answer at the start of `bytes`; `None` if more has to be read.
pub fn parse(bytes: &[u8]) -> Result<Option<Frame>, AnswerError> {
    let Some(end) = memmem::find(bytes, b"\r\n\r\n") else {
        let too_long = bytes.len() > HEAD_BYTES_MAX;
        return if too_long { Err(AnswerError::HeadTooLong) } else { Ok(None) };
    };
    let head = &bytes[..end + 2];
    let frame = parse_head(head, end + 4)?;
    Ok((bytes.len() >= frame.total()).then_some(frame))
}

fn parse_head(head: &[u8], head_bytes: usize) -> Result<Frame, AnswerError> {
    let status = parse_status(head)?;
    let mut length = None;
    let mut keep_alive = true;
    for line in lines(head).skip(1) {
        // Only these three names matter; their first letters sort out nearly every other line.
        match line.first() {
            Some(b'c' | b'C') => {
                if let Some(value) = field(line, b"content-length") {
                    length = Some(parse_length(value)?);
                } else if let Some(value) = field(line, b"connection") {
                    keep_alive = !value.eq_ignore_ascii_case(b"close");
                }
            }
            Some(b't' | b'T') if field(line, b"transfer-encoding").is_some() => {
                return Err(AnswerError::TransferEncoding);
            }
            _ => {}
        }
    }
    let body_bytes = match (status, length) {
        (204 | 304, _) => 0,
        (_, Some(length)) => length,
        (_, None) => return Err(AnswerError::NoLength),
    };
    Ok(Frame { status, head_bytes, body_bytes, keep_alive })
}

fn parse_status(head: &[u8]) -> Result<u16, AnswerError> {
    match head {
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'1', b' ', a, b, c, b' ' | b'\r', ..]
            if [a, b, c].iter().all(|d| d.is_ascii_digit()) && *a >= b'2' =>
        {
            let digit = |d: &u8| u16::from(d - b'0');
            Ok(digit(a) * 100 + digit(b) * 10 + digit(c))
        }
        _ => Err(AnswerError::StatusLine),
    }
}

fn parse_length(value: &[u8]) -> Result<usize, AnswerError> {
    let text = std::str::from_utf8(value).map_err(|_| AnswerError::BadLength)?;
    let length = text.parse().map_err(|_| AnswerError::BadLength)?;
    if length > BODY_BYTES_MAX { Err(AnswerError::BadLength) } else { Ok(length) }
}

/// The lines of a head, without their `\r\n`.
fn lines(mut head: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let end = memchr(b'\n', head)?;
        let line = &head[..end];
        head = &head[end + 1..];
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    })
}

/// The trimmed value of `line` if its name is `name` (lower case), in any case.
fn field<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (own, rest) = line.split_at_checked(name.len())?;
    let value = rest.strip_prefix(b":")?;
    own.eq_ignore_ascii_case(name).then(|| value.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], expected: Result<Option<(u16, usize, bool)>, AnswerError>) {
        let got = parse(bytes).map(|f| f.map(|f| (f.status, f.body_bytes, f.keep_alive)));
        assert_eq!(got, expected, "{}", String::from_utf8_lossy(bytes));
    }

    #[test]
    fn an_answer_is_status_length_and_whether_the_connection_lives() {
        check(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi", Ok(Some((200, 2, true))));
        check(b"HTTP/1.1 302 Found\r\nCONTENT-Length:0\r\n\r\n", Ok(Some((302, 0, true))));
        check(
            b"HTTP/1.1 503 X\r\nConnection: Close\r\nContent-Length: 1\r\n\r\nx and the next",
            Ok(Some((503, 1, false))),
        );
        check(b"HTTP/1.1 204 No Content\r\n\r\n", Ok(Some((204, 0, true))));
    }

    #[test]
    fn what_cannot_be_read_is_an_error_and_never_a_guess() {
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
        check(chunked, Err(AnswerError::TransferEncoding));
        check(b"HTTP/1.1 200 OK\r\n\r\n", Err(AnswerError::NoLength));
        check(b"HTTP/1.1 200 OK\r\ncontent-length: ten\r\n\r\n", Err(AnswerError::BadLength));
        check(b"HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\n", Err(AnswerError::BadLength));
        check(b"HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n", Err(AnswerError::StatusLine));
        check(b"HTTP/1.1 2x0 OK\r\ncontent-length: 0\r\n\r\n", Err(AnswerError::StatusLine));
        check(&[b'a'; HEAD_BYTES_MAX + 1], Err(AnswerError::HeadTooLong));
    }

    #[test]
    fn an_answer_split_anywhere_is_whole_only_with_its_last_byte() {
        let whole = b"HTTP/1.1 200 OK\r\nx-a: b\r\ncontent-length: 11\r\n\r\nhello world";
        for cut in 0..whole.len() {
            check(&whole[..cut], Ok(None));
        }
        check(whole, Ok(Some((200, 11, true))));
    }

    #[test]
    fn headers_and_json_members_are_found_by_name() {
        let bytes = b"HTTP/1.1 302 F\r\nLocation: /a?b=c\r\ncontent-length: 17\r\n\r\n{\"result\":\"good\"}";
        let frame = parse(bytes).expect("an answer").expect("complete");
        let answer = Answer::of(&frame, bytes);
        assert_eq!(answer.header(b"location"), Some(&b"/a?b=c"[..]));
        assert_eq!(answer.header(b"locatio"), None);
        assert_eq!(answer.json_text(b"\"result\":\""), Some(&b"good"[..]));
        assert_eq!(answer.json_text(b"\"reason\":\""), None);
    }
}
