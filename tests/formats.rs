//! The bytes on disk: those of every released version are read for ever, those of this version
//! are written as they were, and no bytes at all make the reader panic.

use postbackd::click_id::RecordId;
use postbackd::model::reasons::{AuthResult, Flag};
use postbackd::model::status::Status;
use postbackd::store::claim::ClaimSet;
use postbackd::store::records::{
    AuditRecord, Balance, Binding, CapSum, CapsRecord, CatalogRecord, ChangeRecord, ClickRecord,
    Contribution, ConversionRecord, Converted, Counted, Counts, Deferred, EarnedInBase, Entries,
    ErasedTexts, ErasureRecord, EventCounts, Exchanged, FallbackCounts, HistoryEntry, InBase,
    InboundHead, InboundRow, LateClickRecord, PlaceRecord, PostingRecord, RatesRecord, RecordError,
    RefusedCounts, RefusedRecord, SealRecord, StoredIp, SubRecord, Tally, begin_inbound_page,
    click_flags, click_of, decode_dedupe, decode_inbound_page, dedupe_minted_ms, encode_dedupe,
    encode_inbound, has_base_booked, pack_auth,
};
use proptest::prelude::*;

const CLICK_V1: &str = include_str!("fixtures/click.v1.hex");
const CLICK_V2: &str = include_str!("fixtures/click.v2.hex");
const CLICK_V3: &str = include_str!("fixtures/click.v3.hex");
const CONVERSION_V1: &str = include_str!("fixtures/conversion.v1.hex");
const CONVERSION_V2: &str = include_str!("fixtures/conversion.v2.hex");
const CONVERSION_V3: &str = include_str!("fixtures/conversion.v3.hex");
const CONVERSION_V4: &str = include_str!("fixtures/conversion.v4.hex");
const CONVERSION_V4_OWN: &str = include_str!("fixtures/conversion.v4-own.hex");
const CONVERSION_V5: &str = include_str!("fixtures/conversion.v5.hex");
const CONVERSION_V6: &str = include_str!("fixtures/conversion.v6.hex");
const RATES_V1: &str = include_str!("fixtures/rates.v1.hex");
const DEDUPE_V1: &str = include_str!("fixtures/dedupe.v1.hex");
const POSTING_V1: &str = include_str!("fixtures/posting.v1.hex");
const POSTING_V2: &str = include_str!("fixtures/posting.v2.hex");
const COUNTERS_V1: &str = include_str!("fixtures/counters.v1.hex");
const COUNTERS_V2: &str = include_str!("fixtures/counters.v2.hex");
const INBOUND_V1: &str = include_str!("fixtures/inbound.v1.hex");
const SEAL_V1: &str = include_str!("fixtures/seal.v1.hex");
const SEAL_V2: &str = include_str!("fixtures/seal.v2.hex");
const AUDIT_V1: &str = include_str!("fixtures/audit.v1.hex");
const CATALOG_V1: &str = include_str!("fixtures/catalog.v1.hex");
const ERASURE_V1: &str = include_str!("fixtures/erasure.v1.hex");
const BINDING_V1: &str = include_str!("fixtures/binding.v1.hex");

/// The bytes of a fixture: hex digits, lines as the eye likes them.
fn bytes(fixture: &str) -> Vec<u8> {
    let digits: Vec<u8> = fixture.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    digits.chunks(2).map(|pair| byte(pair).expect("hex digits")).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn click_v1() -> ClickRecord<'static> {
    ClickRecord {
        subs: ["spring-mail", "", "", "", "", "", "", "", "", "é"],
        passed: vec![("gclid", "Cj0K"), ("fbclid", "")],
        ip: StoredIp::V4([203, 0, 113, 0]),
        user_agent: "Mozilla/5.0",
        referrer: "https://blog.example/",
        gdpr: "1",
        gdpr_consent: "CPx",
        us_privacy: "1YNN",
        fallback: "",
        country: None,
        flags: 0,
    }
}

/// As version 1, with a country.
fn click_v2() -> ClickRecord<'static> {
    ClickRecord { country: Some(*b"DE"), ..click_v1() }
}

/// As version 2, with flags.
fn click_v3() -> ClickRecord<'static> {
    let flags = Flag::ClickFlood.bit() | Flag::BotUserAgent.bit();
    ClickRecord { flags, ..click_v2() }
}

fn conversion_v1() -> ConversionRecord<'static> {
    ConversionRecord {
        click: *b"0123456789abcdef",
        click_mac: *b"MACMACMA",
        advertiser: "acme",
        offer: "spring",
        affiliate: "pub-7",
        event: "sale",
        txn_id: "T-1",
        customer_id: "",
        status: Status::Approved.code(),
        amount: Some(99_990_000),
        amount_currency: Some(*b"EUR"),
        revenue: 20_000_000,
        payout: -15_000_000,
        currency: *b"USD",
        quantity: Some(3),
        flags: 5,
        event_time_ms: 1_767_225_600_000,
        received_ms: 1_767_225_600_123,
        catalog_version: 0xFEDC_BA98_7654_3210,
        params: vec![("color", "red")],
        history: vec![HistoryEntry {
            status: Status::Approved.code(),
            time_ms: 1_767_225_600_123,
            event_time_ms: 1_767_225_600_123,
            booked_revenue: 20_000_000,
            booked_payout: -15_000_000,
            booked_base: None,
            reason: "postback",
        }],
        claims: 0,
        exchanged: None,
        reversed_amount: 0,
        erased: None,
        deferred: Vec::new(),
    }
}

