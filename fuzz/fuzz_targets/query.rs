//! Reads any bytes as a query string, and writes any bytes as a value.
//!
//! Run with `cargo fuzz run query`.

#![no_main]

use std::borrow::Cow;

use libfuzzer_sys::fuzz_target;
use postbackd::model::mask::mask;
use postbackd::query::{BadEncoding, Params, Raw, encode_into, encoded_len};

fuzz_target!(|input: &[u8]| {
    check_walk(input);
    check_component(Raw::new(input));
    check_round_trip(input);
});

/// The walk loses nothing but empty pairs and the `=` of an empty value.
fn check_walk(query: &[u8]) {
    let mut pairs = query
        .split(|&byte| byte == b'&')
        .filter(|pair| !pair.is_empty());
    for param in Params::new(query) {
        let pair = pairs.next().expect("every pair walked was sent");
        let (name, value) = (param.name.as_encoded(), param.value.as_encoded());
        assert!(!name.contains(&b'='));
        if pair.contains(&b'=') {
            assert_eq!(pair, [name, b"=", value].concat());
        } else {
            assert_eq!((pair, &b""[..]), (name, value));
        }
        check_component(param.name);
        check_component(param.value);
    }
    assert_eq!(pairs.next(), None, "every pair sent was walked");
}

/// The three ways to read a component agree.
fn check_component(raw: Raw<'_>) {
    let lossy = raw.decode_lossy();
    let strict = raw.decode();
    assert!(lossy.len() <= raw.as_encoded().len() * char::REPLACEMENT_CHARACTER.len_utf8());
    assert_eq!(raw.is_empty(), lossy.is_empty());
    assert_eq!(raw.is(&lossy), strict.as_ref() == Ok(&lossy));
    if let Some(masked) = mask(&lossy) {
        assert_eq!(mask(&masked), None, "masked once, nothing is left to mask");
    }
    match strict {
        Ok(text) => {
            assert_eq!(text, lossy);
            let is_encoded = raw.as_encoded().iter().any(|byte| b"%+".contains(byte));
            assert_eq!(matches!(text, Cow::Owned(_)), is_encoded);
        }
        Err(BadEncoding::Escape) => assert!(raw.as_encoded().contains(&b'%')),
        Err(BadEncoding::Utf8) => assert!(lossy.contains(char::REPLACEMENT_CHARACTER)),
    }
}

/// What is encoded is harmless in a URL and decodes to the value again.
fn check_round_trip(value: &[u8]) {
    let mut encoded = Vec::new();
    encode_into(value, &mut encoded);
    assert_eq!(encoded.len(), encoded_len(value));
    let is_safe = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~%".contains(byte);
    assert!(encoded.iter().all(is_safe));

    let raw = Raw::new(&encoded);
    let text = str::from_utf8(value).map_err(|_| BadEncoding::Utf8);
    assert_eq!(raw.decode().as_deref(), text.as_ref().copied());
    assert_eq!(raw.decode_lossy(), String::from_utf8_lossy(value));
}
