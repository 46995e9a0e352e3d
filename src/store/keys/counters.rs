//! Keys of `counters`. The first byte says what a row is; all but one kind then sort by time.

use super::{RECORD_KEY_BYTES, RecordKey, record};
use crate::click_id::RecordId;
use crate::model::ids::{AffiliateNumber, OfferNumber};
use crate::model::period::Quarter;

/// How far counting has come: one row.
pub const COUNTED: &[u8] = b"w";
/// Sums of a place.
const PLACE_TAG: u8 = b'm';
/// Sums of a place for one value of `sub1`.
const SUB_TAG: u8 = b's';
/// A change of a conversion, to be added to the sums.
const CHANGE_TAG: u8 = b'd';
/// A click that came too late to be counted with its neighbours, to be added to the sums.
const LATE_TAG: u8 = b'l';
/// Refused postbacks of a place.
const REFUSED_TAG: u8 = b'r';
/// What caps have counted of an offer and affiliate.
const CAPS_TAG: u8 = b'c';
/// Quarters of an hour whose conversions one row of [`cap_sums`] counts: 32 days. A total is the
/// sum of few rows then, and what retention has not reached can still be counted anew.
const CAPS_QUARTERS: u32 = 32 * 24 * 4;
/// After a place in keys of sums by `sub1`: the rest of the key is the value.
const NAMED: u8 = 1;
/// After a place in keys of sums by `sub1`: all values that have no row of their own.
const OTHERS: u8 = 0;

const PLACE_BYTES: usize = 4 + 3 + 3;
const COUNTER_BYTES: usize = 1 + PLACE_BYTES;

/// What is counted together: a quarter of an hour, an offer, an affiliate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// When it was received.
    pub quarter: Quarter,
    /// The offer; none if a click named none.
    pub offer: OfferNumber,
    /// The affiliate; none if a click named none.
    pub affiliate: AffiliateNumber,
}

impl Place {
    /// Where a click or conversion counts.
    #[must_use]
    pub fn of(id: RecordId) -> Self {
        let quarter = Quarter::of_ms(id.time_ms());
        Self { quarter, offer: id.offer(), affiliate: id.affiliate() }
    }

    /// Where caps count a conversion: a place of 32 days, which has the name of their first quarter
    /// of an hour.
    #[must_use]
    pub fn of_caps(id: RecordId) -> Self {
        let place = Self::of(id);
        let quarter = place.quarter.get();
        Self { quarter: Quarter::new(quarter - quarter % CAPS_QUARTERS), ..place }
    }

    /// The first quarter of an hour of the 32 days after those of [`Self::of_caps`], if any is.
    #[must_use]
    pub fn after_caps(&self) -> Option<Quarter> {
        self.quarter.get().checked_add(CAPS_QUARTERS).map(Quarter::new)
    }

    fn encode(&self) -> [u8; PLACE_BYTES] {
        let [a, b, c, d] = self.quarter.get().to_be_bytes();
        let [e, f, g] = self.offer.to_be_bytes();
        let [h, i, j] = self.affiliate.to_be_bytes();
        [a, b, c, d, e, f, g, h, i, j]
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let [a, b, c, d, e, f, g, h, i, j]: [u8; PLACE_BYTES] = bytes.try_into().ok()?;
        Some(Self {
            quarter: Quarter::new(u32::from_be_bytes([a, b, c, d])),
            offer: OfferNumber::from_be_bytes([e, f, g]),
            affiliate: AffiliateNumber::from_be_bytes([h, i, j]),
        })
    }
}

/// The key of a place's sums.
#[must_use]
pub fn counter(place: Place) -> [u8; COUNTER_BYTES] {
    let mut key = [PLACE_TAG; COUNTER_BYTES];
    key[1..].copy_from_slice(&place.encode());
    key
}

/// The range of all keys of [`counter`].
#[must_use]
pub const fn counters() -> ([u8; 1], [u8; 1]) {
    ([PLACE_TAG], [PLACE_TAG + 1])
}

/// Where the keys of [`counter`] of a quarter begin.
#[must_use]
pub fn counters_from(quarter: Quarter) -> [u8; 5] {
    from(PLACE_TAG, quarter)
}

/// The place in a key of [`counter`].
#[must_use]
pub fn place_of(key: &[u8]) -> Option<Place> {
    Place::decode(key.strip_prefix(&[PLACE_TAG])?)
}

/// The key of a place's sums for a value of `sub1`; without one, for those that have no row.
#[must_use]
pub fn sub_counter(place: Place, sub: Option<&str>) -> Vec<u8> {
    let value = sub.unwrap_or_default().as_bytes();
    let mut key = Vec::with_capacity(COUNTER_BYTES + 1 + value.len());
    key.push(SUB_TAG);
    key.extend_from_slice(&place.encode());
    key.push(if sub.is_some() { NAMED } else { OTHERS });
    key.extend_from_slice(value);
    key
}

