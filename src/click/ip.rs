//! How much of a visitor's address is kept.

use std::net::IpAddr;

use crate::model::ip::IpStorage;
use crate::store::records::StoredIp;

/// Turns addresses into what is kept of them.
#[derive(Clone, Copy)]
pub struct Visitor {
    mode: IpStorage,
    key: [u8; 32],
}

impl Visitor {
    /// `secret` is the store's; the key for hashing is derived from it.
    #[must_use]
    pub fn new(mode: IpStorage, secret: &[u8; 32]) -> Self {
        Self { mode, key: blake3::derive_key("postbackd 2026 visitor address", secret) }
    }

    /// What is kept of `address`.
    #[must_use]
    pub fn keep(&self, address: IpAddr) -> StoredIp {
        match (self.mode, address) {
            (IpStorage::None, _) => StoredIp::None,
            (IpStorage::Full, IpAddr::V4(v4)) => StoredIp::V4(v4.octets()),
            (IpStorage::Full, IpAddr::V6(v6)) => StoredIp::V6(v6.octets()),
            (IpStorage::Truncated, IpAddr::V4(v4)) => {
                let [a, b, c, _] = v4.octets();
                StoredIp::V4([a, b, c, 0])
            }
            (IpStorage::Truncated, IpAddr::V6(v6)) => {
                let mut octets = v6.octets();
                octets[6..].fill(0);
                StoredIp::V6(octets)
            }
            (IpStorage::Hashed, IpAddr::V4(v4)) => self.hash(&v4.octets()),
            (IpStorage::Hashed, IpAddr::V6(v6)) => self.hash(&v6.octets()),
        }
    }

    fn hash(&self, octets: &[u8]) -> StoredIp {
        let mut kept = [0; 8];
        kept.copy_from_slice(&blake3::keyed_hash(&self.key, octets).as_bytes()[..8]);
        StoredIp::Hashed(kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mode_keeps_what_it_says() {
        let check = |mode, address: &str, expected| {
            let address = address.parse().expect("an address");
            assert_eq!(Visitor::new(mode, &[1; 32]).keep(address), expected, "{mode:?} {address}");
        };
        check(IpStorage::Full, "203.0.113.9", StoredIp::V4([203, 0, 113, 9]));
        check(IpStorage::Truncated, "203.0.113.9", StoredIp::V4([203, 0, 113, 0]));
        check(IpStorage::None, "203.0.113.9", StoredIp::None);
        let cut = [0x20, 1, 0xd, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        check(IpStorage::Truncated, "2001:db8:1:2::7", StoredIp::V6(cut));
    }

    #[test]
    fn a_hash_tells_addresses_apart_and_depends_on_the_secret() {
        let keep = |secret: u8, address: &str| {
            Visitor::new(IpStorage::Hashed, &[secret; 32])
                .keep(address.parse().expect("an address"))
        };
        assert_eq!(keep(1, "203.0.113.9"), keep(1, "203.0.113.9"));
        assert_ne!(keep(1, "203.0.113.9"), keep(1, "203.0.113.8"));
        assert_ne!(keep(1, "203.0.113.9"), keep(2, "203.0.113.9"));
    }
}
