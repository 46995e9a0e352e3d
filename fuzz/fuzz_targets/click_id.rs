//! Reads any bytes as a click ID and as a conversion ID, and prints any bytes as either.
//!
//! Run with `cargo fuzz run click_id`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use postbackd::click_id::{CLICK_ID_CHARS, ClickIdError, Keyring, RecordId};

fuzz_target!(|input: &[u8]| {
    let keyring = Keyring::new([7; 32], vec![[8; 32]]);
    match keyring.verify(input) {
        // Nobody guesses 64 bits of a MAC.
        Ok(id) => assert_eq!(id.to_text().as_str().as_bytes(), input),
        Err(ClickIdError::Length(chars)) => assert_ne!(chars, CLICK_ID_CHARS),
        Err(ClickIdError::Malformed | ClickIdError::Forged) => {
            assert_eq!(input.len(), CLICK_ID_CHARS);
        }
    }
    if let Some(id) = RecordId::parse(input) {
        assert_eq!(id.to_text().as_str().as_bytes(), input, "one number has one text");
    }
    if let Some(bytes) = input.first_chunk::<16>() {
        check_round_trip(&keyring, RecordId::from_bytes(*bytes));
    }
});

/// What is printed is read as the same again, if this version could have minted it.
fn check_round_trip(keyring: &Keyring, record: RecordId) {
    assert_eq!(RecordId::parse(record.to_text().as_str().as_bytes()), Some(record));
    let signed = keyring.sign(record);
    let version = record.as_bytes()[6] >> 6;
    let expected = if version == 0 { Ok(signed) } else { Err(ClickIdError::Malformed) };
    assert_eq!(keyring.verify(signed.to_text().as_str().as_bytes()), expected);
}
