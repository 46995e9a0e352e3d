//! Reads any bytes as each of the store's values; what can be read is written and read again.
//!
//! Run with `cargo fuzz run records`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use postbackd::store::claim::ClaimSet;
use postbackd::store::keys;
use postbackd::store::records::{
    Binding, CapsRecord, ChangeRecord, ClickRecord, ConversionRecord, POSTING_VALUE_BYTES_MAX,
    PostingRecord, RatesRecord, SealRecord, decode_dedupe, dedupe_minted_ms, encode_dedupe,
};

fuzz_target!(|input: &[u8]| {
    let mut again = Vec::new();
    if let Ok(record) = ClickRecord::decode(input) {
        record.encode(&mut again);
        assert_eq!(ClickRecord::decode(&again), Ok(record));
    }
    again.clear();
    if let Ok(record) = ConversionRecord::decode(input) {
        record.encode(&mut again);
        assert_eq!(ConversionRecord::decode(&again).as_ref(), Ok(&record));
        let _ = (record.status(), record.flags().count(), ClaimSet::of_record(&record).bits(true));
    }
    again.clear();
    if let Ok(record) = RatesRecord::decode(input) {
        record.encode(&mut again);
        assert_eq!(RatesRecord::decode(&again), Ok(record));
    }
    again.clear();
    if let Ok(record) = SealRecord::decode(input) {
        record.encode(&mut again);
        assert_eq!(SealRecord::decode(&again), Ok(record));
    }
    again.clear();
    if let Ok(record) = CapsRecord::decode(input) {
        record.encode(&mut again);
        assert_eq!(CapsRecord::decode(&again), Ok(record));
    }
    again.clear();
    // Those of an older version are written as of this one.
    if let Ok(record) = ChangeRecord::decode(input) {
        record.encode(&mut again);
        assert_eq!(ChangeRecord::decode(&again), Ok(record));
    }
    if let Ok(record) = PostingRecord::decode(input) {
        let mut value = [0; POSTING_VALUE_BYTES_MAX];
        // Amounts that no conversion can cause may be too long to be written.
        if let Ok(len) = record.encode(&mut value) {
            assert_eq!(PostingRecord::decode(&value[..len]), Ok(record));
        }
    }
    again.clear();
    if let Ok(conversion) = decode_dedupe(input) {
        assert_eq!(encode_dedupe(conversion), input);
        assert_eq!(dedupe_minted_ms(input), Some(conversion.time_ms()));
    }
    if let Ok(binding) = Binding::decode(input) {
        assert_eq!(binding.encode(), input);
    }
    let _ = keys::customer_and_conversion(input);
    let _ = (keys::record(input), keys::conversion_of(input), keys::numbered_id(input));
    let _ = (keys::rates_day(input), keys::PostingKey::decode(input), keys::seal_of(input));
});
