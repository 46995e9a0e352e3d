//! Keys of rates whose conversions are still to be priced, in `meta`: by a number that each commit
//! of rates has for itself.

const PREFIX: &[u8; 8] = b"reprice_";

/// The key of what a commit of rates has left to be priced.
#[must_use]
pub fn to_price(commit: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(PREFIX);
    key[8..].copy_from_slice(&commit.to_be_bytes());
    key
}

/// The range of all keys of [`to_price`].
#[must_use]
pub const fn all_to_price() -> (&'static [u8], &'static [u8]) {
    (PREFIX, b"reprice`")
}

/// The commit in a key of [`to_price`].
#[must_use]
pub fn to_price_of(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.strip_prefix(PREFIX)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::keys::{META_RETENTION_TIME, erasures};

    #[test]
    fn a_commit_is_found_in_its_key_apart_from_what_else_is_in_meta() {
        let (from, to) = all_to_price();
        for commit in [0, 1, 256, u64::MAX] {
            let key = to_price(commit);
            assert!(&key[..] >= from && &key[..] < to);
            assert_eq!(to_price_of(&key), Some(commit));
        }
        assert!(to_price(255) < to_price(256));
        assert!(META_RETENTION_TIME >= to && erasures().1 < from);
        assert_eq!(to_price_of(b"reprice_"), None);
    }
}
