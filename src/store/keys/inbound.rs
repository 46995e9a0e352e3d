//! Keys of postbacks as received: pages of rows by time, and what leads from a click to rows.

use super::{RECORD_KEY_BYTES, RecordKey, first_at, record};
use crate::click_id::RecordId;
use crate::model::period::Day;

const PAGE_TAG: u8 = b'p';
const CLICK_TAG: u8 = b'c';
/// Key of a page.
pub const INBOUND_PAGE_KEY_BYTES: usize = 1 + RECORD_KEY_BYTES;
/// Where the keys of a click's rows of one day begin: tag, day, click.
const CLICK_DAY_BYTES: usize = 1 + 4 + RECORD_KEY_BYTES;
/// Key that leads from a click to a row.
pub const INBOUND_CLICK_KEY_BYTES: usize = CLICK_DAY_BYTES + RECORD_KEY_BYTES + 2;

/// A postback as received: its page, and its place there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InboundId {
    /// The page, whose bytes sort by time.
    pub page: RecordKey,
    /// Which of its rows, from 0.
    pub row: u16,
}

/// Names a page: the newest receipt in it, which start of the server wrote it, and in which batch,
/// of which it is not the only page.
#[must_use]
pub fn inbound_page_id(newest_ms: u64, start: u64, batch: u64, page: u16) -> RecordKey {
    let mut id = first_at(newest_ms);
    id[6..8].copy_from_slice(&start.to_be_bytes()[6..]);
    id[8..14].copy_from_slice(&batch.to_be_bytes()[2..]);
    id[14..].copy_from_slice(&page.to_be_bytes());
    id
}

/// The key of a page. With [`first_at`], where the pages from a moment on begin.
#[must_use]
pub fn inbound_page(id: &RecordKey) -> [u8; INBOUND_PAGE_KEY_BYTES] {
    let mut key = [PAGE_TAG; INBOUND_PAGE_KEY_BYTES];
    key[1..].copy_from_slice(id);
    key
}

/// The page in a key of [`inbound_page`].
#[must_use]
pub fn inbound_page_of(key: &[u8]) -> Option<RecordKey> {
    key.strip_prefix(&[PAGE_TAG])?.try_into().ok()
}

/// Where all pages end.
#[must_use]
pub const fn inbound_pages_end() -> [u8; 1] {
    [PAGE_TAG + 1]
}

/// Where what leads to rows that were received on a day and later begins.
#[must_use]
pub fn inbound_clicks_from(day: Day) -> [u8; 5] {
    let [a, b, c, d] = day.get().to_be_bytes();
    [CLICK_TAG, a, b, c, d]
}

/// The key that leads from a click to a row received on `day`.
#[must_use]
pub fn inbound_click(day: Day, click: &RecordKey, row: InboundId) -> [u8; INBOUND_CLICK_KEY_BYTES] {
    let mut key = [0; INBOUND_CLICK_KEY_BYTES];
    let (place, rest) = key.split_at_mut(CLICK_DAY_BYTES);
    place[..5].copy_from_slice(&inbound_clicks_from(day));
    place[5..].copy_from_slice(click);
    rest[..RECORD_KEY_BYTES].copy_from_slice(&row.page);
    rest[RECORD_KEY_BYTES..].copy_from_slice(&row.row.to_be_bytes());
    key
}

/// The range of a click's keys of one day.
#[must_use]
pub fn inbound_click_range(
    day: Day,
    click: RecordId,
) -> ([u8; INBOUND_CLICK_KEY_BYTES], [u8; INBOUND_CLICK_KEY_BYTES + 1]) {
    let from = inbound_click(day, click.as_bytes(), InboundId { page: [0; 16], row: 0 });
    let mut to = [0xFF; INBOUND_CLICK_KEY_BYTES + 1];
    to[..CLICK_DAY_BYTES].copy_from_slice(&from[..CLICK_DAY_BYTES]);
    (from, to)
}

/// The click and the row in a key of [`inbound_click`].
#[must_use]
pub fn inbound_click_of(key: &[u8]) -> Option<(RecordId, InboundId)> {
    let key: &[u8; INBOUND_CLICK_KEY_BYTES] = key.try_into().ok()?;
    let (place, rest) = key.split_at(CLICK_DAY_BYTES);
    let (page, row) = rest.split_at(RECORD_KEY_BYTES);
    let row =
        InboundId { page: page.try_into().ok()?, row: u16::from_be_bytes(row.try_into().ok()?) };
    (place[0] == CLICK_TAG).then_some((record(&place[5..])?, row))
}

/// The day in a key of [`inbound_click`].
#[must_use]
pub fn inbound_click_day(key: &[u8]) -> Option<Day> {
    let day = key.strip_prefix(&[CLICK_TAG])?.first_chunk()?;
    Some(Day::new(u32::from_be_bytes(*day)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_sort_by_time_then_by_who_wrote_them() {
        let id = inbound_page_id;
        assert!(id(1, 9, 9, 9) < id(2, 0, 0, 0));
        assert!(id(2, 1, 9, 9) < id(2, 2, 0, 0));
        assert!(id(2, 2, 1, 9) < id(2, 2, 2, 0));
        assert!(id(2, 2, 2, 1) < id(2, 2, 2, 2));
        let page = id(77, 3, 4, 5);
        assert_eq!(inbound_page_of(&inbound_page(&page)), Some(page));
        assert_eq!(RecordId::from_bytes(page).time_ms(), 77);
        assert!(inbound_page(&[0xFF; 16])[..] < inbound_pages_end()[..]);
    }

    #[test]
    fn a_clicks_rows_of_a_day_lie_in_their_range_and_no_others_do() {
        let click = |n| RecordId::from_bytes([n; 16]);
        let row = InboundId { page: [0xFF; 16], row: u16::MAX };
        let (from, to) = inbound_click_range(Day::new(7), click(5));
        let inside = inbound_click(Day::new(7), click(5).as_bytes(), row);
        assert!(inside[..] >= from[..] && inside[..] < to[..]);
        assert_eq!(inbound_click_of(&inside), Some((click(5), row)));
        assert_eq!(inbound_click_day(&inside), Some(Day::new(7)));
        for (day, other) in [(6, 5), (8, 5), (7, 4), (7, 6)] {
            let key = inbound_click(Day::new(day), click(other).as_bytes(), row);
            assert!(key[..] < from[..] || key[..] >= to[..]);
        }
    }
}
