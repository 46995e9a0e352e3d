//! Keys of the audit log, in `meta`: by time, and told apart by who wrote them.

/// First byte of the keys; no name in `meta` begins with it.
const TAG: u8 = b'#';
/// Key of an entry: tag, time, start of the server, number within it.
pub const AUDIT_KEY_BYTES: usize = 1 + 8 + 4 + 4;

/// The place of an entry in the audit log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AuditKey {
    /// When, Unix milliseconds.
    pub time_ms: u64,
    /// The low 32 bits of how often the store was opened for serving.
    pub start: u32,
    /// Counts within a start.
    pub number: u32,
}

impl AuditKey {
    /// The key's bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; AUDIT_KEY_BYTES] {
        let mut key = [TAG; AUDIT_KEY_BYTES];
        key[1..9].copy_from_slice(&self.time_ms.to_be_bytes());
        key[9..13].copy_from_slice(&self.start.to_be_bytes());
        key[13..].copy_from_slice(&self.number.to_be_bytes());
        key
    }

    /// Reads a key.
    #[must_use]
    pub fn decode(key: &[u8]) -> Option<Self> {
        let key: &[u8; AUDIT_KEY_BYTES] = key.try_into().ok()?;
        let (time, rest) = key[1..].split_first_chunk()?;
        let (start, number) = rest.split_first_chunk()?;
        let number = u32::from_be_bytes(number.try_into().ok()?);
        let (time_ms, start) = (u64::from_be_bytes(*time), u32::from_be_bytes(*start));
        (key[0] == TAG).then_some(Self { time_ms, start, number })
    }
}

/// The first possible key of a millisecond.
#[must_use]
pub fn audit_from(time_ms: u64) -> [u8; AUDIT_KEY_BYTES] {
    AuditKey { time_ms, ..AuditKey::default() }.encode()
}

/// The range of all entries.
#[must_use]
pub const fn all_audit() -> ([u8; 1], [u8; 1]) {
    ([TAG], [TAG + 1])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::keys;

    #[test]
    fn entries_lie_by_time_apart_from_what_else_is_in_meta() {
        let (from, to) = all_audit();
        let key = |time_ms, start, number| AuditKey { time_ms, start, number };
        let sorted =
            [key(0, 0, 0), key(1, 9, 9), key(256, 1, 255), key(256, 1, 256), key(256, 2, 0)];
        assert!(sorted.map(|key| key.encode()).is_sorted());
        for key in sorted {
            let bytes = key.encode();
            assert_eq!(AuditKey::decode(&bytes), Some(key));
            assert!(bytes[..] >= from[..] && bytes[..] < to[..]);
            assert!(bytes >= audit_from(key.time_ms) && bytes < audit_from(key.time_ms + 1));
        }
        for name in [keys::META_FORMAT, keys::META_CLICK_KEY, keys::META_STARTS, keys::META_FILED] {
            assert!(name < &from[..] || name >= &to[..]);
        }
        assert_eq!(AuditKey::decode(b"expired_clicks_xy"), None);
    }
}