fn catalog_v1() -> CatalogRecord {
    CatalogRecord {
        version: 0x0123_4567_89AB_CDEF,
        applied_ms: 1_767_225_600_123,
        source: 2,
        format: 1,
        text_bytes: 50_000_000,
        advertisers: 2,
        offers: 100_000,
        affiliates: 1_000_000,
        links: 0,
    }
}

/// As version 1, with claims, and exchanged.
fn conversion_v2() -> ConversionRecord<'static> {
    let exchanged = Exchanged {
        amounts: Some((920_000_000, 1_000_000_000)),
        own_payout: Some(-13_800_000),
        own_revenue: None,
        base: Some(InBase {
            currency: *b"JPY",
            rate: (1_000_000_000, 149_530_000_000),
            revenue: 2_990_600_000,
            payout: -2_242_950_000,
        }),
    };
    ConversionRecord { claims: 5, exchanged: Some(Box::new(exchanged)), ..conversion_v1() }
}

/// As version 2, taken back in part.
fn conversion_v3() -> ConversionRecord<'static> {
    ConversionRecord { reversed_amount: 25_000_000, ..conversion_v2() }
}

/// As version 3, with what is booked in the network's currency.
fn conversion_v4() -> ConversionRecord<'static> {
    let mut record = conversion_v3();
    record.history[0].booked_base =
        Some(EarnedInBase { currency: *b"JPY", revenue: 2_990_600_000, payout: -2_242_950_000 });
    record
}

fn rates_v1() -> RatesRecord {
    RatesRecord { base: *b"USD", rates: vec![(*b"EUR", 920_000_000), (*b"JPY", 149_530_000_000)] }
}

fn counts_v1() -> Counts<'static> {
    let tally = |conversions, revenue, payout| Tally { conversions, revenue, payout };
    Counts {
        clicks: 300,
        fallbacks: vec![FallbackCounts { reason: "paused_offer".into(), clicks: 2 }],
        events: vec![EventCounts {
            event: "sale".into(),
            currency: *b"USD",
            negative: 1,
            by_status: [
                tally(1, 20_000_000, 15_000_000),
                tally(2, i128::from(i64::MAX) * 2, -1),
                Tally::default(),
                tally(0, 0, 0),
            ],
        }],
    }
}

fn contribution_v1(standing: u8) -> Contribution<'static> {
    Contribution {
        event: "sale".into(),
        currency: *b"USD",
        standing,
        revenue: 20_000_000,
        payout: 15_000_000,
        in_caps: None,
    }
}

/// Every kind of row of `counters` that is still of its first version, one after the other, with
/// its place in the fixture.
fn counters_v1() -> Vec<(usize, Vec<u8>)> {
    let late = LateClickRecord { fallback: "", sub1: "spring-mail" };
    let refused = vec![RefusedCounts { reason: "forged_click_id", postbacks: 1000 }];
    vec![
        (0, encoded(|out| PlaceRecord { subs: 3, counts: counts_v1() }.encode(out))),
        (1, encoded(|out| SubRecord { counts: counts_v1() }.encode(out))),
        (4, encoded(|out| late.encode(out))),
        (5, encoded(|out| RefusedRecord { refused }.encode(out))),
    ]
}

/// As version 1, with what caps count.
fn contribution_v2(standing: u8, in_caps: Option<i64>) -> Contribution<'static> {
    Contribution { in_caps, ..contribution_v1(standing) }
}

fn changes_v2() -> [ChangeRecord<'static>; 2] {
    let change = ChangeRecord {
        click: *b"0123456789abcdef",
        before: Some(contribution_v2(1, Some(15_000_000))),
        after: contribution_v2(2, Some(-1)),
    };
    let fresh = ChangeRecord { before: None, after: contribution_v2(0, None), ..change.clone() };
    [change, fresh]
}

fn caps_v1() -> CapsRecord<'static> {
    let sum =
        |event, currency, conversions, payout| CapSum { event, currency, conversions, payout };
    CapsRecord {
        sums: vec![
            sum("sale".into(), *b"USD", 300, i128::from(i64::MAX) * 2),
            sum("lead".into(), *b"EUR", 1, -1),
        ],
    }
}

fn posting_v1() -> PostingRecord {
    let entries = Entries { receivable: 20_000_000, payable: -15_000_000, margin: -5_000_000 };
    PostingRecord { currency: *b"USD", entries, converted: Vec::new() }
}

/// As version 1, converted with another one.
fn posting_v2() -> PostingRecord {
    let converted = Converted {
        base: *b"EUR",
        postings: 2,
        own: Entries { receivable: 30_000_000, payable: -22_500_000, margin: -7_500_000 },
        worth: Entries { receivable: 27_600_000, payable: -20_700_000, margin: -6_900_000 },
    };
    PostingRecord { converted: vec![converted], ..posting_v1() }
}

fn seal_v1() -> SealRecord {
    let most = i128::from(i64::MAX) * 4;
    let entries = Entries { receivable: most, payable: -1, margin: 1 - most };
    SealRecord {
        previous_day: Some(20_454),
        previous: [7; 32],
        postings: 3,
        root: [9; 32],
        balances: vec![Balance { currency: *b"EUR", postings: 300, entries }],
        converted: Vec::new(),
    }
}

