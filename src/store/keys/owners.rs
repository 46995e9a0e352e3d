//! Keys of whose each offer is, and of how long its customers stay bound, in `catalog`.

const TAG: u8 = b'w';
const WINDOW_TAG: u8 = b'x';

/// The key under which an offer's advertiser is kept.
#[must_use]
pub fn owner(offer: &str) -> Vec<u8> {
    [&[TAG], offer.as_bytes()].concat()
}

/// The range of all keys of [`owner`].
#[must_use]
pub const fn owners() -> ([u8; 1], [u8; 1]) {
    ([TAG], [TAG + 1])
}

/// The offer's ID in a key of [`owner`].
#[must_use]
pub fn owned_offer(key: &[u8]) -> Option<&str> {
    std::str::from_utf8(key.strip_prefix(&[TAG])?).ok()
}

/// The key under which an offer's customer window is kept.
#[must_use]
pub fn customer_window(offer: &str) -> Vec<u8> {
    [&[WINDOW_TAG], offer.as_bytes()].concat()
}

/// The range of all keys of [`customer_window`].
#[must_use]
pub const fn customer_windows() -> ([u8; 1], [u8; 1]) {
    ([WINDOW_TAG], [WINDOW_TAG + 1])
}

/// The offer's ID in a key of [`customer_window`].
#[must_use]
pub fn windowed_offer(key: &[u8]) -> Option<&str> {
    std::str::from_utf8(key.strip_prefix(&[WINDOW_TAG])?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::keys::{Numbered, catalog_chunk, catalog_version, number, rates_range};

    #[test]
    fn an_offer_is_found_in_its_key_apart_from_what_else_is_in_the_catalog() {
        let (key, (from, to)) = (owner("spring"), owners());
        assert_eq!(key, b"wspring", "part of the store format");
        assert!(key[..] >= from[..] && key[..] < to[..]);
        assert_eq!(owned_offer(&key), Some("spring"));
        let (window, (from_window, to_window)) = (customer_window("spring"), customer_windows());
        assert_eq!(window, b"xspring", "part of the store format");
        assert!(window[..] >= from_window[..] && window[..] < to_window[..]);
        assert!(to[..] <= from_window[..] && owned_offer(&window).is_none());
        assert_eq!((windowed_offer(&window), windowed_offer(&key)), (Some("spring"), None));
        let others = [
            number(Numbered::Offer, "spring"),
            number(Numbered::Affiliate, "spring"),
            catalog_version(u64::MAX).to_vec(),
            catalog_chunk(u64::MAX, u32::MAX).to_vec(),
            rates_range().0.to_vec(),
        ];
        for other in others {
            assert!(other[..] < from[..] && owned_offer(&other).is_none(), "{other:?}");
        }
        assert_eq!(owned_offer(b"w\xFF"), None);
    }
}
