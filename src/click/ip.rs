//! How much of a visitor's address is kept.

use std::net::IpAddr;

use crate::store::records::StoredIp;

/// What is kept of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpMode {
    /// All of it.
    Full,
    /// The first 24 bits of IPv4, the first 48 of IPv6.
    Truncated,
    /// 64 bits of a BLAKE3 keyed with the store's own key.
    Hashed,
    /// Nothing.
    None,
}

/// Turns addresses into what is kept of them.
#[derive(Clone, Copy)]
pub struct Visitor {
    mode: IpMode,
    key: [u8; 32],
}

impl Visitor {
    /// `secret` is the store's; the key for hashing is derived from it.
    #[must_use]
    pub fn new(mode: IpMode, secret: &[u8; 32]) -> Self {
        Self { mode, key: blake3::derive_key("postbackd 2026 visitor address", secret) }
    }

    /// What is kept of `address`.
    #[must_use]
    pub fn keep(&self, address: IpAddr) -> StoredIp {
        match (self.mode, address) {
            (IpMode::None, _) => StoredIp::None,
            (IpMode::Full, IpAddr::V4(v4)) => StoredIp::V4(v4.octets()),
            (IpMode::Full, IpAddr::V6(v6)) => StoredIp::V6(v6.octets()),
            (IpMode::Truncated, IpAddr::V4(v4)) => {
                let [a, b, c, _] = v4.octets();
                StoredIp::V4([a, b, c, 0])
            }
            (IpMode::Truncated, IpAddr::V6(v6)) => {
                let mut octets = v6.octets();
                octets[6..].fill(0);
                StoredIp::V6(octets)
            }
            (IpMode::Hashed, IpAddr::V4(v4)) => self.hash(&v4.octets()),
            (IpMode::Hashed, IpAddr::V6(v6)) => self.hash(&v6.octets()),
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
        check(IpMode::Full, "203.0.113.9", StoredIp::V4([203, 0, 113, 9]));
        check(IpMode::Truncated, "203.0.113.9", StoredIp::V4([203, 0, 113, 0]));
        check(IpMode::None, "203.0.113.9", StoredIp::None);
        let cut = [0x20, 1, 0xd, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        check(IpMode::Truncated, "2001:db8:1:2::7", StoredIp::V6(cut));
    }

    #[test]
    fn a_hash_tells_addresses_apart_and_depends_on_the_secret() {
        let keep = |secret: u8, address: &str| {
            Visitor::new(IpMode::Hashed, &[secret; 32]).keep(address.parse().expect("an address"))
        };
        assert_eq!(keep(1, "203.0.113.9"), keep(1, "203.0.113.9"));
        assert_ne!(keep(1, "203.0.113.9"), keep(1, "203.0.113.8"));
        assert_ne!(keep(1, "203.0.113.9"), keep(2, "203.0.113.9"));
    }
}