/// As version 1, with something converted.
fn seal_v2() -> SealRecord {
    let converted = posting_v2().converted.into_iter().map(|it| (*b"USD", it));
    SealRecord { converted: converted.collect(), ..seal_v1() }
}

fn encoded(encode: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    encode(&mut out);
    out
}

#[test]
fn catalogs_of_version_1_are_read_and_written_unchanged() {
    let stored = bytes(CATALOG_V1);
    assert_eq!(CatalogRecord::decode(&stored), Ok(catalog_v1()));
    assert_eq!(hex(&encoded(|out| catalog_v1().encode(out))), hex(&stored));
    assert_eq!(CatalogRecord::decode(&[2, 0]), Err(RecordError::Version(Some(2))));
    assert_eq!(CatalogRecord::decode(&stored[..stored.len() - 1]), Err(RecordError::Corrupt));
}

#[test]
fn entries_of_the_audit_log_of_version_1_are_read_and_written_unchanged() {
    let record = AuditRecord {
        who: "ops",
        action: "rates",
        call: "PUT /api/v1/rates/2026-11-25",
        subject: "2026-11-25",
        details: "{\"é\":1}",
    };
    let stored = bytes(AUDIT_V1);
    assert_eq!(AuditRecord::decode(&stored), Ok(record));
    assert_eq!(hex(&encoded(|out| record.encode(out))), hex(&stored));
    assert_eq!(AuditRecord::decode(&[2, 0]), Err(RecordError::Version(Some(2))));
    assert_eq!(AuditRecord::decode(&stored[..stored.len() - 1]), Err(RecordError::Corrupt));
}

#[test]
fn erasures_of_version_1_are_read_and_written_unchanged() {
    let record = ErasureRecord { asked_ms: 1_767_225_600_123 };
    let stored = bytes(ERASURE_V1);
    assert_eq!(ErasureRecord::decode(&stored), Ok(record));
    assert_eq!(hex(&encoded(|out| record.encode(out))), hex(&stored));
    assert_eq!(ErasureRecord::decode(&[2, 0]), Err(RecordError::Version(Some(2))));
    assert_eq!(ErasureRecord::decode(&stored[..stored.len() - 1]), Err(RecordError::Corrupt));
}

#[test]
fn clicks_of_version_1_are_read() {
    assert_eq!(ClickRecord::decode(&bytes(CLICK_V1)), Ok(click_v1()));
}

#[test]
fn clicks_of_version_2_are_read() {
    assert_eq!(ClickRecord::decode(&bytes(CLICK_V2)), Ok(click_v2()));
}

#[test]
fn clicks_of_version_3_are_read_and_written_unchanged() {
    let stored = bytes(CLICK_V3);
    assert_eq!(ClickRecord::decode(&stored), Ok(click_v3()));
    assert_eq!(hex(&encoded(|out| click_v3().encode(out))), hex(&stored));
    assert_eq!(click_flags(&stored), click_v3().flags);
    assert_eq!(click_flags(&bytes(CLICK_V2)), 0);
    assert_eq!(click_flags(&stored[..9]), 0, "damage flags nothing");
}

/// Bits are never given to another flag.
#[test]
fn flags_keep_their_bits() {
    let words: Vec<_> = Flag::ALL.iter().map(|flag| (flag.bit(), flag.as_str())).collect();
    assert_eq!(
        words,
        [
            (1, "click_record_missing"),
            (2, "late"),
            (4, "amount_missing"),
            (8, "rate_missing"),
            (16, "over_cap"),
            (32, "too_fast"),
            (64, "too_slow"),
            (128, "conversion_rate"),
            (256, "click_flood"),
            (512, "repeated_ip"),
            (1024, "bot_user_agent"),
            (2048, "repeated_customer"),
            (4096, "by_customer"),
            (8192, "bound_elsewhere"),
            (16384, "unauthenticated"),
            (32768, "erased"),
            (65536, "without_consent"),
            (131_072, "base_rate_missing"),
            (262_144, "parameters_left_out"),
        ]
    );
}

/// As version 4, without the texts that tell of a person.
fn conversion_v5() -> ConversionRecord<'static> {
    conversion_v4().erased(1_767_225_700_000)
}

#[test]
fn an_erased_conversion_keeps_the_keys_of_its_claims_and_no_text_of_a_person() {
    let stored = bytes(CONVERSION_V5);
    assert_eq!(hex(&encoded(|out| conversion_v5().encode(out))), hex(&stored));
    let erased = ConversionRecord::decode(&stored).expect("a record");
    assert_eq!(erased, conversion_v5());
    assert_eq!((erased.txn_id, erased.customer_id, &erased.params[..]), ("", "", &[][..]));
    assert!(has_base_booked(&stored) && erased.flags().any(|flag| flag == Flag::Erased));
    let keys = |record: &ConversionRecord<'_>| {
        let claims = ClaimSet::of_record(record);
        claims.iter().map(|claim| (claim.store_key(), claim.table())).collect::<Vec<_>>()
    };
    for customer_id in ["", "K-1"] {
        for (claims, txn_id) in
            [(0, "T-1"), (0, ""), (1, "T-1"), (2, ""), (5, "T-1"), (6, ""), (8, "T-1")]
        {
            let bound = if claims != 0 && !customer_id.is_empty() { 16 } else { 0 };
            let claims = claims | bound;
            let before = ConversionRecord { claims, txn_id, customer_id, ..conversion_v4() };
            let after = before.erased(1_767_225_700_000);
            assert_eq!(keys(&before), keys(&after), "{claims} {txn_id:?}");
            let to_change = |record| {
                let claims = ClaimSet::to_change(record);
                claims.iter().map(|claim| claim.store_key()).collect::<Vec<_>>()
            };
            assert_eq!(to_change(&before), to_change(&after), "{claims} {txn_id:?}");
            assert_eq!(before.customer_key(), after.customer_key());
            assert_eq!(before.customer_key().is_some(), !customer_id.is_empty());
            let money = |record: &ConversionRecord<'_>| (record.earned(), record.status);
            assert_eq!(money(&before), money(&after));
        }
    }
}

