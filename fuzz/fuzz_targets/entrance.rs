//! Reads any bytes as the PROXY header of a connection, whole and in pieces, and as a certificate.
//!
//! Run with `cargo fuzz run entrance`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use postbackd::http::proxy_protocol::{Parsed, parse};
use postbackd::limits::PROXY_HEADER_BYTES_MAX;
use postbackd::tls::validity::validity;

fuzz_target!(|input: &[u8]| {
    let _ = validity(input);
    let whole = parse(input);
    match whole {
        Ok(Parsed::Complete { bytes, .. }) => {
            assert!(bytes <= input.len() && bytes <= PROXY_HEADER_BYTES_MAX);
            // What follows does not count, and no part of it is enough.
            assert_eq!(parse(&input[..bytes]), whole);
            assert_eq!(parse(&input[..bytes - 1]), Ok(Parsed::Incomplete));
        }
        Ok(Parsed::Incomplete) => assert!(input.len() < PROXY_HEADER_BYTES_MAX),
        // Once wrong, always wrong.
        Err(_) => assert!(parse(&[input, b"\r\n"].concat()).is_err()),
    }
});