/// Where the keys of [`sub_counter`] of a quarter begin.
#[must_use]
pub fn sub_counters_from(quarter: Quarter) -> [u8; 5] {
    from(SUB_TAG, quarter)
}

/// The range of the keys of [`sub_counter`] of a place.
#[must_use]
pub fn sub_counters_of(place: Place) -> (Vec<u8>, Vec<u8>) {
    let from = sub_counter(place, None);
    let mut to = from.clone();
    if let Some(kind) = to.last_mut() {
        *kind = NAMED + 1;
    }
    (from, to)
}

/// Where all keys of [`sub_counter`] end.
#[must_use]
pub const fn sub_counters_end() -> [u8; 1] {
    [SUB_TAG + 1]
}

/// The place and the value in a key of [`sub_counter`].
#[must_use]
pub fn sub_of(key: &[u8]) -> Option<(Place, Option<&str>)> {
    let (place, rest) = key.strip_prefix(&[SUB_TAG])?.split_at_checked(PLACE_BYTES)?;
    let sub = match rest.split_first()? {
        (&OTHERS, []) => None,
        (&NAMED, value) => Some(std::str::from_utf8(value).ok()?),
        _ => return None,
    };
    Some((Place::decode(place)?, sub))
}

/// The key of a change that made a conversion's history end with this step.
#[must_use]
pub fn change(conversion: RecordId, step: u16) -> [u8; 1 + RECORD_KEY_BYTES + 2] {
    let mut key = [CHANGE_TAG; 1 + RECORD_KEY_BYTES + 2];
    key[1..=RECORD_KEY_BYTES].copy_from_slice(conversion.as_bytes());
    key[1 + RECORD_KEY_BYTES..].copy_from_slice(&step.to_be_bytes());
    key
}

/// Where the keys of [`change`] of a conversion begin.
#[must_use]
pub fn changes_from(conversion: &RecordKey) -> [u8; 1 + RECORD_KEY_BYTES] {
    with_tag(CHANGE_TAG, conversion)
}

/// The conversion and the step in a key of [`change`].
#[must_use]
pub fn change_of(key: &[u8]) -> Option<(RecordId, u16)> {
    let (conversion, step) = key.strip_prefix(&[CHANGE_TAG])?.split_at_checked(RECORD_KEY_BYTES)?;
    Some((record(conversion)?, u16::from_be_bytes(step.try_into().ok()?)))
}

/// The key of a click that came late.
#[must_use]
pub fn late_click(click: RecordId) -> [u8; 1 + RECORD_KEY_BYTES] {
    with_tag(LATE_TAG, click.as_bytes())
}

/// Where the keys of [`late_click`] of a click and later ones begin.
#[must_use]
pub fn late_clicks_from(click: &RecordKey) -> [u8; 1 + RECORD_KEY_BYTES] {
    with_tag(LATE_TAG, click)
}

/// The click in a key of [`late_click`].
#[must_use]
pub fn late_click_of(key: &[u8]) -> Option<RecordId> {
    record(key.strip_prefix(&[LATE_TAG])?)
}

/// The key of what one start of the server has refused at a place.
#[must_use]
pub fn refused(place: Place, start: u64) -> [u8; COUNTER_BYTES + 8] {
    let mut key = [REFUSED_TAG; COUNTER_BYTES + 8];
    key[1..COUNTER_BYTES].copy_from_slice(&place.encode());
    key[COUNTER_BYTES..].copy_from_slice(&start.to_be_bytes());
    key
}

/// Where the keys of [`refused`] of a quarter begin.
#[must_use]
pub fn refused_from(quarter: Quarter) -> [u8; 5] {
    from(REFUSED_TAG, quarter)
}

/// The place and the start in a key of [`refused`].
#[must_use]
pub fn refused_of(key: &[u8]) -> Option<(Place, u64)> {
    let (place, start) = key.strip_prefix(&[REFUSED_TAG])?.split_at_checked(PLACE_BYTES)?;
    Some((Place::decode(place)?, u64::from_be_bytes(start.try_into().ok()?)))
}

/// The key of what caps have counted at a place of [`Place::of_caps`].
#[must_use]
pub fn cap_sums(place: Place) -> [u8; COUNTER_BYTES] {
    let mut key = [CAPS_TAG; COUNTER_BYTES];
    key[1..].copy_from_slice(&place.encode());
    key
}

/// Where the keys of [`cap_sums`] of a quarter of an hour, and in it of an offer, begin.
#[must_use]
pub fn cap_sums_from(quarter: Quarter, offer: OfferNumber) -> [u8; COUNTER_BYTES] {
    cap_sums(Place { quarter, offer, affiliate: AffiliateNumber::NONE })
}