/// As version 5, its second step deferred.
fn conversion_v6() -> ConversionRecord<'static> {
    ConversionRecord { deferred: vec![Deferred { step: 1, day: 20_455 }], ..conversion_v5() }
}

#[test]
fn a_conversion_of_version_6_is_read_and_written_unchanged_erased_or_not() {
    let stored = bytes(CONVERSION_V6);
    assert_eq!(ConversionRecord::decode(&stored), Ok(conversion_v6()));
    assert_eq!(hex(&encoded(|out| conversion_v6().encode(out))), hex(&stored));
    assert_eq!(click_of(&stored).map(|click| *click.as_bytes()), Some(conversion_v6().click));
    assert!(has_base_booked(&stored));
    let whole = ConversionRecord { deferred: conversion_v6().deferred, ..conversion_v4() };
    let stored = encoded(|out| whole.encode(out));
    assert_eq!(ConversionRecord::decode(&stored), Ok(whole));
}

#[test]
fn conversions_of_version_1_are_read() {
    assert_eq!(ConversionRecord::decode(&bytes(CONVERSION_V1)), Ok(conversion_v1()));
}

#[test]
fn conversions_of_version_2_are_read() {
    assert_eq!(ConversionRecord::decode(&bytes(CONVERSION_V2)), Ok(conversion_v2()));
}

#[test]
fn conversions_of_version_3_are_read() {
    assert_eq!(ConversionRecord::decode(&bytes(CONVERSION_V3)), Ok(conversion_v3()));
    assert!(!has_base_booked(&bytes(CONVERSION_V3)));
}

#[test]
fn conversions_of_version_4_are_read_and_written_unchanged() {
    let stored = bytes(CONVERSION_V4);
    assert_eq!(ConversionRecord::decode(&stored), Ok(conversion_v4()));
    assert_eq!(hex(&encoded(|out| conversion_v4().encode(out))), hex(&stored));
    assert_eq!(click_of(&stored).map(|click| *click.as_bytes()), Some(conversion_v4().click));
    assert!(has_base_booked(&stored));
}

#[test]
fn an_own_payout_in_the_conversions_currency_is_kept_with_nothing_exchanged() {
    let exchanged = Exchanged { own_payout: Some(-13_800_000), ..Exchanged::default() };
    let record = ConversionRecord { exchanged: exchanged.boxed(), ..conversion_v3() };
    let stored = bytes(CONVERSION_V4_OWN);
    assert_eq!(ConversionRecord::decode(&stored), Ok(record.clone()));
    assert_eq!(hex(&encoded(|out| record.encode(out))), hex(&stored));
}

#[test]
fn rates_of_version_1_are_read_and_written_unchanged() {
    let stored = bytes(RATES_V1);
    assert_eq!(RatesRecord::decode(&stored), Ok(rates_v1()));
    assert_eq!(hex(&encoded(|out| rates_v1().encode(out))), hex(&stored));
}

#[test]
fn counters_of_version_1_are_read_and_written_unchanged() {
    let stored: Vec<_> = COUNTERS_V1.split("\n\n").map(bytes).collect();
    for (place, written) in counters_v1() {
        assert_eq!(hex(&written), hex(&stored[place]));
    }
    let place = PlaceRecord { subs: 3, counts: counts_v1() };
    assert_eq!(PlaceRecord::decode(&stored[0]), Ok(place));
    assert_eq!(SubRecord::decode(&stored[1]), Ok(SubRecord { counts: counts_v1() }));
    let change = ChangeRecord::decode(&stored[2]).expect("a change");
    assert_eq!((change.before, change.after), (Some(contribution_v1(1)), contribution_v1(2)));
    assert_eq!(ChangeRecord::decode(&stored[3]).expect("a change").before, None);
    assert_eq!(LateClickRecord::decode(&stored[4]).expect("a click").sub1, "spring-mail");
    assert_eq!(RefusedRecord::decode(&stored[5]).expect("sums").refused[0].postbacks, 1000);
    assert_eq!(Counted::decode(&stored[6]).expect("keys").conversions, [2; 16]);
    assert!(!Counted::has_cap_sums(&stored[6]));
    for stored in &stored {
        assert_eq!(
            PlaceRecord::decode(&[&[2], &stored[1..]].concat()),
            Err(RecordError::Version(Some(2)))
        );
    }
    for end in 1..stored[0].len() {
        assert_eq!(PlaceRecord::decode(&stored[0][..end]), Err(RecordError::Corrupt), "{end}");
    }
}

