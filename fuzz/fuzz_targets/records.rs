//! Reads any bytes as each of the store's values; what can be read is written and read again.
//!
//! Run with `cargo fuzz run records`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use postbackd::click_id::RecordId;
use postbackd::store::claim::ClaimSet;
use postbackd::store::keys;
use postbackd::store::postings::{Balances, postings};
use postbackd::store::records::{
    AuditRecord, Binding, CapsRecord, ChangeRecord, ClickRecord, ConversionRecord, PostingRecord, RatesRecord,
    SealRecord, decode_dedupe, dedupe_minted_ms, encode_dedupe,
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
        let (id, mut balances) = (RecordId::from_bytes(record.click), Balances::default());
        postings(id, &record).for_each(|posting| balances.add(&posting.record));
        let _ = (record.earned_in(*b"USD"), balances.total(*b"USD"));
    }
    again.clear();
    if let Ok(record) = RatesRecord::decode(input) {
        record.encode(&mut again);
        assert_eq!(RatesRecord::decode(&again), Ok(record));
    }
    again.clear();
    if let Ok(record) = AuditRecord::decode(input) {
        record.encode(&mut again);
        assert_eq!(AuditRecord::decode(&again), Ok(record));
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
    again.clear();
    if let Ok(record) = PostingRecord::decode(input) {
        record.encode(&mut again);
        assert_eq!(PostingRecord::decode(&again), Ok(record));
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
    let _ = keys::owned_offer(input);
    let _ = (keys::rates_day(input), keys::PostingKey::decode(input), keys::seal_of(input));
});
