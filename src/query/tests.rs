//! Promises that hold for every input, checked against `form_urlencoded` as the reference.

use std::borrow::Cow;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::{BadEncoding, Params, Raw, encode_into, encoded_len};

/// Any bytes, or bytes thick with what has a meaning here: uniform ones would rarely meet it.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let meaningful = select(b"%%%%&&==++;04fFgAcC3\xc3\xbc\xff\r\0 a".to_vec());
    prop_oneof![vec(any::<u8>(), 0..64), vec(meaningful, 0..64)]
}

fn encode(value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode_into(value, &mut out);
    out
}

/// The reference has no strict form, so strictness is spelled out: what it may not meet.
fn has_malformed_escape(encoded: &[u8]) -> bool {
    encoded
        .split(|&byte| byte == b'%')
        .skip(1)
        .any(|after| !after.iter().take(2).all(u8::is_ascii_hexdigit) || after.len() < 2)
}

/// The reference's lossy reading of one component, which must hold no separator.
fn reference(component: &[u8]) -> String {
    let pair = [b"=", component].concat();
    form_urlencoded::parse(&pair).map(|(_, value)| value.into_owned()).collect()
}

fn is_inside(outer: &[u8], inner: &[u8]) -> bool {
    outer.as_ptr_range().start <= inner.as_ptr_range().start
        && inner.as_ptr_range().end <= outer.as_ptr_range().end
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn lossy_reading_agrees_with_the_reference_on_every_byte_string(query in bytes()) {
        let ours: Vec<_> = Params::new(&query)
            .map(|param| (param.name.decode_lossy(), param.value.decode_lossy()))
            .collect();
        let reference: Vec<_> = form_urlencoded::parse(&query).collect();
        prop_assert_eq!(ours, reference);
    }

    /// Where we differ from the reference on purpose: it repairs, strict reading refuses.
    #[test]
    fn strict_reading_is_the_reference_or_an_error(query in bytes()) {
        for raw in Params::new(&query).flat_map(|param| [param.name, param.value]) {
            let encoded = raw.as_encoded();
            let lossy = reference(encoded);
            match raw.decode() {
                Ok(text) => {
                    prop_assert!(!has_malformed_escape(encoded));
                    prop_assert_eq!(text, lossy);
                }
                Err(BadEncoding::Escape) => prop_assert!(has_malformed_escape(encoded)),
                Err(BadEncoding::Utf8) => {
                    prop_assert!(!has_malformed_escape(encoded));
                    prop_assert!(lossy.contains(char::REPLACEMENT_CHARACTER));
                }
            }
        }
    }

    #[test]
    fn any_component_is_read_without_a_panic(encoded in bytes()) {
        let raw = Raw::new(&encoded);
        let lossy = raw.decode_lossy();
        if let Ok(strict) = raw.decode() {
            prop_assert_eq!(strict, lossy);
        }
    }

    #[test]
    fn a_component_is_a_name_only_if_it_decodes_to_it(encoded in bytes(), other in ".{0,4}") {
        let raw = Raw::new(&encoded);
        for name in [raw.decode_lossy().as_ref(), &other, ""] {
            prop_assert_eq!(raw.is(name), raw.decode().as_deref() == Ok(name), "{:?}", name);
        }
    }

    #[test]
    fn nothing_is_copied_where_nothing_is_encoded(query in bytes()) {
        for raw in Params::new(&query).flat_map(|param| [param.name, param.value]) {
            prop_assert!(raw.is_empty() || is_inside(&query, raw.as_encoded()));
            let is_encoded = raw.as_encoded().iter().any(|byte| b"%+".contains(byte));
            if let Ok(text) = raw.decode() {
                prop_assert_eq!(matches!(text, Cow::Owned(_)), is_encoded);
                let lossy = raw.decode_lossy();
                prop_assert_eq!(matches!(lossy, Cow::Owned(_)), is_encoded);
            }
        }
    }

    #[test]
    fn the_size_hint_is_never_too_small(query in bytes()) {
        let (_, most) = Params::new(&query).size_hint();
        prop_assert!(Params::new(&query).count() <= most.unwrap());
    }

    #[test]
    fn what_is_encoded_decodes_to_itself(value in any::<String>()) {
        let encoded = encode(value.as_bytes());
        let raw = Raw::new(&encoded);
        prop_assert_eq!(raw.decode(), Ok(Cow::Borrowed(value.as_str())));
        prop_assert!(raw.is(&value));
    }

    #[test]
    fn encoded_output_is_unreserved_characters_and_escapes_only(value in bytes()) {
        let encoded = encode(&value);
        prop_assert_eq!(encoded.len(), encoded_len(&value));
        prop_assert!(!has_malformed_escape(&encoded));
        let safe = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~%".contains(byte);
        prop_assert!(encoded.iter().all(safe));
    }

    #[test]
    fn encoded_pairs_survive_the_walk(pairs in vec((".{0,8}", ".{0,8}"), 0..8)) {
        let query = pairs.iter().map(|(name, value)| {
            [&encode(name.as_bytes()), &b"="[..], &encode(value.as_bytes())].concat()
        });
        let query = query.collect::<Vec<_>>().join(&b'&');
        let walked: Result<Vec<_>, _> = Params::new(&query)
            .map(|param| Ok((param.name.decode()?.into_owned(), param.value.decode()?.into_owned())))
            .collect();
        prop_assert_eq!(walked, Ok::<_, BadEncoding>(pairs));
    }
}