#[test]
fn counters_of_version_2_are_read_and_written_unchanged() {
    let stored: Vec<_> = COUNTERS_V2.split("\n\n").map(bytes).collect();
    let counted = Counted { clicks: [1; 16], conversions: [2; 16] };
    let written = [
        encoded(|out| changes_v2()[0].encode(out)),
        encoded(|out| changes_v2()[1].encode(out)),
        encoded(|out| caps_v1().encode(out)),
        encoded(|out| counted.encode(out)),
    ];
    assert_eq!(written.map(|written| hex(&written)), [0, 1, 2, 3].map(|at| hex(&stored[at])));
    let read = [0, 1].map(|at: usize| ChangeRecord::decode(&stored[at]).expect("a change"));
    assert_eq!(read, changes_v2());
    assert_eq!(CapsRecord::decode(&stored[2]), Ok(caps_v1()));
    assert_eq!(Counted::decode(&stored[3]), Ok(counted));
    assert!(Counted::has_cap_sums(&stored[3]));
    for end in 1..stored[2].len() {
        assert_eq!(CapsRecord::decode(&stored[2][..end]), Err(RecordError::Corrupt), "{end}");
    }
    for version in [0, 3, 255] {
        let newer = [&[version], &stored[0][1..]].concat();
        assert_eq!(ChangeRecord::decode(&newer), Err(RecordError::Version(Some(version))));
        let newer = [&[version], &stored[3][1..]].concat();
        assert_eq!(Counted::decode(&newer), Err(RecordError::Version(Some(version))));
    }
}

/// What has nothing converted keeps the bytes of version 1: they are sealed.
#[test]
fn postings_of_both_versions_are_read_and_written_unchanged() {
    for (stored, record) in [(POSTING_V1, posting_v1()), (POSTING_V2, posting_v2())] {
        let stored = bytes(stored);
        assert_eq!(PostingRecord::decode(&stored).as_ref(), Ok(&record));
        assert_eq!(hex(&encoded(|out| record.encode(out))), hex(&stored));
        for end in 1..stored.len() {
            let cut = PostingRecord::decode(&stored[..end]);
            assert_eq!(cut, Err(RecordError::Corrupt), "{end}");
        }
    }
    assert_eq!(PostingRecord::decode(&[3, 0]), Err(RecordError::Version(Some(3))));
    // The most that two steps can differ by.
    let most = i128::from(i64::MAX) - i128::from(i64::MIN);
    let entries = Entries { receivable: most, payable: -most, margin: 0 };
    let largest = PostingRecord { currency: *b"USD", entries, converted: Vec::new() };
    assert_eq!(PostingRecord::decode(&encoded(|out| largest.encode(out))), Ok(largest));
}

#[test]
fn seals_of_both_versions_are_read_and_written_unchanged() {
    for (stored, record) in [(SEAL_V1, seal_v1()), (SEAL_V2, seal_v2())] {
        let stored = bytes(stored);
        assert_eq!(SealRecord::decode(&stored).as_ref(), Ok(&record));
        assert_eq!(hex(&encoded(|out| record.encode(out))), hex(&stored));
        for end in 1..stored.len() {
            assert_eq!(SealRecord::decode(&stored[..end]), Err(RecordError::Corrupt), "{end}");
        }
    }
    assert_eq!(SealRecord::decode(&[3, 0]), Err(RecordError::Version(Some(3))));
}

fn inbound_v1() -> [InboundRow<'static>; 2] {
    let refused = InboundHead {
        time_ms: 1_767_225_600_123,
        result: 3,
        form: 2,
        auth: pack_auth([Some(AuthResult::Passed), Some(AuthResult::Shadowed), None]),
        ip: StoredIp::V4([203, 0, 113, 7]),
        catalog_version: 0x0123_4567_89ab_cdef,
        conversion: None,
        click: Some(*b"\x01\x9b\x76\xda\xa8\x7bfedcba9876"),
        path: "/postback/acme",
        advertiser: "acme",
        reason: "unknown_event",
    };
    let accepted = InboundHead {
        result: 0,
        form: 0,
        conversion: refused.click,
        click: None,
        reason: "",
        ..refused
    };
    [
        InboundRow { head: refused, flags: 1, text: "event=lead&mail=%28email%29" },
        InboundRow { head: accepted, flags: 8, text: "event=lead" },
    ]
}