/// Where all keys of [`cap_sums`] end.
#[must_use]
pub const fn cap_sums_end() -> [u8; 1] {
    [CAPS_TAG + 1]
}

/// The place in a key of [`cap_sums`].
#[must_use]
pub fn cap_sums_of(key: &[u8]) -> Option<Place> {
    let place = Place::decode(key.strip_prefix(&[CAPS_TAG])?)?;
    place.quarter.get().is_multiple_of(CAPS_QUARTERS).then_some(place)
}

fn from(tag: u8, quarter: Quarter) -> [u8; 5] {
    let [a, b, c, d] = quarter.get().to_be_bytes();
    [tag, a, b, c, d]
}

fn with_tag(tag: u8, id: &RecordKey) -> [u8; 1 + RECORD_KEY_BYTES] {
    let mut key = [tag; 1 + RECORD_KEY_BYTES];
    key[1..].copy_from_slice(id);
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(quarter: u32, offer: u32, affiliate: u32) -> Place {
        Place {
            quarter: Quarter::new(quarter),
            offer: OfferNumber::new(offer).expect("24 bits"),
            affiliate: AffiliateNumber::new(affiliate).expect("24 bits"),
        }
    }

    #[test]
    fn sums_lie_in_time_order_and_each_kind_apart() {
        let sorted = [place(1, 2, 3), place(1, 2, 256), place(1, 256, 0), place(256, 0, 0)];
        let keys = sorted.map(counter);
        assert!(keys.is_sorted());
        for (place, key) in sorted.into_iter().zip(keys) {
            assert_eq!(place_of(&key), Some(place));
            let (from, to) = (counters_from(place.quarter), counters_from(place.quarter.next()));
            assert!(key[..] >= from[..] && key[..] < to[..]);
            let (first, last) = counters();
            assert!(key[..] >= first[..] && key[..] < last[..]);
            for sub in [None, Some(""), Some("a"), Some("é\0")] {
                let key = sub_counter(place, sub);
                assert_eq!((sub_of(&key), place_of(&key)), (Some((place, sub)), None));
                let (first, end) = sub_counters_of(place);
                assert!((first..end).contains(&key));
                let from = sub_counters_from(place.quarter);
                assert!(
                    key[..] >= from[..] && key[..] < sub_counters_from(place.quarter.next())[..]
                );
            }
            let key = cap_sums(place);
            assert_eq!((cap_sums_of(&key), place_of(&key)), (None, None), "not of 32 days");
            let place = Place { quarter: Quarter::new(3072 * place.quarter.get()), ..place };
            let key = cap_sums(place);
            assert_eq!((cap_sums_of(&key), place_of(&key)), (Some(place), None));
            assert!(key >= cap_sums_from(place.quarter, place.offer));
            let after = place.after_caps().expect("not the last");
            assert!(key < cap_sums_from(after, OfferNumber::NONE));
            assert!(key[..] < cap_sums_end()[..]);
            let key = refused(place, 7);
            assert_eq!((refused_of(&key), sub_of(&key)), (Some((place, 7)), None));
            assert!(key[..] >= refused_from(place.quarter)[..]);
        }
        let damaged = [&sub_counter(place(1, 2, 3), None)[..], b"x"].concat();
        assert_eq!(sub_of(&damaged), None);
    }

    #[test]
    fn changes_and_late_clicks_lie_by_their_records() {
        let id = RecordId::from_bytes([7; 16]);
        let keys = [change(id, 0), change(id, 1), change(id, 256)];
        assert!(keys.is_sorted());
        assert_eq!(change_of(&keys[2]), Some((id, 256)));
        assert!(keys[0][..] >= changes_from(id.as_bytes())[..]);
        assert!(keys[2][..] < changes_from(&super::super::after(id))[..]);
        let late = late_click(id);
        assert_eq!((late_click_of(&late), change_of(&late)), (Some(id), None));
        assert!(late[..] >= late_clicks_from(id.as_bytes())[..]);
    }

    #[test]
    fn a_record_counts_where_its_id_says() {
        let mut bytes = [0; 16];
        bytes[..6].copy_from_slice(&(3 * Quarter::MS + 5).to_be_bytes()[2..]);
        bytes[12] = 4;
        bytes[15] = 5;
        assert_eq!(Place::of(RecordId::from_bytes(bytes)), place(3, 4, 5));
        let of_caps = |ms: u64| {
            bytes[..6].copy_from_slice(&ms.to_be_bytes()[2..]);
            Place::of_caps(RecordId::from_bytes(bytes))
        };
        let days = |days: u64| days * 96 * Quarter::MS;
        let [first, last, next] = [days(64), days(96) - 1, days(96)].map(of_caps);
        assert_eq!((first, last, next), (place(6144, 4, 5), first, place(9216, 4, 5)));
        assert_eq!(first.after_caps(), Some(next.quarter));
    }
}
