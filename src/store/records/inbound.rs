//! Postbacks as received. Many of them are one row of the table, a page: version, then for each its
//! length (2 bytes), flags (1), a head in postcard, and its parameters as a query string.

use serde::{Deserialize, Serialize};

use super::{RecordError, StoredIp, unknown};
use crate::model::reasons::{AuthCheck, AuthOutcome, AuthResult, PostbackResult};

/// The version of a page.
const INBOUND_VERSION: u8 = 1;
/// Length and flags.
const PREFIX_BYTES: usize = 3;

/// What a request brought beside its URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InboundForm {
    /// GET.
    Get,
    /// POST without a body.
    Post,
    /// POST of a form.
    Form,
    /// POST of JSON.
    Json,
    /// Another method.
    Other,
}

impl InboundForm {
    const ALL: [Self; 5] = [Self::Get, Self::Post, Self::Form, Self::Json, Self::Other];

    /// The number in a record.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The form with this number.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }
}

/// What is kept of a postback beside its parameters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InboundHead<'a> {
    /// When it was answered as it was: its receipt; of one that was run again, the second time.
    /// Unix milliseconds.
    pub time_ms: u64,
    /// [`PostbackResult`], by its place.
    pub result: u8,
    /// [`InboundForm::code`].
    pub form: u8,
    /// What came of each check of its sender, [`pack_auth`].
    pub auth: u8,
    /// Where it came from.
    pub ip: StoredIp,
    /// The catalog in force.
    pub catalog_version: u64,
    /// The conversion it made, changed or repeated.
    pub conversion: Option<[u8; 16]>,
    /// The click it names, if that is genuine.
    pub click: Option<[u8; 16]>,
    /// Where it was sent.
    pub path: &'a str,
    /// The advertiser that it spoke for; empty if that is not known.
    pub advertiser: &'a str,
    /// Why it was refused; else empty.
    pub reason: &'a str,
}

impl InboundHead<'_> {
    /// The result as a word; `None` if a newer release wrote it.
    #[must_use]
    pub fn result(&self) -> Option<PostbackResult> {
        PostbackResult::ALL.get(usize::from(self.result)).copied()
    }
}

/// What is missing of a postback's parameters, as bits.
pub mod inbound_flags {
    /// Personal data was masked.
    pub const MASKED: u8 = 1;
    /// Too long: the end is missing.
    pub const CUT: u8 = 2;
    /// It was not well encoded.
    pub const GARBLED: u8 = 4;
    /// It is one of the log that was run again.
    pub const AGAIN: u8 = 8;
    /// Erased: parameters, path and address were removed.
    pub const ERASED: u8 = 16;
}

/// A postback in a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InboundRow<'a> {
    /// Beside its parameters.
    pub head: InboundHead<'a>,
    /// Bits of [`inbound_flags`].
    pub flags: u8,
    /// Its parameters as a query string, those of the body after those of the URL.
    pub text: &'a str,
}

/// Begins a page's value.
pub fn begin_inbound_page(out: &mut Vec<u8>) {
    out.push(INBOUND_VERSION);
}

/// Appends a row. `text` appends its parameters and returns flags.
pub fn encode_inbound(
    head: &InboundHead<'_>,
    text: impl FnOnce(&mut Vec<u8>) -> u8,
    out: &mut Vec<u8>,
) {
    let start = out.len();
    out.extend_from_slice(&[0; PREFIX_BYTES]);
    *out = postcard::to_extend(head, std::mem::take(out))
        .expect("a head holds no type that postcard cannot write, and a Vec grows");
    let flags = text(out);
    let length = u16::try_from(out.len() - start - PREFIX_BYTES).expect("limits.rs bounds a row");
    out[start..start + 2].copy_from_slice(&length.to_be_bytes());
    out[start + 2] = flags;
}

/// Reads the rows of a page; texts borrow from `bytes`.
///
/// # Errors
/// When the version is unknown or the bytes do not decode.
pub fn decode_inbound_page(bytes: &[u8]) -> Result<Vec<InboundRow<'_>>, RecordError> {
    let mut rest = match bytes.split_first() {
        Some((&INBOUND_VERSION, rest)) => rest,
        other => return Err(unknown(other)),
    };
    let mut rows = Vec::new();
    while !rest.is_empty() {
        let (row, after) = decode_row(rest).ok_or(RecordError::Corrupt)?;
        rows.push(row);
        rest = after;
    }
    Ok(rows)
}

fn decode_row(bytes: &[u8]) -> Option<(InboundRow<'_>, &[u8])> {
    let (prefix, rest) = bytes.split_first_chunk::<PREFIX_BYTES>()?;
    let length = u16::from_be_bytes([prefix[0], prefix[1]]);
    let (row, after) = rest.split_at_checked(usize::from(length))?;
    let (head, text) = postcard::take_from_bytes(row).ok()?;
    let text = std::str::from_utf8(text).ok()?;
    Some((InboundRow { head, flags: prefix[2], text }, after))
}

/// What came of the checks of a sender, two bits each.
#[must_use]
pub fn pack_auth(outcome: AuthOutcome) -> u8 {
    let bits = |result: Option<AuthResult>| match result {
        None => 0,
        Some(AuthResult::Passed) => 1,
        Some(AuthResult::Shadowed) => 2,
        Some(AuthResult::Refused) => 3,
    };
    outcome.iter().rev().fold(0, |packed, result| packed << 2 | bits(*result))
}

/// The reverse of [`pack_auth`].
#[must_use]
pub fn unpack_auth(packed: u8) -> AuthOutcome {
    let mut outcome = AuthOutcome::default();
    for (check, result) in (0..AuthCheck::ALL.len()).zip(&mut outcome) {
        *result = match packed >> (2 * check) & 3 {
            1 => Some(AuthResult::Passed),
            2 => Some(AuthResult::Shadowed),
            3 => Some(AuthResult::Refused),
            _ => None,
        };
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_as_they_were_written() {
        let head = InboundHead {
            time_ms: 1_767_225_600_123,
            result: 3,
            path: "/postback/acme",
            advertiser: "acme",
            reason: "unknown_event",
            click: Some([7; 16]),
            ..InboundHead::default()
        };
        let mut page = Vec::new();
        begin_inbound_page(&mut page);
        for text in ["", "a=1&b=2"] {
            let write = |out: &mut Vec<u8>| {
                out.extend_from_slice(text.as_bytes());
                inbound_flags::CUT
            };
            encode_inbound(&head, write, &mut page);
        }
        let rows = decode_inbound_page(&page).expect("decodes");
        let row = |text| InboundRow { head, flags: inbound_flags::CUT, text };
        assert_eq!(rows, [row(""), row("a=1&b=2")]);
        assert_eq!(rows[0].head.result(), Some(PostbackResult::Refused));
        for end in 2..page.len() {
            // A page that ends with its first row is whole, too.
            let is_whole = decode_inbound_page(&page[..end]).is_ok_and(|rows| rows.len() == 1);
            assert_eq!(decode_inbound_page(&page[..end]).is_ok(), is_whole, "cut at {end}");
        }
    }

    #[test]
    fn checks_of_a_sender_are_told_apart() {
        let all =
            [None, Some(AuthResult::Passed), Some(AuthResult::Shadowed), Some(AuthResult::Refused)];
        for (n, first) in all.iter().enumerate() {
            let outcome = [*first, all[(n + 1) % 4], all[(n + 2) % 4]];
            assert_eq!(unpack_auth(pack_auth(outcome)), outcome);
        }
    }
}
