//! Parameters of a query string or a form body: reading them in place, writing them out.
//!
//! [`Params`] walks the pairs, [`Raw`] is one name or value still as sent, [`encode_into`] goes
//! the other way. This is a pure codec: no clock, no randomness, no I/O, and no input panics.
//!
//! Every case is defined:
//!
//! | input | reading |
//! |---|---|
//! | `a=1&b=2` | `&` separates pairs; `;` is an ordinary byte |
//! | `a=1=2` | the first `=` splits: `a` is `1=2` |
//! | `a`, `a=` | the value is empty |
//! | `=1` | the name is empty |
//! | `&&a=1&` | empty pairs are skipped |
//! | `a+b` | `+` is a space |
//! | `%c3%BC` | an escape is `%` and two hex digits of either case: `ü` |
//! | `%`, `%4`, `%zz` | not an escape: [`BadEncoding::Escape`] when strict, kept as it stands when lossy |
//! | `%ff` | not UTF-8: [`BadEncoding::Utf8`] when strict, U+FFFD when lossy |
//! | `%00`, `%0d%0a` | decoded like any other byte; whoever uses the value decides |
//!
//! Decoding happens once: `%2526` is `%26`. Names are compared decoded and case-sensitively. What
//! a repeated name means is for the caller; the walker reports every pair, in order.
//!
//! Strict is for postbacks, where a garbled value must not become money; lossy is for clicks,
//! where the visitor goes on whatever was sent. Lossy agrees with the WHATWG URL standard's
//! `application/x-www-form-urlencoded` parser on every byte string.

mod encode;
mod raw;
mod walker;

#[cfg(test)]
mod tests;

pub use encode::{encode_into, encoded_len};
pub use raw::{BadEncoding, Raw};
pub use walker::{Param, Params};