fn inbound_page(rows: &[InboundRow<'_>]) -> Vec<u8> {
    encoded(|out| {
        begin_inbound_page(out);
        for row in rows {
            let text = |out: &mut Vec<u8>| {
                out.extend_from_slice(row.text.as_bytes());
                row.flags
            };
            encode_inbound(&row.head, text, out);
        }
    })
}

#[test]
fn pages_of_postbacks_of_version_1_are_read_and_written_unchanged() {
    let stored = bytes(INBOUND_V1);
    assert_eq!(decode_inbound_page(&stored).as_deref(), Ok(&inbound_v1()[..]));
    assert_eq!(hex(&inbound_page(&inbound_v1())), hex(&stored));
    assert_eq!(decode_inbound_page(&[2]), Err(RecordError::Version(Some(2))));
}

#[test]
fn dedupe_entries_of_version_1_are_read_and_written_unchanged() {
    let stored = bytes(DEDUPE_V1);
    let conversion = RecordId::from_bytes(*b"\x01\x9b\x76\xda\xa8\x7bfedcba9876");
    assert_eq!(decode_dedupe(&stored), Ok(conversion));
    assert_eq!(dedupe_minted_ms(&stored), Some(1_767_225_600_123));
    assert_eq!(hex(&encode_dedupe(conversion)), hex(&stored));
}

#[test]
fn bindings_of_version_1_are_read_and_written_unchanged() {
    let stored = bytes(BINDING_V1);
    let binding = Binding {
        conversion: RecordId::from_bytes(*b"\x01\x9b\x76\xda\xa8\x7bfedcba9876"),
        click: RecordId::from_bytes(*b"0123456789abcdef"),
    };
    assert_eq!(Binding::decode(&stored), Ok(binding));
    assert_eq!(hex(&binding.encode()), hex(&stored));
    assert_eq!(Binding::decode(&[2, 0]), Err(RecordError::Version(Some(2))));
    for other in [&stored[..17], &stored[..32], &[&stored[..], b"x"].concat()] {
        assert_eq!(Binding::decode(other), Err(RecordError::Corrupt));
    }
}

#[test]
fn an_encoder_only_appends() {
    let mut out = b"before".to_vec();
    click_v1().encode(&mut out);
    assert_eq!(&out[..6], b"before");
    assert_eq!(ClickRecord::decode(&out[6..]), Ok(click_v1()));
}

#[test]
fn an_unknown_version_is_told_from_damage() {
    for fixture in [CLICK_V3, CONVERSION_V4, CONVERSION_V5, CONVERSION_V6, RATES_V1, DEDUPE_V1] {
        let mut newer = bytes(fixture);
        for version in [0, 7, 255] {
            newer[0] = version;
            let expected = RecordError::Version(Some(version));
            assert_eq!(ClickRecord::decode(&newer), Err(expected));
            assert_eq!(ConversionRecord::decode(&newer), Err(expected));
            assert_eq!(RatesRecord::decode(&newer), Err(expected));
            assert_eq!(decode_dedupe(&newer), Err(expected));
        }
    }
    assert_eq!(ClickRecord::decode(&[]), Err(RecordError::Version(None)));
    assert_eq!(ConversionRecord::decode(&[]), Err(RecordError::Version(None)));
    assert_eq!(decode_dedupe(&[]), Err(RecordError::Version(None)));
}

#[test]
fn a_record_cut_short_is_corrupt() {
    let dedupe = bytes(DEDUPE_V1);
    for click in [bytes(CLICK_V1), bytes(CLICK_V2), bytes(CLICK_V3)] {
        for end in 1..click.len() {
            assert_eq!(ClickRecord::decode(&click[..end]), Err(RecordError::Corrupt), "{end}");
        }
    }
    for fixture in [CONVERSION_V1, CONVERSION_V2, CONVERSION_V3, CONVERSION_V4, CONVERSION_V5] {
        let conversion = bytes(fixture);
        for end in 1..conversion.len() {
            let cut = ConversionRecord::decode(&conversion[..end]);
            assert_eq!(cut, Err(RecordError::Corrupt), "{end}");
        }
    }
    let rates = bytes(RATES_V1);
    for end in 1..rates.len() {
        assert_eq!(RatesRecord::decode(&rates[..end]), Err(RecordError::Corrupt), "{end}");
    }
    for end in 1..dedupe.len() {
        assert_eq!(decode_dedupe(&dedupe[..end]), Err(RecordError::Corrupt), "{end}");
    }
    assert_eq!(decode_dedupe(&[&dedupe[..], b"x"].concat()), Err(RecordError::Corrupt));
}

fn ip() -> impl Strategy<Value = StoredIp> {
    prop_oneof![
        Just(StoredIp::None),
        any::<[u8; 4]>().prop_map(StoredIp::V4),
        any::<[u8; 16]>().prop_map(StoredIp::V6),
        any::<[u8; 8]>().prop_map(StoredIp::Hashed),
    ]
}

fn exchanged() -> impl Strategy<Value = Exchanged> {
    let base = any::<([u8; 3], (u64, u64), i64, i64)>();
    let base = base.prop_map(|(currency, rate, revenue, payout)| InBase {
        currency,
        rate,
        revenue,
        payout,
    });
    let own = any::<(Option<(u64, u64)>, Option<i64>, Option<i64>)>();
    (own, prop::option::of(base)).prop_map(|((amounts, own_payout, own_revenue), base)| Exchanged {
        amounts,
        own_payout,
        own_revenue,
        base,
    })
}

fn borrowed(pairs: &[(String, String)]) -> Vec<(&str, &str)> {
    pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

fn entries([receivable, payable, margin]: [i128; 3]) -> Entries {
    Entries { receivable, payable, margin }
}

fn converted() -> impl Strategy<Value = Converted> {
    let all = any::<([u8; 3], i64, [i128; 3], [i128; 3])>();
    all.prop_map(|(base, postings, own, worth)| Converted {
        base,
        postings,
        own: entries(own),
        worth: entries(worth),
    })
}

prop_compose! {
    fn contribution()(
        event: String,
        currency: [u8; 3],
        standing: u8,
        (revenue, payout, in_caps) in any::<(i64, i64, Option<i64>)>(),
    ) -> Contribution<'static> {
        Contribution { event: event.into(), currency, standing, revenue, payout, in_caps }
    }
}

prop_compose! {
    fn counts()(
        clicks: i64,
        fallbacks: Vec<(String, i64)>,
        events: Vec<(String, [u8; 3], i64, [(i64, i128, i128); 4])>,
    ) -> Counts<'static> {
        let fallback = |(reason, clicks): (String, _)| FallbackCounts { reason: reason.into(), clicks };
        let tally = |(conversions, revenue, payout)| Tally { conversions, revenue, payout };
        let event = |(event, currency, negative, by_status): (String, _, _, [_; 4])| EventCounts {
            event: event.into(),
            currency,
            negative,
            by_status: by_status.map(tally),
        };
        Counts {
            clicks,
            fallbacks: fallbacks.into_iter().map(fallback).collect(),
            events: events.into_iter().map(event).collect(),
        }
    }
}

/// A record is read as it was written.
macro_rules! assert_kept {
    ($name:ident $fields:tt) => {{
        let record = $name $fields;
        let stored = encoded(|out| record.encode(out));
        prop_assert_eq!($name::decode(&stored), Ok(record));
    }};
}

fn decode_as_everything(bytes: &[u8]) {
    let _ = (ClickRecord::decode(bytes), ConversionRecord::decode(bytes));
    let _ = (click_flags(bytes), has_base_booked(bytes), click_of(bytes));
    let _ = (RatesRecord::decode(bytes), CatalogRecord::decode(bytes));
    let _ = (decode_dedupe(bytes), dedupe_minted_ms(bytes), Binding::decode(bytes));
    let _ = (PostingRecord::decode(bytes), SealRecord::decode(bytes));
    let _ = (PlaceRecord::decode(bytes), SubRecord::decode(bytes), CapsRecord::decode(bytes));
    let _ = (ChangeRecord::decode(bytes), LateClickRecord::decode(bytes));
    let _ = (RefusedRecord::decode(bytes), Counted::decode(bytes), Counted::has_cap_sums(bytes));
    let _ = (AuditRecord::decode(bytes), ErasureRecord::decode(bytes), decode_inbound_page(bytes));
}

proptest! {
    #[test]
    fn a_click_is_read_as_it_was_written(
        subs: [String; 10],
        texts: [String; 6],
        passed: Vec<(String, String)>,
        ip in ip(),
        country: Option<[u8; 2]>,
        flags: u32,
    ) {
        let [user_agent, referrer, gdpr, gdpr_consent, us_privacy, fallback] = &texts;
        assert_kept!(ClickRecord {
            subs: std::array::from_fn(|place| subs[place].as_str()),
            passed: borrowed(&passed),
            ip,
            user_agent,
            referrer,
            gdpr,
            gdpr_consent,
            us_privacy,
            fallback,
            country,
            flags,
        });
    }

    #[test]
    fn a_conversion_is_read_as_it_was_written(
        ids: ([u8; 16], [u8; 8], [u8; 3]),
        texts: [String; 6],
        amounts: (Option<i64>, Option<[u8; 3]>, i64, i64, Option<u64>),
        numbers: (u8, u32, u64, u64, u64),
        claims: u8,
        params: Vec<(String, String)>,
        history: Vec<(u8, [u64; 2], [i64; 2], Option<([u8; 3], i64, i64)>, String)>,
        exchanged in prop::option::of(exchanged()),
        reversed_amount: i64,
        erased: Option<(Option<[u8; 16]>, Option<[u8; 16]>)>,
        deferred: Vec<(u16, u32)>,
    ) {
        let [advertiser, offer, affiliate, event, txn_id, customer_id] = &texts;
        let (amount, amount_currency, revenue, payout, quantity) = amounts;
        let (status, flags, event_time_ms, received_ms, catalog_version) = numbers;
        assert_kept!(ConversionRecord {
            click: ids.0,
            click_mac: ids.1,
            advertiser,
            offer,
            affiliate,
            event,
            txn_id,
            customer_id,
            status,
            amount,
            amount_currency,
            revenue,
            payout,
            currency: ids.2,
            quantity,
            flags,
            event_time_ms,
            received_ms,
            catalog_version,
            params: borrowed(&params),
            history: history
                .iter()
                .map(|(status, times, booked, base, reason)| HistoryEntry {
                    status: *status,
                    time_ms: times[0],
                    event_time_ms: times[1],
                    booked_revenue: booked[0],
                    booked_payout: booked[1],
                    booked_base: base.map(|(currency, revenue, payout)| EarnedInBase {
                        currency,
                        revenue,
                        payout,
                    }),
                    reason,
                })
                .collect(),
            claims,
            exchanged: exchanged.map(Box::new),
            reversed_amount,
            erased: erased.map(|(txn, customer)| Box::new(ErasedTexts { txn, customer })),
            deferred: deferred.into_iter().map(|(step, day)| Deferred { step, day }).collect(),
        });
    }

    #[test]
    fn the_books_are_read_as_they_were_written(
        (currency, three) in any::<([u8; 3], [i128; 3])>(),
        of_posting in prop::collection::vec(converted(), 0..3),
        (previous_day, previous, root) in any::<(Option<u32>, [u8; 32], [u8; 32])>(),
        postings: u64,
        balances: Vec<([u8; 3], u64, [i128; 3])>,
        of_seal in prop::collection::vec((any::<[u8; 3]>(), converted()), 0..3),
    ) {
        let balance = |(currency, postings, three)| Balance {
            currency,
            postings,
            entries: entries(three),
        };
        let balances = balances.into_iter().map(balance).collect();
        assert_kept!(PostingRecord { currency, entries: entries(three), converted: of_posting });
        assert_kept!(SealRecord {
            previous_day,
            previous,
            postings,
            root,
            balances,
            converted: of_seal,
        });
    }

    #[test]
    fn counters_are_read_as_they_were_written(
        (subs, clicks, conversions) in any::<(u32, [u8; 16], [u8; 16])>(),
        counts in counts(),
        sums: Vec<(String, [u8; 3], i64, i128)>,
        before in prop::option::of(contribution()),
        after in contribution(),
        texts: [String; 2],
        refused: Vec<(String, u64)>,
    ) {
        let sum = |(event, currency, conversions, payout): (String, _, _, _)| CapSum {
            event: event.into(),
            currency,
            conversions,
            payout,
        };
        assert_kept!(SubRecord { counts: counts.clone() });
        assert_kept!(PlaceRecord { subs, counts });
        assert_kept!(CapsRecord { sums: sums.into_iter().map(sum).collect() });
        assert_kept!(ChangeRecord { click: clicks, before, after });
        assert_kept!(LateClickRecord { fallback: &texts[0], sub1: &texts[1] });
        let refused = refused.iter().map(|(reason, postbacks)| RefusedCounts {
            reason,
            postbacks: *postbacks,
        });
        assert_kept!(RefusedRecord { refused: refused.collect() });
        assert_kept!(Counted { clicks, conversions });
    }

    #[test]
    fn a_page_of_postbacks_is_read_as_it_was_written(
        rows in prop::collection::vec(
            (
                any::<(u64, [u8; 3], u64, [Option<[u8; 16]>; 2])>(),
                ip(),
                any::<([String; 3], u8, String)>(),
            ),
            0..4,
        ),
    ) {
        let rows: Vec<_> = rows
            .iter()
            .map(|((time_ms, bytes, catalog_version, ids), ip, (texts, flags, text))| InboundRow {
                head: InboundHead {
                    time_ms: *time_ms,
                    result: bytes[0],
                    form: bytes[1],
                    auth: bytes[2],
                    ip: *ip,
                    catalog_version: *catalog_version,
                    conversion: ids[0],
                    click: ids[1],
                    path: &texts[0],
                    advertiser: &texts[1],
                    reason: &texts[2],
                },
                flags: *flags,
                text,
            })
            .collect();
        let page = inbound_page(&rows);
        prop_assert_eq!(decode_inbound_page(&page), Ok(rows));
    }

    #[test]
    fn what_stands_for_itself_is_read_as_it_was_written(
        (base, rates) in any::<([u8; 3], Vec<([u8; 3], u64)>)>(),
        texts: [String; 5],
        numbers: ([u64; 3], [u8; 2], [u32; 4]),
        asked_ms: u64,
        ids: [[u8; 16]; 2],
    ) {
        let [who, action, call, subject, details] = &texts;
        let ([version, applied_ms, text_bytes], [source, format], counts) = numbers;
        let [advertisers, offers, affiliates, links] = counts;
        assert_kept!(RatesRecord { base, rates });
        assert_kept!(AuditRecord { who, action, call, subject, details });
        assert_kept!(CatalogRecord {
            version,
            applied_ms,
            source,
            format,
            text_bytes,
            advertisers,
            offers,
            affiliates,
            links,
        });
        assert_kept!(ErasureRecord { asked_ms });
        let [conversion, click] = ids.map(RecordId::from_bytes);
        let binding = Binding { conversion, click };
        prop_assert_eq!(Binding::decode(&binding.encode()), Ok(binding));
    }

    #[test]
    fn a_dedupe_entry_is_read_as_it_was_written(id: [u8; 16]) {
        let conversion = RecordId::from_bytes(id);
        let stored = encode_dedupe(conversion);
        prop_assert_eq!(decode_dedupe(&stored), Ok(conversion));
    }

    #[test]
    fn no_bytes_make_a_decoder_panic(version in 0u8..7, mut bytes: Vec<u8>) {
        bytes.insert(0, version);
        decode_as_everything(&bytes);
    }

    #[test]
    fn a_damaged_record_does_not_make_a_decoder_panic(place: prop::sample::Index, damage: u8) {
        let fixtures = [
            &[CLICK_V1, CLICK_V2, CLICK_V3, CONVERSION_V1, CONVERSION_V2, CONVERSION_V3][..],
            &[CONVERSION_V4, CONVERSION_V5, CONVERSION_V6, RATES_V1, DEDUPE_V1, BINDING_V1],
            &[POSTING_V2, SEAL_V2, INBOUND_V1, AUDIT_V1, CATALOG_V1, ERASURE_V1],
            &[COUNTERS_V1, COUNTERS_V2],
        ]
        .concat();
        for fixture in fixtures.into_iter().flat_map(|fixture| fixture.split("\n\n")) {
            let mut bytes = bytes(fixture);
            let place = place.index(bytes.len());
            bytes[place] ^= damage;
            decode_as_everything(&bytes);
        }
    }
}
